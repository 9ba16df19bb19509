"""The stages of a case whose reference is a set of recorded arrays: forward, loss, metric, backward and data."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn

from common.errors import CaseError, WeightsError

from ..adapter import selected, tensors_of
from ..case import Case
from ..mapping.patterns import rename
from ..mapping.units import IN_OUT
from ..paddle_side import pipeline
from ..paddle_side.port import Port, build, build_with, default_dtype
from ..paddle_side.recorder import last_line
from ..paddle_side.training import as_target
from ..paddle_side.units import entries_of
from ..rules import Arrays, Rules
from ..stages.unjudged import unjudged
from ..user_code import USER_ERRORS
from ..verdict import PASS, Check, StageResult
from ..weights import read_for_port
from .recorded_arrays import items_of, own_roundings, recorded_checks
from .reprod_log import UNNAMED, read_recorded

SINGLE, EXACT = "float32", "float64"
DROPOUTS = (nn.Dropout, nn.Dropout2D, nn.Dropout3D, nn.AlphaDropout)
GRADIENT_ENDINGS = (".grad", "@GRAD", "_grad")
LENGTH, LOSS = "length", "loss"
LAYER, OUTPUT = "layer", "output"  # words of the checks of a forward


class Forward(NamedTuple):
    """One forward of the port.

    Attributes:
        model: after it.
        inputs: tensors by the names of the arguments.
        output: what the model returned.
        arrays: {key: array} of its outputs.
        layers: {path: array} of the outputs of the layers that are recorded, in order of execution.
    """

    model: nn.Layer
    inputs: dict[str, paddle.Tensor]
    output: object
    arrays: Arrays
    layers: Arrays


class RecordedSession:
    """What the stages share: the port with the weights of the recording, and its forwards.

    Args:
        case: with the key `recorded`.
    """

    def __init__(self, case: Case):
        self.case, self.files = case, case.recorded
        self._forwards: dict[str, Forward] = {}

    def read(self, key: str) -> Arrays:
        """The arrays of the file under a key of `recorded`.

        Raises:
            CaseError: the case names no such file.
            WeightsError: the file cannot be read.
        """
        name = getattr(self.files, key)
        if not name:
            raise CaseError(f"the case {self.case.name}: recorded: the key '{key}' is missing, the file of this array")
        return read_recorded(self.case.folder / name)

    @cached_property
    def weights(self) -> Arrays:
        """The weights of the recording by the names of the port.

        Raises:
            CaseError: the case names no file of weights.
            WeightsError: the file does not fit the port.
        """
        if not self.files.weights:
            raise CaseError(
                f"the case {self.case.name}: recorded: the key 'weights' is missing: the file of the weights with "
                "which the arrays were recorded, of torch or of Paddle (or give it with --weights)"
            )
        path = self.case.folder / self.files.weights
        layout = "paddle" if path.suffix in (".pdparams", ".pd") else None
        return read_for_port(path, self._case_with_transposes, layout).arrays

    @cached_property
    def _case_with_transposes(self) -> Case:
        """The case with the names of all matrices that Paddle stores as [in, out], if it does not name them itself."""
        if self.case.transpose is not None:
            return self.case
        entries = [entry for found in entries_of(build(self.case)).values() for entry in found]
        return replace(self.case, transpose=tuple(entry.name for entry in entries if entry.axes == IN_OUT))

    @property
    def rules(self) -> Rules:
        """The rules from names and layouts of the reference to those of the port."""
        return self._case_with_transposes.rules("torch")

    def target(self, dtype: str) -> paddle.Tensor | None:
        """What loss and metric are given beside the output; None if the case names no file.

        Raises:
            WeightsError: the file has several arrays.
        """
        if not self.files.target:
            return None
        arrays = self.read("target")
        if len(arrays) != 1:
            raise WeightsError(f"{self.files.target} has the arrays {', '.join(arrays)}; a target is one array")
        return as_target(next(iter(arrays.values())), dtype)

    def forward(self, dtype: str, *, with_layers: tuple[str, ...] = ()) -> Forward:
        """One forward in evaluation mode, kept for other stages; with the outputs of some layers it is run again."""
        if dtype not in self._forwards or with_layers:
            with default_dtype(dtype), paddle.no_grad():
                self._forwards[dtype] = self.run(dtype, is_training=False, with_layers=with_layers)
        return self._forwards[dtype]

    def run(self, dtype: str, *, is_training: bool, with_layers: tuple[str, ...] = ()) -> Forward:
        """Build the port and run its forward on the recorded inputs.

        Args:
            dtype: "float32" or "float64".
            is_training: train mode.
            with_layers: paths of layers whose outputs are kept.

        Raises:
            CaseError: the forward does not take the inputs.
        """
        case = self.case
        model = build_with(Port.of_case(case), self.weights, "the recorded weights", dtype)
        paddle.seed(0)  # equal random numbers in both precisions
        model.train() if is_training else model.eval()
        inputs = {name: as_target(array, dtype) for name, array in self.read("inputs").items()}
        for tensor in inputs.values():
            tensor.stop_gradient = not tensor.is_floating_point()
        layers: Arrays = {}
        hooks = [_kept(layer, path, layers) for path, layer in model.named_sublayers() if path in with_layers]
        names = inspect.signature(model.forward).parameters
        try:
            output = model(**inputs) if all(name in names for name in inputs) else model(*inputs.values())
        except USER_ERRORS as error:
            shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in inputs.items())
            raise CaseError(f"the port cannot be run on the recorded inputs, {shapes}: {last_line(error)}") from error
        for hook in hooks:
            hook.remove()
        found = tensors_of(selected(output, case.output), paddle.is_tensor)
        arrays = {path or UNNAMED: tensor.numpy() for path, tensor in found}
        return Forward(model, inputs, output, arrays, layers)

    def recorded_layers(self) -> dict[str, str]:
        """{key of the recording of the forward: path of the layer of the port}."""
        paths = {path for path, _ in build(self.case).named_sublayers()}
        renamed = {key: rename(key, tuple(self.case.layers.items())) for key in self.read("forward")}
        return {key: path for key, path in renamed.items() if path in paths}

    def output(self, dtype: str) -> tuple[object, str]:
        """(what loss and metric are given, in words): the recorded output if there is one alone, else the port's."""
        if self.files.forward:
            layers = self.recorded_layers()
            outputs = [array for key, array in self.read("forward").items() if key not in layers]
            if len(outputs) == 1:
                return as_target(outputs[0], dtype), "of the recorded output"
        return self.forward(dtype).output, "of the port's output"

    def rounding(self) -> float:
        """The port's own rounding of its outputs, where these were computed."""
        if not {SINGLE, EXACT} <= self._forwards.keys():
            return 0.0
        return max(own_roundings(self._forwards[SINGLE].arrays, self._forwards[EXACT].arrays), default=0.0)

    def checks(self, what: str, single: Arrays, exact: Arrays, recorded: Arrays) -> list[Check]:
        """One check for each recorded array, as `recorded_arrays.recorded_checks` describes.

        Args:
            what: word of the stage.
            single: {key: array} of the port in float32.
            exact: the same in float64.
            recorded: {key: array} of the reference.
        """
        return recorded_checks(
            what, (single, exact), recorded, rounding=self.case.tolerances.rounding, tolerance=self.files.tolerance,
            own=self.rounding(), accepts_constants=what not in (LAYER, OUTPUT),
        )  # fmt: skip


