"""The layer table: every pair of layers with its errors in the chain and alone, and where the first difference is."""

from dataclasses import asdict, dataclass, field

import numpy as np

from .compare import Difference, compare, compare_packed
from .exchange import DropoutMasks
from .hints import hints_for
from .pairing import Pairing, kind, pair
from .port_trace import Trace, last_line, run_alone
from .session import Session
from .verdict import FAIL, PASS, Check, exactly

# Operations that keep a number in float32 even in float64, so that one layer alone is off by this much (Paddle 3.3.1).
FLOORS = {"upsample": 2e-6, "selu": 1e-6, "elu": 1e-7, "celu": 1e-7, "softplus": 1e-7}


@dataclass
class Row:
    """One layer of the port beside its match. Errors are relative (compare.py), None where nothing was compared."""

    path: str
    kind: str
    place: str
    match: str
    match_place: str
    paired_by: str
    tolerance: float  # alone; `allowed` is that of the chain, which hands on what a listed op rounds
    allowed: float = 0.0
    input_error: float | None = None
    output_error: float | None = None
    alone_error: float | None = None
    gradient_error: float | None = None  # alone, backward
    float32_error: float | None = None
    is_wrong_alone: bool = False
    status: str = PASS
    note: str = ""
    hints: list[str] = field(default_factory=list)

    def as_dict(self) -> dict:
        return asdict(self)


