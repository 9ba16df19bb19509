"""One case during a run: the port, the reference, and the weights and inputs that all stages share."""

import hashlib
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np

from common.errors import WeightsError

from .case import Case
from .exchange import DropoutMasks, TraceSettings
from .paddle_side.port import Port, default_dtype, set_state, state_shapes
from .paddle_side.recorder import record_trace
from .reference import File, Reference
from .rules import Arrays, unaccounted
from .trace import Trace

# Images of the size of the stage forward that set the statistics of the batch norms. With statistics of smaller images
# the activations of MobileNetV3 grew to 860 at the logits, and with them the rounding errors of float32.
CALIBRATION_BATCH = 4


class Session:
    """Lazily computes what the stages share.

    Args:
        case: the pair of models.
        reference: the process of the reference.
        port: the parts of the port; by default those of the case.
        weights: {name in the reference: array}; by default random weights.
        image_folder: JPEG files for the stage data; by default generated images.
    """

    def __init__(
        self,
        case: Case,
        reference: Reference,
        port: Port | None = None,
        weights: Arrays | None = None,
        image_folder: Path | None = None,
    ):
        self.case, self.reference, self.port = case, reference, port or Port.of_case(case)
        self.image_folder = image_folder
        self.rules = case.rules("torch")
        self._given_weights = weights

    @cached_property
    def inventory(self) -> dict:
        """State entries and classes of the reference."""
        return self.reference.ask("inventory", reference=self.case.reference_spec)

    @cached_property
    def port_shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of the state of the port."""
        return state_shapes(self.port.build())

    @cached_property
    def reference_weights(self) -> Arrays:
        """The weights of the run, {name in the reference: array}."""
        if self._given_weights is not None:
            return self._given_weights
        checked, shape = self.images(self.case.shape), self.case.shape[1:]
        others = self.images((max(CALIBRATION_BATCH - len(checked), 0), *shape), "calibration")
        images = self.reference.put({"images": np.concatenate([checked, others])})
        spec, seed = self.case.reference_spec, self.case.seed
        _, arrays = self.reference.ask_arrays(
            "initialise", reference=spec, seed=seed, images=images, num_checked=len(checked)
        )
        return arrays

    @cached_property
    def weights_file(self) -> File:
        """File of the weights for questions to the reference."""
        return self.reference.put(self.reference_weights)

    @cached_property
    def port_weights(self) -> Arrays:
        """The weights of the run, {name in the port: array}.

        Raises:
            WeightsError: the rules of the case do not account for every entry of both sides.
        """
        arrays = self.rules.to_port(self.reference_weights)
        if problems := unaccounted(arrays, self.port_shapes):
            raise WeightsError(f"the rules of {self.case.name} do not fit the port:\n" + "\n".join(problems[:10]))
        return arrays

    @cached_property
    def axes(self) -> dict[str, list[int]]:
        """{name in the reference: order of axes} of gradients that the reference transposes before it sends them."""
        names = [entry["name"] for entry in self.inventory["entries"]]
        axes = {name: self.rules.axes(self.rules.port_name(name)) for name in names}
        return {name: order for name, order in axes.items() if order}

    def images(self, shape: tuple[int, ...], purpose: str = "images") -> np.ndarray:
        """Random float32 images of `shape`, a function of the seed and of `purpose`; both precisions get the same."""
        low, high = self.case.input_range
        return self._rng(purpose).uniform(low, high, shape).astype(np.float32)

    def labels(self, shape: tuple[int, ...], num_classes: int, purpose: str = "labels") -> np.ndarray:
        """Random labels, a function of the seed and of `purpose`: `shape` int64."""
        return self._rng(purpose).integers(0, num_classes, shape)

    def _rng(self, purpose: str) -> np.random.Generator:
        number = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
        return np.random.default_rng([self.case.seed, number])

    @cached_property
    def num_classes(self) -> int:
        """Number of logits of the reference."""
        answer = self.reference.ask("logits_shape", reference=self.case.reference_spec, shape=list(self.case.shape))
        return answer["shape"][-1]

    def evaluation_traces(self, images: np.ndarray, dtype: str) -> tuple[Trace, Trace]:
        """(port, reference): traces of one forward in evaluation mode; dtype is "float32" or "float64"."""
        return self._traces(images, np.zeros(len(images), np.int64), dtype, loss=None, is_training=False)

    def training_traces(self, images: np.ndarray, labels: np.ndarray, smoothing: float) -> tuple[Trace, Trace]:
        """(port, reference): traces of one forward and backward in train mode and float64."""
        return self._traces(images, labels, "float64", loss=cross_entropy_spec(smoothing), is_training=True)

    def _traces(
        self, images: np.ndarray, labels: np.ndarray, dtype: str, *, loss: dict | None, is_training: bool
    ) -> tuple[Trace, Trace]:
        inputs = self.reference.put({"images": images, "labels": labels})
        settings = TraceSettings(dtype, is_training, loss, self.case.seed, self.axes)
        finish = self.reference.begin(
            "record_trace", reference=self.case.reference_spec, weights=self.weights_file, inputs=inputs,
            **asdict(settings),
        )  # fmt: skip
        port = self._port_trace(images, labels, settings)
        return port, Trace.of_message(*finish())

    def _port_trace(self, images: np.ndarray, labels: np.ndarray, settings: TraceSettings) -> Trace:
        import paddle

        with default_dtype(settings.dtype):
            model = set_state(self.port.build(), self.port_weights, self.case.name, settings.dtype)
            loss_of = None
            if settings.loss is not None:
                loss, targets = self.port.loss(settings.loss["smoothing"]), paddle.to_tensor(labels)

                def loss_of(logits):
                    return loss(logits, targets)

            images, masks = images.astype(settings.dtype), DropoutMasks(settings.seed)
            return record_trace(model, images, loss_of, masks, is_training=settings.is_training)


def cross_entropy_spec(smoothing: float) -> dict:
    """The loss of a question to the reference: cross entropy with this label smoothing."""
    return {"name": "cross_entropy", "smoothing": smoothing}
