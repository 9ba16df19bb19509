"""Stage 1: every tensor of the reference arrives in the port, and all of them find their way back."""

import numpy as np

from ..port import set_state
from ..rules import unaccounted
from ..session import Session
from ..verdict import Check, StageResult, exactly


def run(session: Session) -> StageResult:
    """Names, shapes and kinds on both sides, the round trip, and what the port holds after loading."""
    theirs = session.their_weights
    declared = {entry["name"]: tuple(entry["shape"]) for entry in session.inventory["entries"]}
    shapes = {name: array.shape for name, array in theirs.items()}
    checks = [exactly("the reference has the entries it declares", shapes == declared, f"{len(theirs)} entries")]
    arrays = session.rules.to_port(theirs)
    problems = unaccounted(arrays, session.port_shapes) + session.rules.idle(session.port_shapes)
    checks.append(exactly("every entry is accounted for", not problems, "; ".join(problems[:5]) or f"{len(arrays)}"))
    if problems:
        return StageResult("weights", checks)
    checks += [_round_trip(session, theirs), _arrival(session, arrays), _trainable(session)]
    return StageResult("weights", checks)


def _round_trip(session: Session, theirs: dict[str, np.ndarray]) -> Check:
    back = session.rules.from_port(session.rules.to_port(theirs))
    counters = {name for name, array in theirs.items() if array.dtype.kind != "f"}
    lost = [name for name in theirs if name not in back]
    changed = [n for n in theirs if n in back and n not in counters and theirs[n].tobytes() != back[n].tobytes()]
    detail = f"lost {lost[:3]}, changed {changed[:3]}" if lost or changed else "bit for bit"
    return exactly("there and back again", not lost and not changed, detail)


def _arrival(session: Session, arrays: dict[str, np.ndarray]) -> Check:
    model = set_state(session.port.build(), arrays, session.case.name)
    wrong = [n for n, v in model.state_dict().items() if not np.array_equal(v.numpy(), arrays[n].astype("float32"))]
    return exactly("the port holds them", not wrong, f"differ: {wrong[:3]}" if wrong else f"{len(arrays)} entries")


def _trainable(session: Session) -> Check:
    parameters = session.port.build().named_parameters()
    ours = {name: parameter.size for name, parameter in parameters if not parameter.stop_gradient}
    entries = [entry for entry in session.inventory["entries"] if entry["is_parameter"]]
    theirs = {session.rules.name_for_port(entry["name"]): int(np.prod(entry["shape"])) for entry in entries}
    detail = f"{sum(ours.values()):,} in the port, {sum(theirs.values()):,} in the reference"
    if frozen := [name for name in theirs if name not in ours]:
        detail += f"; frozen in the port: {', '.join(frozen[:3])}"
    if extra := [name for name in ours if name not in theirs]:
        detail += f"; trained in the port alone: {', '.join(extra[:3])}"
    layer = (frozen or extra or [""])[0].rpartition(".")[0]
    return exactly("trainable parameters", ours == theirs, detail, layer=layer)