def _kept(layer: nn.Layer, path: str, arrays: Arrays) -> object:
    """Keep the first tensor of the first output of a layer; returns the hook."""

    def keep(layer, inputs, output):
        found = tensors_of(output, paddle.is_tensor)
        if found and path not in arrays:
            arrays[path] = found[0][1].numpy()

    return layer.register_forward_post_hook(keep)


def forward(session: RecordedSession) -> StageResult:
    """Compare the recorded outputs of layers in their order, and then those of the model."""
    recorded, layers = session.read("forward"), session.recorded_layers()
    single, exact = (session.forward(dtype, with_layers=tuple(layers.values())) for dtype in (SINGLE, EXACT))
    of_layers = {path: recorded[key] for key, path in layers.items()}
    order = [*exact.layers, *(path for path in of_layers if path not in exact.layers)]
    checks = [
        replace(check, layer=path)
        for path in order
        for check in session.checks(
            LAYER, {p: a for p, a in single.layers.items() if p == path},
            {p: a for p, a in exact.layers.items() if p == path}, {path: of_layers[path]},
        )
    ]  # fmt: skip
    outputs = {key: array for key, array in recorded.items() if key not in layers}
    if outputs or not layers:
        checks += session.checks(OUTPUT, single.arrays, exact.arrays, outputs)
    return StageResult("forward", checks)


