"""One case under way: the port, the reference, and the weights and inputs that all stages share."""

import hashlib
from functools import cached_property

import numpy as np

from common.errors import WeightsError

from .case import Case
from .exchange import DropoutMasks
from .port import Port, default_dtype, set_state
from .port_trace import Trace, record_trace
from .reference import File, Reference
from .rules import Arrays, unaccounted

# Images of the forward stage's size that batch norms see first. With statistics of smaller images the activations of
# MobileNetV3 grew to 860 at the logits, and float32's rounding with them.
CALIBRATION_BATCH = 4


class Session:
    """`weights` are the reference's own arrays, for example of a published file; without, random ones are drawn."""

    def __init__(self, case: Case, reference: Reference, port: Port | None = None, weights: Arrays | None = None):
        self.case, self.reference, self.port = case, reference, port or Port.of(case)
        self.rules = case.rules("torch")
        self._given_weights = weights

    @cached_property
    def inventory(self) -> dict:
        """Entries and classes of the reference."""
        return self.reference.ask("inventory", reference=self.case.reference_spec)

    @cached_property
    def port_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self.port.build().state_dict().items()}

    @cached_property
    def their_weights(self) -> Arrays:
        if self._given_weights is not None:
            return self._given_weights
        checked, shape = self.images(self.case.shape), self.case.shape[1:]
        others = self.images((max(CALIBRATION_BATCH - len(checked), 0), *shape), "calibration")
        images = self.reference.put({"images": np.concatenate([checked, others])})
        spec, seed = self.case.reference_spec, self.case.seed
        return self.reference.ask_arrays(
            "initialise", reference=spec, seed=seed, images=images, num_checked=len(checked)
        )[1]

    @cached_property
    def weights_file(self) -> File:
        return self.reference.put(self.their_weights)

    @cached_property
    def weights(self) -> Arrays:
        """The same weights as the port should have them; WeightsError where the rules do not account for all."""
        arrays = self.rules.to_port(self.their_weights)
        if problems := unaccounted(arrays, self.port_shapes):
            raise WeightsError(f"the rules of {self.case.name} do not fit the port:\n" + "\n".join(problems[:10]))
        return arrays

    @cached_property
    def axes(self) -> dict[str, list[int]]:
        """What the reference must turn before it sends a gradient in the port's layout, by its own names."""
        turned = {}
        for entry in self.inventory["entries"]:
            if axes := self.rules.axes(self.rules.name_for_port(entry["name"])):
                turned[entry["name"]] = axes
        return turned

    def images(self, shape: tuple[int, ...], purpose: str = "images") -> np.ndarray:
        """Random images, a function of seed and purpose; float32 numbers, so that both precisions see the same ones."""
        low, high = self.case.input_range
        return self._rng(purpose).uniform(low, high, shape).astype(np.float32)

    def labels(self, shape: tuple[int, ...], num_classes: int, purpose: str = "labels") -> np.ndarray:
        return self._rng(purpose).integers(0, num_classes, shape)

    def _rng(self, purpose: str) -> np.random.Generator:
        number = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
        return np.random.default_rng([self.case.seed, number])

    @cached_property
    def num_classes(self) -> int:
        answer = self.reference.ask("logits_shape", reference=self.case.reference_spec, shape=list(self.case.shape))
        return answer["shape"][-1]

    def traces(
        self, images: np.ndarray, labels: np.ndarray, dtype: str, *, is_training: bool, smoothing: float | None
    ) -> tuple[Trace, dict, Arrays]:
        """(port, reference's answer, reference's arrays) of one forward, and a backward unless smoothing is None."""
        inputs = self.reference.put({"images": images, "labels": labels})
        loss = None if smoothing is None else {"name": "cross_entropy", "smoothing": smoothing}
        finish = self.reference.begin(
            "record_trace", reference=self.case.reference_spec, weights=self.weights_file, inputs=inputs, dtype=dtype,
            is_training=is_training, loss=loss, seed=self.case.seed, axes=self.axes,
        )  # fmt: skip
        ours = self.port_trace(images, labels, dtype, is_training=is_training, smoothing=smoothing)
        return ours, *finish()

    def port_trace(
        self, images: np.ndarray, labels: np.ndarray, dtype: str, *, is_training: bool, smoothing: float | None
    ) -> Trace:
        import paddle

        with default_dtype(dtype):
            model = set_state(self.port.build(), self.weights, self.case.name, dtype)
            loss_of = None
            if smoothing is not None:
                loss, targets = self.port.loss(smoothing), paddle.to_tensor(labels)

                def loss_of(logits):
                    return loss(logits, targets)

            masks = DropoutMasks(self.case.seed)
            return record_trace(model, images.astype(dtype), loss_of, masks, is_training)
