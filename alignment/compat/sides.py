"""The two models of `auto_diff` with their losses and optimizers, in the forms in which the caller gives them."""

import copy
import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import paddle
from paddle import nn

from common.errors import CaseError

from ..case import Case, Training, absolute_spec
from ..exchange import TrainSettings
from ..paddle_side.port import Port, state_arrays
from ..pipeline.functions import call_loss, made
from ..reference import Reference
from ..stages.train import WIDTH
from .given import Batch, GivenSession
from .paddle_reference import PaddleReference

RATE = 2**-6  # of the optimizer of this tool


class Sides:
    """The two models with their losses and optimizers, as the caller gives them."""

    def __init__(self, port: object, reference: object, **parts: tuple | None):
        """The models, and the pairs of `losses`, `optimizers` and `steps`."""
        self._port, self._reference = port, reference
        self._parts = {"losses": None, "optimizers": None, "steps": None} | parts
        is_class = inspect.isclass(reference) and issubclass(reference, nn.Layer)
        self.is_paddle = is_class or isinstance(reference, nn.Layer)

    def case(self, batch: Batch, **keys: object) -> Case:
        """The case of the comparison; `keys` are attributes of Case."""
        adapter, reference = batch.reference.adapter(), "" if self.is_paddle else spec_of("reference", self._reference)
        shape = adapter.packed_shape()
        train = Training(shape=shape, curve_side=0)
        return Case("auto_diff", Path.cwd(), "", reference, shape=shape, train=train, adapter=adapter,
                    transpose=() if self.is_paddle else None, is_trusted=True, **keys)  # fmt: skip

    def process(self, given: Reference | None = None) -> AbstractContextManager:
        """What answers the questions to the reference: the given process, or a new one."""
        if self.is_paddle:
            return PaddleReference(port_of(self._reference, 1, **self._parts))
        return nullcontext(given) if given else Reference()

    def session(
        self, case: Case, process: object, batch: Batch, *, auto_init: bool, weights: str | Path | None
    ) -> GivenSession:
        """The session of the two models.

        Args:
            case: from `case`.
            process: from `process`.
            batch: the first.
            auto_init: whether both sides get random weights, which then are drawn.
            weights: file for both sides.
        """
        own, given = None, None
        if weights is not None:
            given = Path(weights)
        elif not auto_init:
            model = self._port if isinstance(self._port, nn.Layer) else self._port()
            own = state_arrays(model), process.ask_arrays("fresh_state", reference=case.reference_spec, seed=0)[1]
        port = port_of(self._port, 0, **self._parts)
        names = list(batch.port.inputs)
        if names != list(batch.reference.inputs):
            port = replace(port, build=_with_names(port.build, names))
        return GivenSession(batch, own, case, process, port, given)

    def loss_spec(self) -> dict:
        """The loss of the reference, see TraceSettings."""
        losses = self._parts["losses"]
        if losses is None or self.is_paddle:
            return {"name": "projection"}
        return {"name": "user", "callable": spec_of("loss_fn", losses[1])}

    def train_settings(self, session: GivenSession, num: int) -> TrainSettings:
        """Settings of a training of `num` steps."""
        rates, optimizer = [RATE] * num, {"name": "momentum", "weight_decay": 2**-13, "momentum": 0.875}
        if optimizers := self._parts["optimizers"]:
            spec = "" if self.is_paddle else spec_of("optimizer", optimizers[1])
            rates, optimizer = [], {"name": "user", "callable": spec}
        step = None
        if steps := self._parts["steps"]:
            step = {"callable": "" if self.is_paddle else spec_of("step", steps[1])}
        rules, seed = session.rules.as_message(), session.case.seed
        return TrainSettings("float64", rates, optimizer, self.loss_spec(), seed, rules, WIDTH, None, step)


def port_of(model: object, side: int, losses: tuple | None, optimizers: tuple | None, steps: tuple | None) -> Port:
    """The parts of a Paddle model.

    Args:
        model: the model, or what makes it.
        side: its place in the pairs.
        losses: pair of losses.
        optimizers: pair of functions of the model.
        steps: pair of training steps.

    Raises:
        CaseError: an optimizer is no function.
    """
    parts = {"loss": lambda smoothing: projection}
    if losses is not None:
        loss = made(losses[side])
        parts["loss"] = lambda smoothing: lambda output, target: call_loss(loss, output, target)
    if optimizers is not None:
        make = optimizers[side]
        if not callable(make) or isinstance(make, paddle.optimizer.Optimizer):
            raise CaseError("optimizer: give a function of the model, lambda model: SGD(parameters=model.parameters())")
        parts["user_optimizer"] = lambda model, schedule: make(model)
    if steps is not None:
        parts["step"] = steps[side]
    build = (lambda: copy.deepcopy(model)) if isinstance(model, nn.Layer) else model
    return Port(build, **parts)


def projection(output: paddle.Tensor, labels: object) -> paddle.Tensor:
    """A loss of any output, on which every number of it has another influence; the labels are not used."""
    weights = paddle.cos(paddle.arange(output.size, dtype=output.dtype)).reshape(output.shape)
    return (output * weights).sum()


def _with_names(build: Callable[[], nn.Layer], names: list[str]) -> Callable[[], nn.Layer]:
    """Makes a model whose forward takes its arguments in the order of `names`."""

    def make() -> nn.Layer:
        model = build()
        forward = model.forward
        if all(names):
            model.forward = lambda *values: forward(**dict(zip(names, values, strict=True)))
        return model

    return make


def pair_of(name: str, value: object) -> tuple | None:
    """The pair (port, reference) of an argument, or None.

    Raises:
        CaseError: it is no pair.
    """
    if value is None:
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise CaseError(f"{name}: give both sides, ({name} of the port, {name} of the reference)")
    return tuple(value)


def spec_of(name: str, value: object) -> str:
    """`path/file.py:name` of something of torch, from a text or from a function or class at the top level of a file.

    Raises:
        CaseError: it has no such name, as a lambda or a model that is made already.
    """
    if isinstance(value, str):
        return absolute_spec(value, Path.cwd())
    qualified = getattr(value, "__qualname__", "")
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    path = getattr(module, "__file__", None)
    if not path or "." in qualified or qualified != getattr(value, "__name__", None) or not hasattr(module, qualified):
        kind = qualified or f"an object of {type(value).__name__}"
        raise CaseError(
            f"{name}: {kind} cannot be given to the process of torch; give `path/file.py:name` or a function or class "
            "at the top level of a file, which makes it there"
        )
    return f"{Path(path).resolve()}:{qualified}"
