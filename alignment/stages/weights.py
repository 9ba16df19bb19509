"""Stage 1: convert the weights of the reference to the port and back, and account for every entry."""

import numpy as np

from ..mapping.units import Unit
from ..paddle_side.port import build_with
from ..rules import Arrays, unaccounted
from ..session import Session
from ..verdict import Check, StageResult, exactly

MAX_NAMES = 3  # of the layers of one kind


def run(session: Session) -> StageResult:
    """Check names, shapes and types on both sides, the round trip, the loaded values and the trainable parameters."""
    weights = session.reference_weights
    declared = {entry["name"]: tuple(entry["shape"]) for entry in session.inventory["entries"]}
    shapes = {name: array.shape for name, array in weights.items()}
    checks = [exactly("the reference has the entries it declares", shapes == declared, f"{len(weights)} entries")]
    arrays = session.converted(weights)
    problems = unaccounted(arrays, session.port_shapes, session.port_integers) + session.rules.unused_transposes(
        session.port_shapes
    )
    detail = "; ".join(problems[:5]) or f"{len(arrays)} entries"
    checks.append(exactly("every entry is accounted for", not problems, detail))
    checks += _unmatched(session)
    if problems:
        return StageResult("weights", checks)
    checks += [_round_trip(session, weights), _loaded_values(session, arrays), _trainable_parameters(session)]
    return StageResult("weights", checks)


def _unmatched(session: Session) -> list[Check]:
    """Failed checks for the layers with weights that the other side lacks, those that are used and the others."""
    if not session.mapping:
        return []
    checks = []
    for is_called, words in ((True, ""), (False, " that the forward of evaluation does not use")):
        lacking = [
            f"the {side} lacks {_by_kind(found)}{words}"
            for side, units in (("port", session.mapping.only_reference), ("reference", session.mapping.only_port))
            if (found := [unit for unit in units if unit.is_called == is_called and _has_parameters(unit)])
        ]
        if lacking:
            name = "every layer that is used has a match" if is_called else "every layer has a match"
            checks.append(exactly(name, False, "; ".join(lacking)))
    return checks


def _has_parameters(unit: Unit) -> bool:
    return any(entry.is_parameter for entry in unit.entries)


def _by_kind(units: list[Unit]) -> str:
    """Units counted by kind, with the names of some: `57 batchnorm (conv1.bn, conv2.bn, ...)`."""
    kinds: dict[str, list[str]] = {}
    for unit in units:
        kinds.setdefault(unit.kind, []).append(unit.path)
    return ", ".join(
        f"{len(paths)} {kind} ({', '.join(paths[:MAX_NAMES])}{', ...' * (len(paths) > MAX_NAMES)})"
        for kind, paths in sorted(kinds.items(), key=lambda item: -len(item[1]))
    )


def _round_trip(session: Session, weights: Arrays) -> Check:
    back = session.rules.from_port(session.rules.to_port(weights))
    dropped = {name for name in weights if not session.rules.port_names(name)}
    lost = [name for name in weights if name not in back and name not in dropped]
    changed = [n for n in weights if n in back and n not in dropped and not _is_same(weights[n], back[n])]
    detail = f"lost {lost[:3]}, changed {changed[:3]}" if lost or changed else "bit for bit"
    return exactly("round trip to the port and back", not lost and not changed, detail)


def _is_same(array: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays have the same bits."""
    both = [np.ascontiguousarray(one).reshape(-1).view(np.uint8) for one in (array, other)]
    return array.dtype == other.dtype and array.shape == other.shape and np.array_equal(*both)


def _loaded_values(session: Session, arrays: Arrays) -> Check:
    model = build_with(session.port, arrays, session.case.name)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    wrong = [name for name, array in state.items() if not np.array_equal(array, arrays[name].astype(array.dtype))]
    detail = f"differ: {wrong[:3]}" if wrong else f"{len(arrays)} entries"
    return exactly("the port holds the values after loading", not wrong, detail)


def _trainable_parameters(session: Session) -> Check:
    port = session.port_trained
    names = {entry["name"] for entry in session.inventory["entries"] if entry["is_trained"]}
    trained = {name: array for name, array in session.reference_weights.items() if name in names}
    shared = session.inventory["shared"]
    trained = {name: array for name, array in trained.items() if name not in shared}
    reference = {name: array.size for name, array in session.rules.to_port(trained).items()}
    detail = f"{sum(port.values()):,} in the port, {sum(reference.values()):,} in the reference"
    if frozen := [name for name in reference if name not in port]:
        detail += f"; frozen in the port: {', '.join(frozen[:3])}"
    if extra := [name for name in port if name not in reference]:
        detail += f"; trained in the port alone: {', '.join(extra[:3])}"
    layer = (frozen or extra or [""])[0].rpartition(".")[0]
    return exactly("trainable parameters", port == reference, detail, layer=layer)
