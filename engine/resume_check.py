"""What a resumed run may do otherwise than the one that wrote the checkpoint: refused, said, or not looked at."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from common.errors import CheckpointError

# Every knob of main.py is in one row; a test holds the table to configs/schema.py.
FITTED = {"model", "nb_classes", "opt"}
"""Refused: the weights or the optimizer's memory would not fit or mean something else."""

ORDER = {"seed", "cls_label_path_train", "batch_size", "accum_iter"}
"""They decide which images are in a step. Refused in the middle of an epoch, where images would be seen twice or never
(a changed path or batch only if the images or their number a step differ); between epochs said. A batch of another size
is said in any case: batch norm and mixup see others."""

NUMBERS = {
    *(
        "input_size",
        "train_interpolation",
        "exif_orientation",
        "eval_image_backend",
        "image_backend",
        "scale",
        "ratio",
        "hflip",
        "aa",
        "color_jitter",
    ),
    *("reprob", "remode", "recount", "smoothing", "mixup", "cutmix", "cutmix_minmax", "mixup_prob"),
    *("mixup_switch_prob", "mixup_mode", "momentum", "weight_decay", "decay_norm_and_bias", "opt_eps", "opt_betas"),
    *("opt_alpha", "clip_grad", "use_amp", "amp_dtype", "model_ema", "model_ema_decay", "model_ema_eval", "epochs"),
    *("lr", "blr", "sched", "warmup_epochs", "warmup_lr", "min_lr", "t_in_epochs", "decay_epochs", "decay_rate"),
    *("sync_bn", "cls_label_path_val", "on_bad_image", "max_bad_images"),
}
"""Said: the run goes on, and its numbers are no longer those of one command."""

FREE = {
    *("list_models", "device", "data_path", "num_workers", "worker_type", "dist_eval", "resplit", "output_dir"),
    *("resume", "resume_ema", "finetune", "remove_head_from_pretained", "start_epoch", "eval", "debug", "log_every"),
    *("save_freq", "save_steps", "keep_last", "save_attempts", "stall_seconds", "skip_nonfinite", "label_list"),
    *("log_wandb", "wandb_entity", "wandb_project"),
}
"""Not looked at: they change no number, or the checkpoint itself takes their place."""

FACTS = {
    "effective_batch": "images a step (batch_size x accum_iter x processes)",
    "images": "training images (a checksum of their list)",
    "code": "source code (a checksum of models, datasets and engine)",
}


def check_resumable(
    then: dict, now: dict, *, is_inside_epoch: bool, source: object, log: Callable[[str], None]
) -> None:
    """Compare what the run was (`info` of the checkpoint) with what it is.

    Raises:
        CheckpointError: a difference that would be wrong without a sign of it; names all of them and the way out.
    """
    args_then, args_now = then.get("args", {}), now.get("args", {})
    changed = [name for name in args_now if name in args_then and args_then[name] != args_now[name]]
    differences = {name: f"--{name} was {args_then[name]!r} and is {args_now[name]!r}" for name in changed}
    refused = [name for name in changed if name in FITTED or (is_inside_epoch and name == "seed")]
    said = [name for name in changed if name in NUMBERS or name in ("seed", "batch_size", "accum_iter")]
    for name, meaning in FACTS.items():
        if name in then and then[name] != now.get(name):
            differences[name] = f"{meaning}: {then[name]} then, {now.get(name)} now"
            (refused if is_inside_epoch and name != "code" else said).append(name)
    if refused:
        lines = "\n".join(differences[name] for name in refused)
        where = "in the middle of an epoch " * is_inside_epoch
        raise CheckpointError(
            f"{source} cannot be continued {where}with other settings:\n{lines}\n"
            f"set them back{_hint(then, now, refused)}, or start from its weights with --finetune {source}"
        )
    for name in dict.fromkeys(said):
        log(f"this run differs from the one that wrote {source}: {differences[name]}")


def _hint(then: dict, now: dict, refused: list[str]) -> str:
    """4 processes -> 2 continue the same run with twice the accumulation."""
    if "effective_batch" not in refused:
        return ""
    accum, rest = divmod(then["effective_batch"] * now["args"]["accum_iter"], now["effective_batch"])
    return f" (here with --accum_iter {accum})" if accum and not rest else ""


def checksum_of_source(folders: Iterable[Path]) -> str:
    """Of all Python files in the folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def checksum_of_images(labels: bytes, paths: bytes) -> str:
    """Of a list of images, without its root: the folder may have moved."""
    return hashlib.sha256(labels + paths).hexdigest()[:16]
