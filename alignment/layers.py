"""The layer table: every pair of layers with its errors in the chain and alone, and the place of the first difference."""

from dataclasses import asdict, dataclass, field

import numpy as np

from .compare import Difference, compare, compare_packed
from .exchange import DropoutMasks
from .hints import hints_for
from .pairing import Pairing, kind, pair
from .port_trace import Trace, run_alone
from .session import Session
from .verdict import FAIL, PASS, Check, exactly

# Operations that keep a number in float32 even in float64, so that one layer alone is off by this much (Paddle 3.3.1).
FLOORS = {"upsample": 2e-6, "selu": 1e-6, "elu": 1e-7, "celu": 1e-7, "softplus": 1e-7}


@dataclass
class Row:
    """One layer of the port beside its twin. Errors are relative (compare.py); None where there was nothing to compare."""

    path: str
    kind: str
    place: str
    twin: str
    twin_place: str
    paired_by: str
    tolerance: float
    input_error: float | None = None
    output_error: float | None = None
    alone_error: float | None = None
    gradient_error: float | None = None  # alone, backward
    float32_error: float | None = None
    status: str = PASS
    note: str = ""
    hints: list[str] = field(default_factory=list)

    def as_dict(self) -> dict:
        return asdict(self)


class LayerTable:
    """Two traces of one forward (and backward) held against each other."""

    def __init__(self, session: Session, ours: Trace, answer: dict, theirs: dict[str, np.ndarray]):
        self.session, self.ours, self.nodes, self.theirs = session, ours, answer["nodes"], theirs
        case = session.case
        self._logits = answer["logits"]
        self.pairing: Pairing = pair(ours.nodes, ours.arrays, self.nodes, theirs, case.layers)
        self.rows: list[Row] = []
        tolerance = case.tolerances.float64
        classes = session.inventory["classes"]
        for index, twin, by in self.pairing.pairs:
            node, other = ours.nodes[index], self.nodes[twin]
            floor = FLOORS.get(kind(node), 0.0)
            row = Row(
                node["path"], node["class"], node["place"], f"{other['path']} {other['class']}",
                other["place"] or classes.get(other["path"].split("#")[0], ""), by, max(floor, case.tolerances.float64),
            )  # fmt: skip
            row.input_error = _worst(self._differences(node["inputs"], other["inputs"]))
            output = self._differences(node.get("outputs", []), other.get("outputs", []))
            row.output_error = _worst(output)
            row.note = next((difference.note for difference in output if difference.note), "")
            tolerance = max(tolerance, floor * case.tolerances.amplification)
            row.status = PASS if row.output_error is None or row.output_error <= tolerance else FAIL
            self.rows.append(row)
        self.chain_tolerance = tolerance  # at the logits

    def _differences(self, ours: list[str], theirs: list[str]) -> list[Difference]:
        if len(ours) != len(theirs):
            return [Difference(np.inf, note=f"{len(ours)} tensors against {len(theirs)}")]
        return [compare(self.ours.arrays[a], self.theirs[b]) for a, b in zip(ours, theirs, strict=True)]

    def run_each_alone(self, *, is_backward: bool) -> None:
        """Feed every layer of the port what its twin was fed, so that one wrong layer does not hide the next."""
        tolerances = self.session.case.tolerances
        for row, (index, twin, _) in zip(self.rows, self.pairing.pairs, strict=True):
            node, other, layer = self.ours.nodes[index], self.nodes[twin], self.ours.layers[index]
            can_compare = node["is_isolable"] and other["is_isolable"] and len(node["inputs"]) == len(other["inputs"])
            if not can_compare or not other.get("outputs"):
                continue
            inputs = [self.theirs[name] for name in other["inputs"]]
            gradients = [self.theirs.get(f"g.{name}") for name in other["outputs"]]
            has_gradients = is_backward and all(gradient is not None for gradient in gradients)
            try:
                masks = DropoutMasks(self.session.case.seed)
                outputs, found = run_alone(layer, inputs, gradients if has_gradients else None, masks)
            except Exception as error:  # an input of a shape that the wrong layer cannot take
                row.status, row.note = FAIL, f"cannot take the reference's input: {str(error).splitlines()[0][:120]}"
                continue
            differences = [compare(o, self.theirs[name]) for o, name in zip(outputs, other["outputs"], strict=True)]
            row.alone_error = _worst(differences)
            if has_gradients:
                row.gradient_error = _worst(self._alone_gradients(twin, found))
            is_right = row.alone_error <= row.tolerance and (row.gradient_error or 0) <= tolerances.gradient
            if not is_right:
                row.status = FAIL
                row.hints = hints_for(node, other, layer, inputs, outputs, [self.theirs[n] for n in other["outputs"]])

    def _alone_gradients(self, twin: int, found: dict[str, np.ndarray]) -> list[Difference]:
        start = f"i{twin}."
        wanted = {key.removeprefix(start): array for key, array in self.theirs.items() if key.startswith(start)}
        least = 1e-4 * max((float(np.abs(array).max()) for array in wanted.values() if array.size), default=0.0)
        missing = [Difference(np.inf, note=f"no gradient of {name}") for name in wanted if name not in found]
        return missing + [
            compare_packed(found[name], array, least_scale=least) for name, array in wanted.items() if name in found
        ]

    def wrong_alone(self) -> list[Row]:
        return [row for row in self.rows if row.status == FAIL and (row.alone_error is not None or row.note)
                and not _is_only_downstream(row, self.session.case.tolerances.gradient)]  # fmt: skip

    def first_difference(self) -> Check | None:
        """Where, in the order of execution, the values part; None if all outputs and the logits agree."""
        last_good = "the images"
        for row, (index, twin, _) in zip(self.rows, self.pairing.pairs, strict=True):
            is_input_wrong = row.input_error is not None and row.input_error > self._tolerance_before(row)
            if is_input_wrong:
                return self._in_code(row, index, twin, last_good)
            if row.status == FAIL:
                detail = f"{row.kind} at {row.place}; reference: {row.twin} at {row.twin_place}"
                detail += f"; {row.note}" if row.note else ""
                return Check("first difference", FAIL, row.output_error, row.tolerance, detail, row.path, row.hints)
            last_good = row.path
        ours_logits, their_logits = self.ours.arrays[self.ours.logits], self.theirs[self._logits]
        logits = compare(ours_logits, their_logits)
        if logits.relative > self.chain_tolerance:
            detail = f"in the model's own code after {last_good}; {logits.note}".rstrip("; ")
            hints = hints_for(None, None, None, [], [ours_logits], [their_logits])
            return Check("first difference", FAIL, logits.relative, self.chain_tolerance, detail, "(logits)", hints)
        return None

    def _tolerance_before(self, row: Row) -> float:
        return max(self.chain_tolerance, row.tolerance)

    def _in_code(self, row: Row, index: int, twin: int, last_good: str) -> Check:
        """The layer got something else than its twin, though all layers before it agree."""
        previous = max((a for a, b, _ in self.pairing.pairs if a < index), default=-1)
        previous_twin = max((b for a, b, _ in self.pairing.pairs if b < twin), default=-1)
        extra = [self.ours.nodes[k] for k in self.pairing.only_port if previous < k < index]
        lacking = [self.nodes[k] for k in self.pairing.only_reference if previous_twin < k < twin]
        where = f"in the code that calls {row.path} ({row.place}), after {last_good}; reference: {row.twin_place}"
        hints = [f"the port has {node['class']} {node['path']} ({node['place']}) here, the reference has not"
                 for node in extra]  # fmt: skip
        hints += [f"the reference has {node['class']} {node['path']} ({node['place']}) here" for node in lacking]
        ours, theirs = self.ours.nodes[index]["inputs"], self.nodes[twin]["inputs"]
        hints += hints_for(
            None, None, None, [], [self.ours.arrays[name] for name in ours], [self.theirs[name] for name in theirs]
        )
        layer = extra[0]["path"] if extra else row.path
        return Check("first difference", FAIL, row.input_error, self.chain_tolerance, where, layer, hints)

    def unpaired_with_weights(self) -> Check:
        """A layer without a twin is fine when it is the other side's function call, not when it has weights."""
        ours = [node["path"] for k in self.pairing.only_port if (node := self.ours.nodes[k])["num_parameters"]]
        theirs = [node["path"] for k in self.pairing.only_reference if (node := self.nodes[k])["num_parameters"]]
        detail = f"{len(self.rows)} pairs"
        if ours or theirs:
            detail += f"; without a twin in the port: {theirs or 'none'}, in the reference: {ours or 'none'}"
        return exactly("every layer with weights has a twin", not (ours or theirs), detail)

    def dead_layers(self) -> list[str]:
        """Layers whose twin answers one number everywhere: agreement there proves nothing."""
        dead = []
        for _, twin, _ in self.pairing.pairs:
            for name in self.nodes[twin].get("outputs", []):
                array = self.theirs[name]
                if array.size > 1 and np.ptp(array) <= 1e-12 * max(np.abs(array).max(), 1e-300):
                    dead.append(self.nodes[twin]["path"])
        return dead


def _worst(differences: list[Difference]) -> float | None:
    return max((difference.relative for difference in differences), default=None)


def _is_only_downstream(row: Row, gradient_tolerance: float) -> bool:
    """Right alone, wrong in the chain: it was fed a wrong input."""
    is_right_alone = row.alone_error is not None and row.alone_error <= row.tolerance
    return is_right_alone and (row.gradient_error or 0) <= gradient_tolerance and "cannot take" not in row.note
