"""Files of weights: a checkpoint is written whole or not at all, and verified to the last bit when it is read."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.errors import CheckpointError, DiskError

from .checkpoint_meta import check_meta
from .paddle_pickle import read_pickle
from .safetensors_io import decode, decode_header, encode, json_of_limited_size
from .torch_weights import read_torch_sections
from .weight_names import first_names, to_paddle_names

if TYPE_CHECKING:
    import paddle
    from paddle import nn

# The checksum is the first text in the file, so that its place is known. It covers every other byte, the header too.
BEFORE_CHECKSUM = b'{"__metadata__":{"sha256":"'
CHECKSUM = slice(8 + len(BEFORE_CHECKSUM), 8 + len(BEFORE_CHECKSUM) + 64)
UNKNOWN = "0" * 64

Arrays = dict[str, np.ndarray]
logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """A verified file: `tensors` as written (`model/...`, `model_ema/...`, `optimizer/...`) and everything else."""

    path: Path
    tensors: Arrays
    meta: dict

    def section(self, name: str) -> Arrays:
        """The tensors named `name/...`, without that prefix."""
        return {key.removeprefix(f"{name}/"): a for key, a in self.tensors.items() if key.startswith(f"{name}/")}


class Weights(NamedTuple):
    """Parameters and statistics by the names of a file of any format that `load_weights` reads.

    Attributes:
        layout: "paddle" or "torch"; None where the file does not say whose names and layouts it has.
        remarks: what was done to find the weights, for the log.
    """

    path: Path
    arrays: Arrays
    meta: dict
    layout: str | None = "paddle"
    remarks: tuple[str, ...] = ()

    def for_model(self, model: "nn.Layer") -> "Weights":
        """The same weights by the names and layouts of `model`; what was done is logged.

        Raises:
            CheckpointError: no name of the file is one of the model's, or the layout stays in doubt.
        """
        arrays, remarks = to_paddle_names(self.arrays, model, layout=self.layout, source=self.path)
        for remark in (*self.remarks, *remarks):
            logger.warning(f"{self.path}: {remark}")
        return self._replace(arrays=arrays, layout="paddle", remarks=())

    def load_into(self, model: "nn.Layer") -> None:
        """Give `model` exactly these weights; what was done to their names is logged.

        Raises:
            CheckpointError: names what is missing, unexpected or of another shape.
        """
        set_weights(model, self.for_model(model).arrays, source=self.path, trained_with=self.trained_with)

    @property
    def trained_with(self) -> str:
        """The flags without which the weights fit nothing, as far as the file tells."""
        args = self.meta.get("info", {}).get("args", {})
        return " ".join(f"--{name} {args[name]}" for name in ("model", "nb_classes") if name in args)

    def other_preprocessing(self, now: dict) -> str:
        """What to say where images are fed otherwise than when the run evaluated: both can be meant."""
        then = self.meta.get("info", {}).get("preprocess", {})
        changed = [f"{name} {value!r}, not {now.get(name)!r}" for name, value in then.items() if value != now.get(name)]
        return f"note: the checkpoint was evaluated with {'; '.join(changed)}" if changed else ""


# --- Writing --------------------------------------------------------------------------------------------------------


def write_checkpoint(path: str | Path, tensors: Arrays, meta: dict, *, keep_old_as: str | Path | None = None) -> None:
    """Write a temporary file beside it, fsync, rename, fsync the folder: a kill at any point leaves `path` whole.

    `meta` is anything JSON can hold; find_latest needs its next_epoch and next_step. An older `path` gets the name
    `keep_old_as` if that is given.

    Raises:
        CheckpointError: `meta` is larger than what is read again.
        DiskError: the file cannot be written; the temporary file is removed and an older `path` untouched.
    """
    path = Path(path)
    written = max(time.time_ns(), _age(path)[0] + 1)  # the clock of another machine may be behind
    texts = {"sha256": UNKNOWN, "written": str(written), "meta": json.dumps(meta, allow_nan=False)}
    try:
        header, *data = encode(tensors, texts)
    except ValueError as error:
        raise CheckpointError(f"cannot write {path}: {error}") from None
    header = header[: CHECKSUM.start] + _checksum([header, *data]).encode() + header[CHECKSUM.stop :]
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.writelines([header, *data])
            file.flush()
            os.fsync(file.fileno())
        if keep_old_as:
            _give_second_name(path, Path(keep_old_as))
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise DiskError(
            f"cannot write {path}: {error.strerror or error}; an older file of that name is untouched, free some space"
        ) from error


def _give_second_name(path: Path, name: Path) -> None:
    """Let `name` be the file that `path` is now; never is there a moment without `path`."""
    link = name.with_name(name.name + ".tmp")
    with suppress(OSError):  # no older file, or a file system without links: then only the new file is kept
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, name)


def remove_leftovers(output_dir: str | Path) -> list[Path]:
    """Delete the temporary files of writers that were killed; only one process may call it, and before it writes."""
    leftovers = sorted(Path(output_dir).glob("checkpoint-*.tmp"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def _checksum(parts: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _fsync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut (POSIX; Windows cannot open a folder)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- Reading --------------------------------------------------------------------------------------------------------


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file of `write_checkpoint`; CheckpointError unless every byte is as it was written."""
    path = Path(path)
    data = _read(path)
    if (kind := _format(data)) != "checkpoint":
        raise CheckpointError(f"{path} {FORMATS[kind]}; expected an undamaged checkpoint of this project")
    return _verified(path, data)


