"""Compare two models on inputs that the caller gives: forward, backward, single steps and training, in float64."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import paddle

from ..compare import Difference, compare, compare_packed, least_scale
from ..exchange import DropoutMasks, TraceSettings, TrainSettings
from ..layers.hints import value_hints
from ..layers.table import LayerTable
from ..paddle_side.code_between import Found, Substitutes, run_code_between
from ..paddle_side.port import build_with, default_dtype
from ..paddle_side.recorder import last_line
from ..paddle_side.training import as_target, train_port
from ..rules import Arrays
from ..session import TraceRequest
from ..stages.train import step_checks
from ..stages.weight_decay import decay_checks
from ..trace import Trace
from ..verdict import FAIL, Check, StageResult, exactly, within
from .given import Batch, GivenSession


@dataclass(frozen=True)
class Choice:
    """Which layers are compared, by their path in the port or by their class, with `*`.

    Attributes:
        white: None compares all.
        black: are not compared; the white list goes before it, as in PaDiff.
    """

    white: tuple[str, ...] | None = None
    black: tuple[str, ...] = ()

    def has(self, node: dict) -> bool:
        """Whether the call of a layer is compared."""
        if self.white is not None:
            return _is_named(node, self.white)
        return not _is_named(node, self.black)


def _is_named(node: dict, patterns: Iterable[str]) -> bool:
    path = node["path"].split("#")[0]
    return any(
        path == pattern or path.startswith(f"{pattern}.") or fnmatchcase(path, pattern) or node["class"] == pattern
        for pattern in patterns
    )


class Comparison:
    """Compares on one batch after the other.

    Args:
        session: the pair of models.
        loss: spec of the loss for the reference, see TraceSettings.
        choice: the layers that are compared.
    """

    def __init__(self, session: GivenSession, loss: dict, choice: Choice):
        self.session, self.loss, self.choice = session, loss, choice
        self.tolerances = session.case.tolerances

    def forward(self, batch: Batch, *, has_loss: bool) -> StageResult:
        """Compare the layers and outputs of one forward in evaluation mode, and the loss if there is one."""
        port, reference = self._traces(batch, is_training=False)  # with a loss: hooks on gradients need a graph
        table = self._table(port, reference, is_backward=False)
        checks = [check for check in (table.first_difference(),) if check]
        if not port.error:
            checks.append(self._output_check(table))
        if has_loss and not port.error:
            checks.append(self._number_check("loss", port.loss, reference.loss))
        return StageResult("forward", checks)

    def backward(self, batch: Batch) -> StageResult:
        """Compare loss, gradients and layers of one forward and backward in train mode."""
        port, reference = self._traces(batch, is_training=True)
        table = self._table(port, reference, is_backward=True)
        checks = [check for check in (table.first_difference(),) if check]
        if not port.error:
            checks += [self._number_check("loss", port.loss, reference.loss), *self._gradient_checks(port, reference)]
            if not checks[0].layer and any(check.status == FAIL for check in checks):
                placed = self._first_wrong_gradient(table) or self._code_checks(batch, table, is_backward=True)[:1]
                checks = [*placed, *checks]
        return StageResult("backward", checks)

    def single_step(self, batch: Batch, *, is_backward: bool) -> StageResult:
        """Compare each layer alone, and the code between the layers with the outputs of the reference's layers."""
        port, reference = self._traces(batch, is_training=is_backward)
        table = self._table(port, reference, is_backward=is_backward)
        name = "single step, backward" if is_backward else "single step, forward"
        checks = [
            Check(
                f"{row.path} alone", FAIL, row.worst_alone, row.tolerance,
                f"{row.kind} at {row.place}; reference: {row.match}", row.path, row.hints,
            )
            for row in table.rows
            if row.is_wrong_alone
        ]  # fmt: skip
        if port.error and not checks:
            checks = [table.first_difference()]
        if not port.error:
            checks += self._code_checks(batch, table, is_backward=is_backward)
        if not checks:
            detail = f"{len(table.rows)} layers and the code between them"
            checks = [exactly("each layer and the code between them", True, detail)]
        return StageResult(name, checks)

    def train(self, batches: list[Batch], settings: TrainSettings) -> StageResult:
        """Compare losses, gradients, optimizer states and weights after each step, one batch per step."""
        session = self.session
        images = {side: np.stack([getattr(b, side).packed() for b in batches]) for side in ("port", "reference")}
        labels = {side: np.stack([_target(getattr(b, side)) for b in batches]) for side in ("port", "reference")}
        inputs = session.reference.put({"images": images["reference"], "labels": labels["reference"]})
        finish = session.begin_training(inputs, settings, session.weights_file)
        actual = train_port(session.port, session.port_weights, images["port"], labels["port"], settings)
        expected = finish()[1]
        checks = step_checks(actual, expected, self.tolerances.step)
        return StageResult("train", [*checks, *decay_checks(actual, expected, session.rules)])

    def _traces(self, batch: Batch, *, is_training: bool) -> tuple[Trace, Trace]:
        session, reference = self.session, batch.reference
        settings = TraceSettings("float64", is_training, self.loss, session.case.seed, session.rules.as_message())
        return session.traces(
            TraceRequest(
                reference.packed(), _target(reference), settings,
                port_images=batch.port.packed(), port_labels=_target(batch.port),
            )
        )  # fmt: skip

    def _loss_of(self, batch: Batch) -> Callable:
        loss, target = self.session.port.loss(0.0), as_target(_target(batch.port), "float64")
        return lambda output: loss(output, target)

    def _table(self, port: Trace, reference: Trace, *, is_backward: bool) -> LayerTable:
        """The layer table of the layers that are compared; a layer that is left out is part of the code around it."""
        table = LayerTable(self.session.case, port, reference, is_backward=is_backward)
        left_out = [(a, b) for a, b, _ in table.pairing.pairs if not self.choice.has(port.nodes[a])]
        left_out += [(a, None) for a in table.pairing.only_port if not self.choice.has(port.nodes[a])]
        if not left_out:
            return table
        ports, references = {a for a, _ in left_out}, {b for _, b in left_out}
        return LayerTable(
            self.session.case, _without(port, ports), _without(reference, references), is_backward=is_backward
        )

    def _output_check(self, table: LayerTable) -> Check:
        actual, expected = (trace.arrays[trace.logits] for trace in (table.port, table.reference))
        difference = compare(actual, expected, absolute=self.tolerances.absolute)
        tolerance = max(self.tolerances.float64, table.chain_tolerance)
        check = within(
            "output", difference._replace(inconclusive=""), tolerance, detail=f"shape {list(expected.shape)}"
        )
        if check.status == FAIL:
            check.hints = value_hints(actual, expected)
        return check

    def _number_check(self, name: str, actual: float, expected: float) -> Check:
        difference = compare(np.array(actual), np.array(expected), absolute=self.tolerances.absolute)
        check = within(name, difference, self.tolerances.gradient, detail=f"{actual:.8g}; reference {expected:.8g}")
        if check.status == FAIL and expected:
            check.hints = [f"the loss is {actual / expected:.6g} times the reference's"]
        return check

    def _gradient_checks(self, port: Trace, reference: Trace) -> list[Check]:
        actual, expected = port.parameter_gradients, reference.parameter_gradients
        missing = [name for name in expected if name not in actual]
        checks = []
        if missing:
            checks.append(Check("gradients", FAIL, detail=f"the port computes none of {', '.join(missing[:4])}"))
        checks.append(self._worst_gradient("gradients of the parameters", actual, expected))
        if reference.image_gradient is not None and port.image_gradient is not None:
            inputs = {"the inputs": port.image_gradient}, {"the inputs": reference.image_gradient}
            checks.append(self._worst_gradient("gradient of the inputs", *inputs))
        return checks

    def _worst_gradient(self, name: str, actual: Arrays, expected: Arrays) -> Check:
        least, absolute = least_scale(expected.values()), self.tolerances.absolute
        differences = {
            key: compare_packed(actual[key], array, least_scale=least, absolute=absolute)
            for key, array in expected.items()
            if key in actual
        }
        key, worst = max(differences.items(), key=lambda item: item[1].relative, default=("none", Difference(0.0)))
        num = sum(one.relative > self.tolerances.gradient for one in differences.values())
        detail = f"{num} of {len(differences)} differ, the most: {key}" if num else f"{len(differences)} tensors"
        return within(
            name, worst if worst.note else worst._replace(inconclusive=""), self.tolerances.gradient, detail=detail
        )

    def _first_wrong_gradient(self, table: LayerTable) -> list[Check]:
        """From the loss towards the inputs: the first output whose gradient differs."""
        if not (wrong := table.first_wrong_gradient()):
            return []
        node = wrong.node
        place = f"{node['class']} at {node['place']}, in the code after it, before {wrong.after}"
        return [Check("first wrong gradient", FAIL, wrong.relative, self.tolerances.gradient, place, node["path"])]

    def _code_checks(self, batch: Batch, table: LayerTable, *, is_backward: bool) -> list[Check]:
        """One failed check for each place between the layers whose code computes something else."""
        session, reference = self.session, table.reference
        pairs = [(table.port.nodes[a], b, reference.nodes[b]) for a, b, _ in table.pairing.pairs]
        substitutes = Substitutes(
            {node["path"].split("#")[0] for node in table.port.nodes},
            {node["path"]: [reference.arrays[name] for name in other["outputs"]]
             for node, _, other in pairs if other.get("outputs")},
            {node["path"]: _input_gradients(reference, match, other) for node, match, other in pairs},
        )  # fmt: skip
        masks, tensors = DropoutMasks(session.case.seed), {}
        masks.start_step(0)

        def run(model):
            tensors["images"] = paddle.to_tensor(batch.port.packed().astype("float64"), stop_gradient=False)
            output = model(tensors["images"])
            if is_backward:
                self._loss_of(batch)(output).backward()
            return output.numpy()

        with default_dtype("float64"):
            model = build_with(session.port, session.port_weights, "the port", "float64")
            model.train() if is_backward else model.eval()
            try:
                found = run_code_between(model, run, substitutes, masks)
            except Exception as error:
                return [Check("code between the layers", FAIL, detail=f"the port stops: {last_line(error)}")]
        checks = [check for node, _, other in pairs for check in self._inputs_checks(found, node, other, reference)]
        expected = reference.arrays[reference.logits]
        checks += self._code_check("code after the last layer", found.output, expected, "", "")
        if is_backward and not checks:
            checks = [
                c for node, _, other in reversed(pairs) for c in self._gradients_after(found, node, other, reference)
            ]
            inputs = tensors["images"].grad
            if inputs is not None and reference.image_gradient is not None and not checks:
                name = "code before the first layer, backward"
                checks += self._code_check(name, inputs.numpy(), reference.image_gradient, "", "")
        return checks

    def _inputs_checks(self, found: Found, node: dict, other: dict, reference: Trace) -> list[Check]:
        arrays, checks = found.inputs.get(node["path"], []), []
        if len(arrays) == len(other["inputs"]):
            for actual, name in zip(arrays, other["inputs"], strict=True):
                place = f"what the code gives to {node['path']} at {node['place']}; reference: {other['place']}"
                where = f"code before {node['path']}"
                checks += self._code_check(where, actual, reference.arrays[name], place, node["path"])
        return checks[:1]

    def _gradients_after(self, found: Found, node: dict, other: dict, reference: Trace) -> list[Check]:
        kept, checks = found.output_gradients.get(node["path"], []), []
        for actual, name in zip(kept, other.get("outputs", []), strict=False):
            expected = reference.gradients.get(name)
            if expected is not None:
                actual = np.zeros_like(expected) if actual is None else actual
                place = f"the gradient of the output of {node['path']}, called at {node['place']}"
                checks += self._code_check(
                    f"code after {node['path']}, backward", actual, expected, place, node["path"]
                )
        return checks[:1]

    def _code_check(self, name: str, actual: np.ndarray, expected: np.ndarray, place: str, layer: str) -> list[Check]:
        """A failed check, or none."""
        difference = compare(actual, expected, absolute=self.tolerances.absolute)
        check = within(name, difference._replace(inconclusive=""), self.tolerances.gradient, detail=place, layer=layer)
        if check.status != FAIL:
            return []
        return [replace(check, hints=value_hints(actual, expected), detail=f"{place}; {difference.note}".strip("; "))]


def _input_gradients(reference: Trace, match: int, other: dict) -> list[np.ndarray | None]:
    alone = reference.isolated_gradients.get(match, {})
    return [alone.get(f"in{k}") for k in range(len(other["inputs"]))]


def _target(side) -> np.ndarray:
    return np.zeros(1, np.int64) if side.target is None else side.target


def _without(trace: Trace, left_out: set[int]) -> Trace:
    """The trace without some of its nodes."""
    kept = [index for index in range(len(trace.nodes)) if index not in left_out]
    isolated = {new: trace.isolated_gradients[old] for new, old in enumerate(kept) if old in trace.isolated_gradients}
    layers = [trace.layers[index] for index in kept] if trace.layers else []
    return replace(trace, nodes=[trace.nodes[k] for k in kept], layers=layers, isolated_gradients=isolated)
