"""One case during a run: the port, the reference, and the weights and inputs that all stages share."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from paddle import nn

from common.errors import CaseError, WeightsError

from .adapter import adapt
from .case import Case
from .exchange import TraceSettings, TrainSettings
from .layers.operations import Operation
from .mapping.resolve import with_adapter, with_rules
from .mapping.sequence import Mapping
from .paddle_side.pipeline import load, port_of_case
from .paddle_side.port import FRAMEWORK, Port, PortState
from .paddle_side.tables import set_tables, tables_of
from .paddle_side.tracing import trace_of_port
from .pipeline.functions import made, num_positional
from .pipeline.parts import DEFAULT_TARGET
from .random_arrays import generator, images_of
from .reference import File, Reference
from .rules import Arrays, Rules, unaccounted
from .stages.unjudged import draw_reason
from .trace import Trace
from .trace_request import TraceRequest

# Images of the size of the stage forward that set the statistics of the batch norms. With statistics of smaller images
# the activations of MobileNetV3 grew to 860 at the logits, and with them the rounding errors of float32.
CALIBRATION_BATCH = 4
LEAST_ROUNDING = 2.0**-22  # relative; four roundings of float32, where the reference's own error happens to be smaller


class Session:
    """Lazily computes what the stages share.

    Args:
        case: the pair of models.
        reference: the process of the reference.
        port: the parts of the port; by default those of the case.
        weights: {name in the reference: array}, or a file of them; by default random weights.
        image_folder: JPEG files for the stage data; by default generated images.
    """

    def __init__(
        self,
        case: Case,
        reference: Reference,
        port: Port | None = None,
        weights: Arrays | Path | None = None,
        image_folder: Path | None = None,
    ):
        self.given_case, self.reference, self._given_port = case, reference, port
        self.image_folder = image_folder
        self.unpaired_draws = ""
        self._given_weights = weights

    @cached_property
    def _resolved(self) -> tuple[Case, Mapping | None, dict]:
        """The case with its inputs and outputs and with rules for all weights, how these were found, the inventory."""
        case = with_adapter(self.given_case, self.reference)
        port = self._port_of(case)
        return with_rules(case, self.reference, port.build, self._images(case, case.shape), self._draw)

    @property
    def case(self) -> Case:
        """The pair of models, with everything that the YAML file may leave out."""
        return self._resolved[0]

    @property
    def mapping(self) -> Mapping | None:
        """The pairs of weights that were found; None if the rules of the case account for all weights."""
        return self._resolved[1]

    @cached_property
    def rules(self) -> Rules:
        """The rules for the weights of the reference."""
        return self.case.rules("torch")

    @cached_property
    def port(self) -> Port:
        """The parts of the port; its models have the reference's tables that are in no state."""
        port = self._port_of(self.case)
        return replace(port, build=lambda: self._with_tables(port.build()))

    def _with_tables(self, model: nn.Layer) -> nn.Layer:
        if any(True for _ in tables_of(model)):
            set_tables(model, self._tables.values())
        return model

    @cached_property
    def _tables(self) -> Arrays:
        return self.reference.ask_arrays("tables", reference=self.case.reference_spec)[1]

    @cached_property
    def parts(self) -> Port:
        """The parts of the port, for stages that do not run the model: nothing is asked of the reference."""
        return self._given_port or port_of_case(self.given_case)

    def _port_of(self, case: Case) -> Port:
        if self._given_port is None:
            return port_of_case(case)
        make = self._given_port.build
        return replace(self._given_port, build=lambda: adapt(make(), case.adapter, FRAMEWORK))

    @property
    def inventory(self) -> dict:
        """State entries and classes of the reference."""
        return self._resolved[2]

    @cached_property
    def _state_of_port(self) -> PortState:
        return PortState.of_model(self.port.build(), self.case.keep)

    @property
    def port_shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of the state of the port."""
        return {name: array.shape for name, array in self._state_of_port.arrays.items()}

    @property
    def port_integers(self) -> list[str]:
        """Names of the entries of the port that hold whole numbers."""
        return [name for name, array in self._state_of_port.arrays.items() if array.dtype.kind != "f"]

    @property
    def port_trained(self) -> dict[str, int]:
        """{name: number of elements} of the parameters of the port that are trained."""
        return self._state_of_port.trained

    @cached_property
    def reference_weights(self) -> Arrays:
        """The weights of the run, {name in the reference: array}.

        Raises:
            CheckpointError, WeightsError: as `weights.read_for_port`.
        """
        case, given = self.case, self._given_weights
        if isinstance(given, Path) and self._named_weights is None:
            from .weights import read_for_reference

            return read_for_reference(given, case, self.port_shapes)
        return self._draw(case)

    @cached_property
    def _named_weights(self) -> Arrays | None:
        """The given weights. Of a file that has other names than the reference none: the rules must be found first."""
        if not isinstance(self._given_weights, Path):
            return self._given_weights
        from .weights import read_with_names

        entries = self.reference.ask("inventory", reference=self.given_case.reference_spec)["entries"]
        return read_with_names(self._given_weights, entries, "torch" if self.given_case.reference else "paddle")

    def _draw(self, case: Case) -> Arrays:
        """The given weights, or random ones, {name in the reference: array}."""
        if self._named_weights is not None:
            return self._named_weights
        checked, shape = self._images(case, case.shape), case.shape[1:]
        others = self._images(case, (max(CALIBRATION_BATCH - len(checked), 0), *shape), "calibration")
        images = self.reference.put({"images": np.concatenate([checked, others])})
        spec, seed = case.reference_spec, case.seed
        _, arrays = self.reference.ask_arrays(
            "initialise", reference=spec, seed=seed, images=images, num_checked=len(checked)
        )
        self.reference.forget(images)
        return arrays

    @cached_property
    def weights_file(self) -> File:
        """File of the weights for questions to the reference."""
        self.port_weights  # noqa: B018 (asks the reference; a later question would skip an answer that is awaited)
        return self.reference.put(self.reference_weights)

    @cached_property
    def port_weights(self) -> Arrays:
        """The weights of the run, {name in the port: array}.

        Raises:
            WeightsError: the rules of the case do not account for every entry of both sides.
        """
        arrays = self.converted(self.reference_weights)
        if problems := unaccounted(arrays, self.port_shapes, self.port_integers):
            raise WeightsError(f"the rules of {self.case.name} do not fit the port:\n" + "\n".join(problems[:10]))
        return arrays

    def converted(self, weights: Arrays) -> Arrays:
        """Weights of the reference with the names and layouts of the port.

        Tensors with several names in one of the models are completed or left out, and entries of the key `keep` have
        the values of the port.
        """
        return self._state_of_port.completed(self.rules.to_port(weights), self.case.keep, self.inventory["shared"])

    def images(self, shape: tuple[int, ...], purpose: str = "images") -> np.ndarray:
        """Random float32 images of `shape`, a function of the seed and of `purpose`; both precisions get the same."""
        return self._images(self.case, shape, purpose)

    def _images(self, case: Case, shape: tuple[int, ...], purpose: str = "images") -> np.ndarray:
        return images_of(case, shape, purpose)

    def labels(self, shape: tuple[int, ...], num_classes: int, purpose: str = "labels") -> np.ndarray:
        """Random labels, a function of the seed and of `purpose`: `shape` int64."""
        return generator(self.case.seed, purpose).integers(0, num_classes, shape)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output of the reference."""
        return tuple(self._output["shape"])

    @cached_property
    def _output(self) -> dict:
        return self.reference.ask("logits_shape", reference=self.case.reference_spec, shape=list(self.case.shape))

    @cached_property
    def train_output_shape(self) -> tuple[int, ...]:
        """Shape of the output of the reference in a training, which may have other inputs and more outputs."""
        case = self.case
        has_orders = case.adapter is not None and len({tuple(paths) for paths in case.adapter.orders}) > 1
        if not has_orders and case.train.shape[1:] == case.shape[1:]:
            return self.output_shape
        spec, shape = case.reference_spec, list(case.train.shape)
        return tuple(self.reference.ask("logits_shape", reference=spec, shape=shape, is_training=True)["shape"])

    @property
    def output_type(self) -> str:
        """Type of the output of the reference: float32, int64, ..."""
        return self._output["type"]

    @property
    def has_batch(self) -> bool:
        """Whether all tensors of the output have the batch as their first axis."""
        return not self._output["is_packed"] or len(self.output_shape) > 1

    @property
    def num_classes(self) -> int:
        """Number of logits of the reference."""
        return self.output_shape[-1]

    def targets(self, num: int, purpose: str = "labels", key: str = "loss", *, is_training: bool = False) -> np.ndarray:
        """What loss and metric compare `num` outputs with, as the key `target` of the case says: [num, ...].

        By default labels for an output [B, C], and else numbers in the shape of the output.

        Args:
            num: number of outputs.
            purpose: of the random numbers.
            key: loss or metric, for which the target is.
            is_training: whether the output is that of train mode.

        Raises:
            CaseError: the output has several tensors, and the case has no `target` for the function of the user.
        """
        if self._output["is_packed"] and self.case.target == DEFAULT_TARGET and self._takes_target(key):
            raise CaseError(
                f"{self.case.name}: the reference returns several tensors, so the target of your {key} is not known: "
                "add `target: {classes: 10}` with the number of classes, or `target: {shape: [4, 3], range: [0, 1]}`"
            )
        target, is_labels = self.case.target, self.has_labels
        shape = self.train_output_shape if is_training else self.output_shape
        rest = target.shape[1:] or (shape[2:] if is_labels else shape[1:])
        if is_labels:
            return self.labels((num, *rest), target.classes or shape[1], purpose)
        return generator(self.case.seed, purpose).uniform(*target.range, (num, *rest)).astype(np.float32)

    def _takes_target(self, key: str) -> bool:
        """Whether the case names a function of the user under this key, and it takes more than the output."""
        return getattr(self.case, key).is_given and (key == "metric" or num_positional(made(load(self.case, key))) > 1)

    @property
    def has_labels(self) -> bool:
        """Whether the output is logits [B, C] of classes, or the case says that the target is labels."""
        target, shape = self.case.target, self.output_shape
        is_logits = len(shape) == 2 and shape[1] > 1 and not self._output["is_packed"]
        return bool(target.classes or (not target.shape and is_logits))

    def loss_spec(self, smoothing: float) -> dict:
        """The loss of a question to the reference: that of the user, cross entropy, or else the mean of squares."""
        if self.case.loss.is_given:
            return {"name": "user"} | self.case.function_spec("loss", "reference")
        return {"name": "cross_entropy", "smoothing": smoothing} if self.has_labels else {"name": "squares"}

    def train_settings(self, dtype: str, rates: list[float], width: int) -> TrainSettings:
        """Settings of a training of the case.

        Args:
            dtype: "float32" or "float64".
            rates: learning rate of each step, [N].
            width: of the sketches, see TrainSettings.
        """
        case, train = self.case, self.case.train
        loss, seed, rules = self.loss_spec(train.smoothing), case.seed, self.rules.as_message()
        step = case.function_spec("step", "reference") if case.step.is_given else None
        if case.optimizer.is_given:
            optimizer = {"name": "user"} | case.function_spec("optimizer", "reference")
            schedule = case.function_spec("schedule", "reference") if case.schedule.is_given else None
            return TrainSettings(dtype, [], optimizer, loss, seed, rules, width, schedule, step)
        optimizer = {"name": train.optimizer, "weight_decay": train.weight_decay}
        optimizer |= {"momentum": train.momentum} if train.optimizer == "momentum" else {}
        return TrainSettings(dtype, rates, optimizer, loss, seed, rules, width, None, step)

    def begin_training(self, inputs: File, settings: TrainSettings, weights: File) -> Callable[[], tuple[dict, Arrays]]:
        """Start a training of the reference; the returned function waits for (answer, records).

        Args:
            inputs: file of `images` [N, B, ...] and `labels` [N, B, ...].
            settings: of the training.
            weights: file of the weights at the start.
        """
        return self.reference.begin(
            "train_steps", reference=self.case.reference_spec, weights=weights, inputs=inputs, **asdict(settings)
        )

    def allowed_rounding(self, own: float) -> float:
        """Largest relative distance in float32 that passes where the reference's own rounding is `own`."""
        tolerances = self.case.tolerances
        return max(tolerances.rounding * own, tolerances.float32, LEAST_ROUNDING)

    def evaluation_request(self, images: np.ndarray, dtype: str = "float64") -> TraceRequest:
        """One forward in evaluation mode; dtype is "float32" or "float64"."""
        settings = TraceSettings(dtype, False, None, self.case.seed, self.rules.as_message())
        return TraceRequest(images, np.zeros(len(images), np.int64), settings)

    def training_request(self, images: np.ndarray, labels: np.ndarray, smoothing: float) -> TraceRequest:
        """One forward and backward in train mode and float64."""
        loss, rules = self.loss_spec(smoothing), self.rules.as_message()
        settings = TraceSettings("float64", True, loss, self.case.seed, rules)
        return TraceRequest(images, labels, settings)

    def evaluation_traces(self, images: np.ndarray, dtype: str) -> tuple[Trace, Trace]:
        """(port, reference): traces of one forward in evaluation mode; dtype is "float32" or "float64"."""
        return self.traces(self.evaluation_request(images, dtype))

    def traces(self, request: TraceRequest) -> tuple[Trace, Trace]:
        """(port, reference): the traces of a request; both processes compute at the same time."""
        finish = self.reference_trace(request)
        port, reference = self.port_trace(request), finish()
        self.unpaired_draws = self.unpaired_draws or draw_reason(port, reference)
        return port, reference

    def reference_trace(self, request: TraceRequest) -> Callable[[], Trace]:
        """Ask for a trace of the reference; the returned function waits for it."""
        inputs = self.reference.put({"images": request.images, "labels": request.labels})
        weights = self.weights_file if request.weights is None else self.reference.put(request.weights)
        finish = self.reference.begin(
            "record_trace", reference=self.case.reference_spec, weights=weights, inputs=inputs,
            **asdict(request.settings),
        )  # fmt: skip

        def wait() -> Trace:
            try:
                return Trace.of_message(*finish())
            finally:
                for file in (inputs, *([weights] if request.weights is not None else [])):
                    self.reference.forget(file)

        return wait

    def operations_between(
        self, request: TraceRequest, port: tuple[int, int], reference: tuple[int, int]
    ) -> tuple[list[Operation], list[Operation]]:
        """(port, reference): the operations of one forward between two layers.

        Args:
            request: without a loss.
            port: numbers of the two nodes in the trace of the port.
            reference: the same in that of the reference.
        """
        from .paddle_side.operation_log import OperationLog

        logs, settings = [], request.settings
        inputs = self.reference.put({"images": request.images})
        weights = self.weights_file if request.weights is None else self.reference.put(request.weights)
        answer = self.reference.ask(
            "operations_between", reference=self.case.reference_spec, weights=weights, inputs=inputs,
            dtype=settings.dtype, is_training=settings.is_training, seed=settings.seed, window=list(reference),
        )  # fmt: skip
        self.reference.forget(inputs)
        if request.weights is not None:
            self.reference.forget(weights)

        def watch(trace: Trace) -> OperationLog:
            logs.append(OperationLog(trace, port))
            return logs[0]

        self.port_trace(request, watch)
        return logs[0].operations, [Operation.of_message(values) for values in answer["operations"]]

    def port_trace(self, request: TraceRequest, watch: Callable = nullcontext) -> Trace:
        """The trace of the port; `watch` makes a context of it, in which the forward is run."""
        arrays = self.port_weights if request.weights is None else self.converted(request.weights)
        return trace_of_port(self.port, arrays, request, self.case.name, watch)