def _verified(path: Path, data: bytes) -> Checkpoint:
    view = memoryview(data)
    found = _checksum([view[: CHECKSUM.start], UNKNOWN.encode(), view[CHECKSUM.stop :]])
    if found.encode() != data[CHECKSUM]:
        raise CheckpointError(
            f"{path} is damaged: its {len(data):,} bytes do not give the checksum written in it; use another checkpoint"
        )
    try:
        tensors, texts = decode(data)
        return Checkpoint(path, tensors, check_meta(json_of_limited_size(texts["meta"])))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} was not written by this project: {error}") from error


def is_checkpoint(path: str | Path) -> bool:
    """Whether the file says of itself that it is a checkpoint of this project; CheckpointError if it cannot be read."""
    return _format(_read(Path(path), CHECKSUM.start)) == "checkpoint"


def find_latest(output_dir: str | Path, log: Callable[[str], None] = print) -> Path | None:
    """The newest checkpoint of `output_dir` that is whole; None if the folder has no checkpoint.

    Not that which is furthest in training: it may be of an earlier run in the same folder, or of before a step back.

    Each damaged one that is passed over is logged. CheckpointError if there are files but none is good: starting again
    from nothing would overwrite what can perhaps be saved.
    """
    paths = sorted(Path(output_dir).glob("checkpoint-*.pd"))
    for path in sorted(paths, key=_age, reverse=True):
        try:
            read_checkpoint(path)
            return path
        except CheckpointError as error:
            log(f"passed over: {error}")
    if paths:
        raise CheckpointError(
            f"none of the {len(paths)} checkpoints in {output_dir} is good; move them away to start from the beginning"
        )
    return None


