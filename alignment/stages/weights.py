"""Stage 1: convert the weights of the reference to the port and back, and account for every entry."""

import numpy as np

from ..paddle_side.port import build_with
from ..rules import Arrays, unaccounted
from ..session import Session
from ..verdict import Check, StageResult, exactly


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
    """A failed check for layers with weights of the reference that its forward does not use and the port lacks."""
    units = session.mapping.only_reference if session.mapping else []
    paths = [unit.path for unit in units if not unit.is_called and any(entry.is_parameter for entry in unit.entries)]
    if not paths:
        return []
    detail = f"the port lacks {len(paths)} that the forward of evaluation does not use: {', '.join(paths[:5])}"
    return [exactly("every layer of the reference has a match", False, detail)]


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
