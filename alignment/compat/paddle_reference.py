"""A second Paddle model in the place of the process with PyTorch, so that two Paddle models can be compared."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import paddle

from ..adapter import Adapter, adapt
from ..exchange import DropoutMasks, TraceSettings, TrainSettings, packed
from ..mapping.units import fingerprint
from ..paddle_side.port import FRAMEWORK, Port, default_dtype, set_state, state_arrays, to_dtype
from ..paddle_side.recorder import record_trace, run_alone
from ..paddle_side.training import as_target, train_port
from ..paddle_side.units import record_units, shared_names
from ..rules import Arrays, Rules
from ..trace import Trace, gradients_or_zeros, split_gradients


class PaddleReference:
    """Answers the questions of a session as `Reference` does, in this process.

    Args:
        port: the model that is the reference, its loss and its optimizer.
    """

    def __init__(self, port: Port):
        self._port = port

    def __enter__(self) -> "PaddleReference":
        return self

    def __exit__(self, *_) -> None:
        pass

    def put(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """The arrays themselves, for a later question."""
        return dict(arrays)

    def forget(self, arrays: Arrays) -> None:
        """Nothing is kept of what `put` returned."""

    def ask(self, operation: str, **arguments: object) -> dict:
        """The answer of a question without arrays."""
        return self.ask_arrays(operation, **arguments)[0]

    def ask_arrays(self, operation: str, **arguments: object) -> tuple[dict, Arrays]:
        """The answer of a question, and its arrays."""
        return getattr(self, f"_{operation}")(**arguments)

    def begin(self, operation: str, **arguments: object) -> Callable[[], tuple[dict, Arrays]]:
        """The answer in a function, as the other process gives it."""
        found = self.ask_arrays(operation, **arguments)
        return lambda: found

    def _build(self, reference: dict) -> paddle.nn.Layer:
        return adapt(self._port.build(), Adapter.of_message(reference.get("adapter")), FRAMEWORK)

    def _inventory(self, reference: dict) -> tuple[dict, Arrays]:
        model = self._build(reference)
        parameters = dict(model.named_parameters())
        entries = [
            {"name": name, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("paddle."),
             "is_parameter": name in parameters}
            for name, value in model.state_dict().items()
        ]  # fmt: skip
        return {"entries": entries, "classes": {}, "shared": shared_names(model)}, {}

    def _units(self, reference: dict, inputs: Arrays, weights: Arrays | None = None) -> tuple[dict, Arrays]:
        outputs = []
        model = self._build(reference)
        if weights:
            set_state(model, weights, "the reference")
        model = to_dtype(model, "float64")
        with default_dtype("float64"):
            images = {"images": paddle.to_tensor(inputs["images"].astype(np.float64))}
            units, error = record_units(
                model, images, lambda model, given: outputs.append(fingerprint(model(given["images"]).numpy()))
            )
        if error:
            raise RuntimeError(error)
        messages = [unit.as_message() for unit in units]
        return {"units": messages, "outputs": outputs, "shared": shared_names(model)}, {}

    def _initialise(self, reference: dict, **_) -> tuple[dict, Arrays]:
        return self._fresh_state(reference)

    def _fresh_state(self, reference: dict, **_) -> tuple[dict, Arrays]:
        return {}, state_arrays(self._build(reference))

    def _record_trace(self, reference: dict, weights: Arrays, inputs: Arrays, **settings) -> tuple[dict, Arrays]:
        settings = TraceSettings(**settings)
        model = set_state(self._build(reference), weights, "the reference", settings.dtype)
        with default_dtype(settings.dtype):
            target, loss = as_target(inputs["labels"], settings.dtype), self._port.loss(0.0)
            loss_of = (lambda output: loss(output, target)) if settings.loss else None
            images, masks = inputs["images"].astype(settings.dtype), DropoutMasks(settings.seed)
            trace = record_trace(model, images, loss_of, masks, is_training=settings.is_training, pack=np.asarray)
            if loss_of and settings.is_training and settings.has_layers_alone:
                _run_layers_alone(trace, masks, Rules.of_message(settings.rules))
        rules = Rules.of_message(settings.rules)
        gradients = rules.each_to_port(trace.parameter_gradients)
        trace.parameter_gradients = {name: packed(gradient) for name, gradient in gradients}
        return trace.as_message()

    def _train_steps(self, reference: dict, weights: Arrays, inputs: Arrays, **settings) -> tuple[dict, Arrays]:
        settings, found = TrainSettings(**settings), {}
        rules, kinds = Rules.of_message(settings.rules), {}
        port = replace(self._port, build=lambda: self._build(reference))
        records = train_port(port, weights, inputs["images"], inputs["labels"], settings)
        for key, rows in records.items():
            kind, _, name = key.partition("/")
            if name:
                kinds.setdefault(kind, {})[name] = rows
            else:
                found[key] = rows
        for kind, arrays in kinds.items():
            found |= {f"{kind}/{name}": rows for name, rows in rules.to_port(arrays).items()}
        return {}, found


def _run_layers_alone(trace: Trace, masks: DropoutMasks, rules: Rules) -> None:
    """Fill `isolated_gradients` as the other process does, the parameters with their whole names in the port."""
    for index, (node, layer) in enumerate(zip(trace.nodes, trace.layers, strict=True)):
        outputs = node.get("outputs", [])
        found = [trace.gradients.get(name) for name in outputs]
        if not node["is_isolable"] or all(gradient is None for gradient in found):
            continue
        gradients = gradients_or_zeros(found, [trace.arrays[name] for name in outputs])
        masks.start_step(0, node["mask_call"])
        inputs = [trace.arrays[name] for name in node["inputs"]]
        of_inputs, of_parameters = split_gradients(node["path"], run_alone(layer, inputs, gradients, masks)[1])
        trace.isolated_gradients[index] = of_inputs | rules.to_port(of_parameters)
