"""Complete a case before it is run: its inputs and outputs, and the rules for its weights."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from common.cli import did_you_mean
from common.errors import CaseError

from ..adapter import FLOAT, INTEGER, Adapter, InputLayout
from ..case import LEAST_TRAIN_BATCH, Case
from ..reference import Reference
from ..rules import Arrays
from .find import Side, find_mapping, fits
from .sequence import Mapping
from .units import Unit, fingerprint

DEFAULT_RANGE = (-2.0, 2.0)


def with_adapter(case: Case, reference: Reference) -> Case:
    """The case with the adapter that its reference needs; unchanged for one tensor of images and one of logits.

    Raises:
        CaseError: the case names an output of a reference that returns one tensor.
    """
    if case.adapter is not None:
        return case
    if case.inputs:
        adapter = Adapter(_layouts(case, {}), tuple(case.input_range))
        spec, shape = replace(case, adapter=adapter).reference_spec, adapter.packed_shape()
    else:
        spec, shape = case.reference_spec, case.shape
    found = reference.ask("describe", reference=spec, shape=list(shape))
    layouts = _layouts(case, found)
    is_plain = not case.inputs and len(layouts) == 1 and layouts[0].type == FLOAT and layouts[0].range is None
    is_plain = is_plain and not found["inputs"][0]["is_keyword"]
    paths = [[path for path, *_ in found[key]] for key in ("outputs", "train_outputs")]
    if case.output != "" and paths[0] == [""]:
        raise CaseError(f"the case {case.name}: output: {case.output}: the reference returns one tensor; leave it out")
    is_one_tensor = paths[0] == [""] and paths[1] in ([], [""])  # a net may have more outputs in train mode
    if is_plain and case.output == "" and (is_one_tensor or found["error"]):
        return case
    inputs = [] if is_plain else layouts
    adapter = Adapter(
        inputs, tuple(case.input_range), case.output, list(filter(None, paths)) if case.output == "" else []
    )
    if not adapter.inputs:
        return replace(case, adapter=adapter)
    shape = adapter.packed_shape()
    num = max(LEAST_TRAIN_BATCH, case.train.shape[0]) if adapter.has_common_batch else shape[0]
    train = replace(case.train, shape=(num, *shape[1:]))
    if len(layouts) == 1 and case.train.shape[1:] == shape[1:]:
        train = case.train
    return replace(case, adapter=adapter, shape=shape, train=train)


def _layouts(case: Case, found: dict) -> list[InputLayout]:
    """The inputs that the case names, or those of the reference, each of the shape of the case."""
    if case.inputs:
        return [
            InputLayout(name, one.shape, one.type or FLOAT, one.range and tuple(one.range))
            for name, one in case.inputs.items()
        ]
    layouts = []
    for one in found["inputs"]:
        drawn = tuple(case.input_range)
        values = (0.0, float(max(found["num_values"] - 1, 0))) if drawn == DEFAULT_RANGE else drawn
        layouts.append(
            InputLayout(one["name"], tuple(case.shape), one["type"], values if one["type"] == INTEGER else None)
        )
    return layouts


def with_rules(
    case: Case, reference: Reference, build: Callable, images: np.ndarray, draw: Callable[[Case], Arrays]
) -> tuple[Case, Mapping | None, dict]:
    """(the case with rules for all weights, the mapping or None if the case had them, inventory of the reference).

    Args:
        case: with its adapter.
        reference: the process of the reference.
        build: makes the port.
        images: for one forward.
        draw: random weights of the reference.

    Raises:
        CaseError: a key of the case names what the port does not have.
    """
    from ..paddle_side.port import state_shapes
    from ..paddle_side.units import shared_names

    inventory = reference.ask("inventory", reference=case.reference_spec)
    shapes = {entry["name"]: tuple(entry["shape"]) for entry in inventory["entries"]}
    model = build()
    port_shapes = state_shapes(model)
    _check_names(case, "transpose", "port", case.transpose or (), port_shapes)
    if case.transpose is not None and not shared_names(model) and fits(case.rules("torch"), shapes, port_shapes):
        return case, None, inventory
    layers = [path for path, _ in model.named_sublayers()]
    _check_names(case, "layers", "reference", case.layers.keys(), inventory["classes"])
    _check_names(case, "layers", "port", case.layers.values(), layers)
    inputs = reference.put({"images": images})

    def run_reference(weights: Arrays | None) -> Side:
        file = None if weights is None else reference.put(weights)
        answer = reference.ask("units", reference=case.reference_spec, inputs=inputs, weights=file)
        return Side([Unit.of_message(unit) for unit in answer["units"]], answer["outputs"], answer["shared"])

    def run_port(weights: Arrays | None) -> Side:
        return _run_port(case, build, images, weights, inventory["shared"])

    return *find_mapping(case, run_reference, run_port, lambda: draw(case)), inventory


def _check_names(case: Case, key: str, side: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    """Raise CaseError if a name under a key of the case is none of this side; a pattern may fit nothing."""
    names = list(names)
    if unknown := [name for name in patterns if "*" not in name and name not in names]:
        nearest = did_you_mean(unknown[0], names)
        raise CaseError(f"the case {case.name}: {key}: the {side} has no {unknown[0]}{nearest}")


def _run_port(
    case: Case, build: Callable, images: np.ndarray, weights: Arrays | None, shared_in_reference: dict[str, str]
) -> Side:
    """One forward of the port.

    Args:
        case: for messages.
        build: makes the port.
        images: its input.
        weights: what the rules make of the weights of the reference; None for those of a new port. An entry that is not
            there, as a buffer of the port alone, keeps its value.
        shared_in_reference: second names of tensors of the reference.

    Raises:
        CaseError: the weights do not fit the port.
    """
    import paddle

    from ..paddle_side.port import PortState, default_dtype, set_state, to_dtype
    from ..paddle_side.units import record_units, shared_names

    outputs = []

    def call(model, inputs):
        outputs.append(fingerprint(model(inputs["images"]).numpy()))

    model = build()  # with fresh values, which entries without a match keep
    if weights is not None:
        try:
            arrays = PortState.of_model(model, ("*",)).completed(weights, ("*",), shared_in_reference)
            set_state(model, arrays, case.name)
        except Exception as error:
            raise CaseError(f"the weights that were paired for {case.name} do not fit the port: {error}") from None
    model = to_dtype(model, "float64")
    with default_dtype("float64"):
        tensor = paddle.to_tensor(images.astype(np.float64))
        units, error = record_units(model, {"images": tensor}, call)
    return Side(units, outputs, shared_names(model), error)
