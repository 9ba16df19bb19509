"""What a resumed run may do otherwise than the run that wrote the checkpoint: refused, warned about, or ignored."""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from common.errors import CheckpointError

logger = logging.getLogger(__name__)

# Facts of a run beside its flags. All but the code decide which images are in a step: a change inside an epoch is
# refused, since images would be seen twice or never.
FACTS = {
    "effective_batch": "images per step (batch_size x accum_iter x processes)",
    "images": "training images (a checksum of their list)",
    "code": "source code (a checksum of models, datasets and engine)",
}


def check_resumable(then: dict, now: dict, rules: Mapping[str, str], *, is_inside_epoch: bool, source: object) -> None:
    """Compare the run that wrote a checkpoint with the run that resumes from it, and log what differs.

    Args:
        then: `info` of the checkpoint: `args` (flags by name) and FACTS.
        now: the same of this run.
        rules: what a changed flag means, by its name: "refuse", "refuse_inside_epoch", "warn" or "ignore".
        is_inside_epoch: whether the checkpoint lies between two steps of an epoch.
        source: name of the checkpoint, for messages.

    Raises:
        CheckpointError: a difference that would be wrong without a sign of it; names all such differences.
    """
    args_then, args_now = then.get("args", {}), now.get("args", {})
    changed = [name for name in args_now if name in args_then and args_then[name] != args_now[name]]
    differences = {name: f"--{name} was {args_then[name]!r} and is {args_now[name]!r}" for name in changed}
    refusing = {"refuse", "refuse_inside_epoch"} if is_inside_epoch else {"refuse"}
    refused = [name for name in changed if rules[name] in refusing]
    warned = [name for name in changed if name not in refused and rules[name] != "ignore"]
    for name, meaning in FACTS.items():
        if name in then and then[name] != now.get(name):
            differences[name] = f"{meaning}: {then[name]} then, {now.get(name)} now"
            (refused if is_inside_epoch and name != "code" else warned).append(name)
    if difference := _changed_classes(then, now):
        differences["classes"] = difference
        refused.append("classes")
    if refused:
        lines = "\n".join(differences[name] for name in refused)
        where = "in the middle of an epoch " * is_inside_epoch
        raise CheckpointError(
            f"{source} cannot be continued {where}with other settings:\n{lines}\n"
            f"set them back{_hint(then, now, refused)}, or start from its weights with --finetune {source}"
        )
    for name in warned:
        logger.warning(f"this run differs from the one that wrote {source}: {differences[name]}")


def _changed_classes(then: dict, now: dict) -> str:
    """How the classes differ, by their folders or else their names, in the order of the labels; "" if they agree.

    Checkpoints of before December 2026 keep the names alone, which are those of the folders where there are any.
    """
    folders_then, folders_now = then.get("class_folders"), now.get("class_folders")
    names_then, names_now = then.get("class_names"), now.get("class_names")
    if folders_then and folders_now:
        before, after = folders_then, folders_now
    else:
        before, after = names_then, names_now
        if before and "class_folders" not in then and folders_now and list(before) == list(folders_now):
            return ""
    if not before or not after or list(before) == list(after):
        return ""
    pairs = zip(before, after, strict=False)
    label = next((i for i, (old, new) in enumerate(pairs) if old != new), min(len(before), len(after)))
    shown = f"{', '.join(before[:5])} and are {', '.join(after[:5])}"
    return f"the classes were {shown} (label {label} is the first to differ)"


def _hint(then: dict, now: dict, refused: list[str]) -> str:
    """With half the processes and twice the accumulation the same run continues."""
    if "effective_batch" not in refused:
        return ""
    accum, rest = divmod(then["effective_batch"] * now["args"]["accum_iter"], now["effective_batch"])
    return f" (here with --accum_iter {accum})" if accum and not rest else ""


def checksum_of_source(folders: Iterable[Path]) -> str:
    """Checksum of all Python files in the folders and below, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