def _age(path: Path) -> tuple[int, int, int]:
    """(time written, epoch, step) by the header alone; unreadable files sort last and are verified like the others.

    The time is in the file because copies of a folder get times of their own.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            header = decode_header(start + file.read(min(int.from_bytes(start, "little"), path.stat().st_size)))
        texts = header["__metadata__"]
        meta = json_of_limited_size(texts["meta"])
        written = int(texts.get("written", 0))  # files of before 2026-11-21 lack it
        return written, int(meta["next_epoch"]), int(meta["next_step"])
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        return -1, -1, -1


def load_weights(path: str | Path, *, ema: bool = False) -> Weights:
    """Read weights; the format is recognised by the content.

    Known are a checkpoint of this project, a safetensors file, a pickle of paddle.save (a bare state dict as .pdparams,
    or PeleeNet-paddle's .pd) and a file of torch.save in both its forms. Nothing of a file runs, and PyTorch is not
    needed. `ema` asks for the moving average instead of the model.

    Raises:
        CheckpointError: the file is missing, damaged, crafted, of no known format, or has no such weights.
    """
    if not path:
        raise CheckpointError("no file of weights is named, and random weights are never used; give one with --resume")
    path = Path(path)
    data = _read(path)
    kind, sections, meta, layout, remarks = _format(data), {}, {}, "paddle", ()
    if kind == "checkpoint":
        checkpoint = _verified(path, data)
        sections, meta = {name: checkpoint.section(name) for name in ("model", "model_ema")}, checkpoint.meta
    elif kind == "safetensors":
        try:
            sections["model"], texts = decode(data)
        except (ValueError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{path} is a damaged safetensors file: {error}") from error
        layout = SAFETENSORS_LAYOUTS.get(texts.get("format"))
    elif kind == "pickle":
        sections, meta = read_pickle(data, path)
    elif kind == "pytorch":
        sections, remarks = read_torch_sections(data, path)
        layout = "torch"
    else:
        raise CheckpointError(f"{path} {FORMATS[kind]}")
    arrays = sections.get("model_ema" if ema else "model")
    if not arrays:
        raise CheckpointError(f"{path} holds no {'moving average (model_ema)' if ema else 'weights of a model'}")
    return Weights(path, arrays, meta, layout, tuple(remarks))


SAFETENSORS_LAYOUTS = {"pt": "torch", "pd": "paddle", "paddle": "paddle"}  # what writers put under "format"
FORMATS = {
    "checkpoint": "is a checkpoint of this project",
    "safetensors": "is a plain safetensors file: weights, but not a state of training",
    "pickle": "is a pickle, as Paddle writes it: weights can be read from it, but not a state of training",
    "pytorch": "is a file of torch.save: weights can be read from it, but not a state of training",
    "empty": "is empty (0 bytes)",
    "unknown": "is not a file of weights, or damaged in its first bytes",
}


def _format(data: bytes) -> str:
    """A key of FORMATS, by content: names and extensions are often wrong."""
    if not data:
        return "empty"
    if data[8 : CHECKSUM.start] == BEFORE_CHECKSUM:
        return "checkpoint"
    if data[8:9] == b"{":
        return "safetensors"
    # torch.save writes a zip archive since version 1.6, and before it a pickle that begins with this number; protocol 4
    # puts a frame before it.
    if data.startswith(b"PK\x03\x04") or b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" in data[:32]:
        return "pytorch"
    return "pickle" if data[:1] == b"\x80" else "unknown"


def _read(path: Path, size: int = -1) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except IsADirectoryError:
        names = sorted(file.name for file in path.glob("checkpoint-*.pd"))
        inside = f"; name a file in it: {', '.join(names)}" if names else " without checkpoints"
        raise CheckpointError(f"cannot read {path}: it is a folder{inside}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


# --- Into a model ---------------------------------------------------------------------------------------------------


def set_weights(model: "nn.Layer", arrays: Arrays, *, source: str | Path, trained_with: str = "") -> None:
    """Give the model exactly these weights; CheckpointError names what is missing, unexpected or of another shape.

    It also names the flags that the weights were `trained_with`, if they are known.
    """
    set_tensors(model.state_dict(), arrays, source=source, trained_with=trained_with)


def set_tensors(
    state: dict[str, "paddle.Tensor"], arrays: Arrays, *, source: str | Path, trained_with: str = ""
) -> None:
    """Give the tensors of `state`, which are a model's or its averages, exactly these values, or raise CheckpointError.

    Nothing is transposed, skipped or cast between kinds of numbers, and no tensor is touched if anything is wrong.
    """
    problems = [
        ("missing", [name for name in state if name not in arrays]),
        ("unexpected", [name for name in arrays if name not in state]),
        ("of another shape or type", list(_misfits(state, arrays))),
    ]
    if lines := [
        f"{len(names)} {what}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for what, names in problems if names
    ]:
        hint = f"\nit was trained with {trained_with}" if trained_with else ""
        if problems[0][1] or problems[1][1]:
            hint = f"\n{first_names(arrays, state)}{hint}"
        raise CheckpointError(f"{source} does not fit the model: {'; '.join(lines)}{hint}")
    for name in state:
        check_finite(name, arrays[name], source)
    for name, tensor in state.items():
        tensor.set_value(arrays[name].astype(tensor.numpy().dtype))


def check_finite(name: str, array: np.ndarray, source: object) -> None:
    """Raise CheckpointError if the tensor `name` of a file holds NaN or infinity."""
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        raise CheckpointError(
            f"{source}: {name} holds {int((~finite).sum())} of {array.size} values that are not finite (NaN or "
            "infinity); these weights cannot be used, take an earlier checkpoint"
        )


def _misfits(state: dict, arrays: Arrays) -> Iterator[str]:
    for name in state.keys() & arrays.keys():
        array, tensor = arrays[name], state[name]
        same_kind = (array.dtype.kind == "f") == tensor.is_floating_point()
        if list(array.shape) != list(tensor.shape) or not same_kind:
            yield f"{name} {list(array.shape)} {array.dtype} for {list(tensor.shape)} {tensor.numpy().dtype}"


def drop_head(arrays: Arrays, model: "nn.Layer", *, remove: bool = False) -> tuple[Arrays, list[str]]:
    """For fine-tuning: exchange the classifier (the last Linear) for the model's own fresh one if its shape differs.

    `remove` exchanges it in any case. Returns weights that `set_weights` takes as strictly as ever, and the names.
    """
    from paddle import nn

    state = model.state_dict()
    head = [name for name, layer in model.named_sublayers() if isinstance(layer, nn.Linear)][-1]
    names = [name for name in (f"{head}.weight", f"{head}.bias") if name in state]
    dropped = [n for n in names if remove or n not in arrays or list(arrays[n].shape) != list(state[n].shape)]
    return {**arrays, **{name: state[name].numpy() for name in dropped}}, dropped