def loss(session: RecordedSession) -> StageResult:
    """Compare the value of the user's loss."""
    values = {}
    for dtype in (SINGLE, EXACT):
        output, words = session.output(dtype)
        with default_dtype(dtype):
            value = pipeline.user_loss(session.case)(output, session.target(dtype))
        values[dtype] = {LOSS: value.numpy()}
    return StageResult("loss", _said(session.checks("loss", *values.values(), session.read("loss")), words))


def metric(session: RecordedSession) -> StageResult:
    """Compare the values of the user's metric for one batch."""
    output, words = session.output(SINGLE)
    values = pipeline.metric(session.case, [(output, session.target(SINGLE))])
    values = {key.rpartition("batch 0.")[2].rpartition("all batches.")[2]: array for key, array in values.items()}
    checks = session.checks("metric", values, values, session.read("metric"))
    return StageResult("metric", _said(checks, words))


def backward(session: RecordedSession) -> StageResult:
    """Compare the loss, and the gradients of the inputs and of the parameters."""
    recorded, found = session.read("backward"), {}
    for dtype in (SINGLE, EXACT):
        with default_dtype(dtype):
            done = session.run(dtype, is_training=session.files.train_mode)
            value = pipeline.user_loss(session.case)(done.output, session.target(dtype))
            value.backward()
        arrays = {LOSS: value.numpy()}
        tensors = dict(done.model.named_parameters()) | done.inputs
        found[dtype] = arrays | {name: t.grad.numpy() for name, t in tensors.items() if t.grad is not None}
    layout = _gradients_of_port(session, recorded)
    checks = session.checks("backward", found[SINGLE], found[EXACT], layout)
    if session.files.train_mode and (drawn := _dropouts(done.model)):
        checks = unjudged(checks, f"the recording has other masks of the dropout {drawn[0]}: record in evaluation mode")
    return StageResult("backward", checks)


def _gradients_of_port(session: RecordedSession, recorded: Arrays) -> Arrays:
    """The recorded gradients with the names and layouts of the port."""
    plain = {_without_ending(key): array for key, array in recorded.items()}
    others = {key: array for key, array in plain.items() if key == LOSS}
    own = session.rules.to_port({key: array for key, array in plain.items() if key not in others})
    return others | own


def _without_ending(key: str) -> str:
    return next((key.removesuffix(ending) for ending in GRADIENT_ENDINGS if key.endswith(ending)), key)


def _dropouts(model: nn.Layer) -> list[str]:
    """Paths of dropouts that draw in train mode."""
    return [path for path, layer in model.named_sublayers() if isinstance(layer, DROPOUTS) and layer.p]


def data(session: RecordedSession) -> StageResult:
    """Compare items of the port's data set, and batches of its loader for keys that begin with `loader` or `batch`."""
    case, recorded = session.case, session.read("data")
    items = items_of(recorded)
    batches = {key: place for key, place in items.items() if key.lower().startswith(("loader", "dataloader", "batch"))}
    found: Arrays = {}
    for key in ("dataset", "loader"):
        places = {name: place for name, place in items.items() if (name in batches) == (key == "loader")}
        if not places and not (key == "dataset" and LENGTH in recorded):
            continue
        take = pipeline.items if key == "dataset" else pipeline.batches
        numbers = sorted({number for number, _ in places.values()})
        arrays = take(case, numbers if key == "dataset" else max(numbers) + 1, case.seed)
        if LENGTH in recorded and key == "dataset":
            found[LENGTH] = arrays[LENGTH]
        for name, (number, path) in places.items():
            array = _item(arrays, number, path)
            found |= {} if array is None else {name: array}
    return StageResult("data", session.checks("data", found, found, recorded))


def _item(arrays: Arrays, number: int, path: str) -> np.ndarray | None:
    """The array of an item at a path, by default its first."""
    if path:
        return arrays.get(f"{number}.{path}")
    keys = [key for key in arrays if key == str(number) or key.startswith(f"{number}.")]
    return arrays[keys[0]] if keys else None


def _said(checks: list[Check], words: str) -> list[Check]:
    """The checks that pass with these words about what was compared."""
    return [replace(check, detail=f"{words}; {check.detail}".rstrip("; ")) if check.status == PASS else check
            for check in checks]  # fmt: skip


# {stage: what compares it}; the keys are those of `recorded`.
STAGES: dict[str, Callable[[RecordedSession], StageResult]] = {
    "forward": forward,
    "data": data,
    "metric": metric,
    "loss": loss,
    "backward": backward,
}