class LayerTable:
    """Two traces of one forward (and backward) held against each other."""

    def __init__(
        self, session: Session, ours: Trace, answer: dict, theirs: dict[str, np.ndarray], *, is_backward: bool
    ):
        self.session, self.ours, self.nodes, self.theirs = session, ours, answer["nodes"], theirs
        self._logits = answer["logits"]
        self.pairing: Pairing = pair(ours.nodes, ours.arrays, self.nodes, theirs, session.case.layers)
        self.rows = [self._row(*found) for found in self.pairing.pairs]
        for row, (index, match, _) in zip(self.rows, self.pairing.pairs, strict=True):
            self._run_alone(row, index, match, is_backward)
        self.chain_tolerance = self._judge_chain()

    def _row(self, index: int, match: int, by: str) -> Row:
        node, other = self.ours.nodes[index], self.nodes[match]
        tolerance = max(FLOORS.get(kind(node), 0.0), self.session.case.tolerances.float64)
        match_name = f"{other['path']} {other['class']}"
        row = Row(node["path"], node["class"], node["place"], match_name, other["place"], by, tolerance)
        outputs = self._differences(node.get("outputs", []), other.get("outputs", []))
        row.input_error = _worst(self._differences(node["inputs"], other["inputs"]))
        row.output_error = _worst(outputs)
        row.note = next((difference.note for difference in outputs if difference.note), "")
        return row

    def _judge_chain(self) -> float:
        """Fill `allowed` and `status`; returns what is allowed at the logits."""
        tolerances = self.session.case.tolerances
        allowed = tolerances.float64
        for row in self.rows:
            if tolerances.float64 < (row.alone_error or 0) <= row.tolerance:
                allowed = max(allowed, row.alone_error * tolerances.amplification)
            row.allowed = allowed
            is_right = not row.is_wrong_alone and (row.output_error is None or row.output_error <= allowed)
            row.status = PASS if is_right else FAIL
        return allowed

    def _compare(self, ours: np.ndarray, theirs: np.ndarray) -> Difference:
        return _unless_undecided(compare(ours, theirs, absolute=self.session.case.tolerances.absolute))

    def _differences(self, ours: list[str], theirs: list[str]) -> list[Difference]:
        if len(ours) != len(theirs):
            return [Difference(np.inf, note=f"{len(ours)} tensors against {len(theirs)}")]
        return [self._compare(self.ours.arrays[a], self.theirs[b]) for a, b in zip(ours, theirs, strict=True)]

    def _run_alone(self, row: Row, index: int, match: int, is_backward: bool) -> None:
        """Feed a layer of the port what its match was fed, so that one wrong layer does not hide the next."""
        node, other, layer = self.ours.nodes[index], self.nodes[match], self.ours.layers[index]
        can_compare = node["is_isolable"] and other["is_isolable"] and len(node["inputs"]) == len(other["inputs"])
        if not can_compare or not other.get("outputs"):
            return
        inputs = [self.theirs[name] for name in other["inputs"]]
        expected = [self.theirs[name] for name in other["outputs"]]
        gradients = [self.theirs.get(f"g.{name}") for name in other["outputs"]]
        has_gradients = is_backward and all(gradient is not None for gradient in gradients)
        masks = DropoutMasks(self.session.case.seed)
        masks.start_step(0, other["mask_call"])
        try:
            outputs, found = run_alone(layer, inputs, gradients if has_gradients else None, masks)
        except Exception as error:  # an input or a gradient of a shape that the wrong layer cannot take
            row.note = f"cannot take what the reference's takes: {last_line(error)}"
            row.is_wrong_alone = True
            row.hints = hints_for(node, other, layer, [], [], [])
            return
        row.alone_error = _worst([self._compare(a, b) for a, b in zip(outputs, expected, strict=True)])
        if has_gradients:
            row.gradient_error = _worst(self._alone_gradients(match, found))
        allowed = self.session.case.tolerances.gradient
        row.is_wrong_alone = not (row.alone_error <= row.tolerance and (row.gradient_error or 0) <= allowed)
        if row.is_wrong_alone:
            row.hints = hints_for(node, other, layer, inputs, outputs, expected)

    def _alone_gradients(self, match: int, found: dict[str, np.ndarray]) -> list[Difference]:
        start = f"i{match}."
        wanted = {key.removeprefix(start): array for key, array in self.theirs.items() if key.startswith(start)}
        least = 1e-4 * max((float(np.abs(array).max()) for array in wanted.values() if array.size), default=0.0)
        missing = [Difference(np.inf, note=f"no gradient of {name}") for name in wanted if name not in found]
        absolute = self.session.case.tolerances.absolute
        return missing + [
            _unless_undecided(compare_packed(found[name], array, least_scale=least, absolute=absolute))
            for name, array in wanted.items()
            if name in found
        ]

    def wrong_alone(self) -> list[Row]:
        return [row for row in self.rows if row.is_wrong_alone]

    def first_difference(self) -> Check | None:
        """Where, in the order of execution, the values part; None if all outputs and the logits agree."""
        last_good = "the images"
        for row, (index, match, _) in zip(self.rows, self.pairing.pairs, strict=True):
            if not row.is_wrong_alone and row.input_error is not None and row.input_error > row.allowed:
                return self._in_code(row, index, match, last_good)
            if row.status == FAIL:
                detail = f"{row.kind} at {row.place}; reference: {row.match} at {row.match_place}"
                detail += f"; {row.note}" if row.note else ""
                error = max(row.output_error or 0, row.alone_error or 0, row.gradient_error or 0)
                return Check("first difference", FAIL, error, row.tolerance, detail, row.path, row.hints)
            last_good = row.path
        if self.ours.error:
            detail = f"the port stops after {last_good}: {self.ours.error}"
            return Check("first difference", FAIL, detail=detail, layer=last_good)
        ours_logits, their_logits = self.ours.arrays[self.ours.logits], self.theirs[self._logits]
        logits = self._compare(ours_logits, their_logits)
        if logits.relative > self.chain_tolerance:
            detail = f"in the model's own code after {last_good}; {logits.note}".rstrip("; ")
            hints = hints_for(None, None, None, [], [ours_logits], [their_logits])
            return Check("first difference", FAIL, logits.relative, self.chain_tolerance, detail, "(logits)", hints)
        return None

    def _in_code(self, row: Row, index: int, match: int, last_good: str) -> Check:
        """The layer got something else than its match, though all layers before it agree."""
        previous = max((a for a, b, _ in self.pairing.pairs if a < index), default=-1)
        previous_match = max((b for a, b, _ in self.pairing.pairs if b < match), default=-1)
        extra = [self.ours.nodes[k] for k in self.pairing.only_port if previous < k < index]
        lacking = [self.nodes[k] for k in self.pairing.only_reference if previous_match < k < match]
        where = f"in the code that calls {row.path} ({row.place}), after {last_good}; reference: {row.match_place}"
        hints = [f"the port has {node['class']} {node['path']} ({node['place']}) here, the reference has not"
                 for node in extra]  # fmt: skip
        hints += [f"the reference has {node['class']} {node['path']} ({node['place']}) here" for node in lacking]
        hints += [f"the reference calls {self.nodes[b]['path']} before {row.path}, the port after it"
                  for a, b, _ in self.pairing.pairs if a > index and b < match]  # fmt: skip
        ours, theirs = self.ours.nodes[index]["inputs"], self.nodes[match]["inputs"]
        hints += hints_for(
            None, None, None, [], [self.ours.arrays[name] for name in ours], [self.theirs[name] for name in theirs]
        )
        layer = extra[0]["path"] if extra else row.path
        return Check("first difference", FAIL, row.input_error, row.allowed, where, layer, hints)

    def unpaired_with_weights(self) -> Check:
        """A layer without a match is fine when it is the other side's function call, not when it has weights."""
        ours = [node["path"] for k in self.pairing.only_port if (node := self.ours.nodes[k])["num_parameters"]]
        theirs = [node["path"] for k in self.pairing.only_reference if (node := self.nodes[k])["num_parameters"]]
        detail = f"{len(self.rows)} pairs"
        if ours or theirs:
            detail += f"; without a match in the port: {theirs or 'none'}, in the reference: {ours or 'none'}"
        return exactly("every layer with weights has a match", not (ours or theirs), detail)

    def dead_layers(self) -> list[str]:
        """Layers whose match answers one number everywhere, or what is no number: agreement there proves nothing."""
        dead = []
        for _, match, _ in self.pairing.pairs:
            for name in self.nodes[match].get("outputs", []):
                array = self.theirs[name]
                is_constant = array.size > 1 and np.ptp(array) <= 1e-12 * max(np.abs(array).max(), 1e-300)
                if is_constant or not np.isfinite(array).all():
                    dead.append(self.nodes[match]["path"])
        return dead


def _unless_undecided(difference: Difference) -> Difference:
    """NaN on both sides is no difference; that it proves nothing either is said by `dead_layers`, and by the logits."""
    return difference._replace(relative=0.0) if difference.proves_nothing and difference.note else difference


def _worst(differences: list[Difference]) -> float | None:
    return max((difference.relative for difference in differences), default=None)
