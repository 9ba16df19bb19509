"""Weights of any file format, and how they get into a model: by exact names, shapes and types, or not at all."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.errors import CheckpointError

from .checkpoint import verify_checkpoint
from .paddle_pickle import read_pickle
from .safetensors_io import decode
from .torch_weights import read_torch_sections
from .weight_names import first_names, to_paddle_names
from .weights_format import FORMATS, read_bytes, recognise_format

if TYPE_CHECKING:
    import paddle
    from paddle import nn

SAFETENSORS_LAYOUTS = {"pt": "torch", "pd": "paddle", "paddle": "paddle"}  # values of "format" in safetensors files

Arrays = dict[str, np.ndarray]
logger = logging.getLogger(__name__)


class Weights(NamedTuple):
    """Parameters and statistics of a file that `load_weights` read.

    Attributes:
        path: the file.
        arrays: by the names of the file.
        meta: JSON values of a checkpoint, or what a foreign file tells of its training.
        layout: "paddle" or "torch"; None where the file does not tell whose names and layouts it has.
        remarks: what was done to find the weights, for the log.
    """

    path: Path
    arrays: Arrays
    meta: dict
    layout: str | None = "paddle"
    remarks: tuple[str, ...] = ()

    def for_model(self, model: "nn.Layer") -> "Weights":
        """Translate the weights to the names and layouts of `model`; what was done is logged.

        Raises:
            CheckpointError: no name of the file is one of the model's, or the layout stays in doubt.
        """
        arrays, remarks = to_paddle_names(
            self.arrays, model, layout=self.layout, source=self.path, trained_with=self.trained_with
        )
        for remark in (*self.remarks, *remarks):
            logger.warning(f"{self.path}: {remark}")
        return self._replace(arrays=arrays, layout="paddle", remarks=())

    def load_into(self, model: "nn.Layer") -> None:
        """Set the tensors of `model` to these weights; what was done to the names is logged.

        Raises:
            CheckpointError: names what is missing, unexpected or of another shape.
        """
        set_weights(model, self.for_model(model).arrays, source=self.path, trained_with=self.trained_with)

    @property
    def trained_with(self) -> str:
        """The flags that decide which weights fit, as far as the file tells them."""
        args = self.meta.get("info", {}).get("args", {})
        return " ".join(f"--{name} {args[name]}" for name in ("model", "nb_classes") if name in args)


def load_weights(path: str | Path, *, ema: bool = False) -> Weights:
    """Read the weights of a file; the format is recognised by the content.

    The formats are a checkpoint of this project, a safetensors file, a pickle of paddle.save (a bare state dict as
    .pdparams, or PeleeNet-paddle's .pd) and a file of torch.save in both its forms. No code of a file runs, and PyTorch
    is not needed. `ema` reads the moving average instead of the model.

    Raises:
        CheckpointError: the file is missing, damaged, crafted, of no known format, or has no such weights.
    """
    if not path:
        raise CheckpointError(
            "no file of weights is named, and random weights are never used; give one with --resume, or --pretrained"
        )
    path = Path(path)
    data = read_bytes(path)
    file_format, sections, meta, layout, remarks = recognise_format(data), {}, {}, "paddle", ()
    if file_format == "checkpoint":
        checkpoint = verify_checkpoint(path, data)
        sections, meta = {name: checkpoint.section(name) for name in ("model", "model_ema")}, checkpoint.meta
    elif file_format == "safetensors":
        try:
            sections["model"], texts = decode(data)
        except (ValueError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{path} is a damaged safetensors file: {error}") from error
        layout = SAFETENSORS_LAYOUTS.get(texts.get("format"))
    elif file_format == "pickle":
        sections, meta = read_pickle(data, path)
    elif file_format == "pytorch":
        sections, remarks = read_torch_sections(data, path)
        layout = "torch"
    else:
        raise CheckpointError(f"{path} {FORMATS[file_format]}")
    arrays = sections.get("model_ema" if ema else "model")
    if not arrays:
        raise CheckpointError(f"{path} holds no {'moving average (model_ema)' if ema else 'weights of a model'}")
    return Weights(path, arrays, meta, layout, tuple(remarks))


# --- Into a model ---------------------------------------------------------------------------------------------------


def set_weights(model: "nn.Layer", arrays: Arrays, *, source: str | Path, trained_with: str = "") -> None:
    """Set the tensors of a model to the arrays; the arguments are those of `set_tensors`.

    Raises:
        CheckpointError: names what is missing, unexpected, of another shape or type, or not finite.
    """
    set_tensors(model.state_dict(), arrays, source=source, trained_with=trained_with)


def set_tensors(
    state: dict[str, "paddle.Tensor"], arrays: Arrays, *, source: str | Path, trained_with: str = ""
) -> None:
    """Set tensors to arrays of the same names.

    Nothing is transposed, skipped, or cast between kinds of numbers, and no tensor is changed if anything is wrong.

    Args:
        state: tensors of a model or of its moving average.
        arrays: one array for each tensor.
        source: name of the file, for messages.
        trained_with: flags with which the weights were trained, for messages.

    Raises:
        CheckpointError: names what is missing, unexpected, of another shape or type, or not finite.
    """
    problems = [
        ("missing", [name for name in state if name not in arrays]),
        ("unexpected", [name for name in arrays if name not in state]),
        ("of another shape or type", list(_misfits(state, arrays))),
    ]
    if lines := [
        f"{len(names)} {what}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for what, names in problems if names
    ]:
        first = f"it was trained with {trained_with}\n" if trained_with else ""
        names = f"\n{first_names(arrays, state)}" if problems[0][1] or problems[1][1] else ""
        raise CheckpointError(f"{source} does not fit the model: {first}{'; '.join(lines)}{names}")
    for name in state:
        check_finite(name, arrays[name], source)
    for name, tensor in state.items():
        tensor.set_value(arrays[name].astype(tensor.numpy().dtype))


def check_finite(name: str, array: np.ndarray, source: object) -> None:
    """Check that the tensor `name` of a file has finite values only.

    Raises:
        CheckpointError: the tensor holds NaN or infinity.
    """
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        raise CheckpointError(
            f"{source}: {name} holds {int((~finite).sum())} of {array.size} values that are not finite (NaN or "
            "infinity); these weights cannot be used, take an earlier checkpoint"
        )


def _misfits(state: dict, arrays: Arrays) -> Iterator[str]:
    for name in [name for name in state if name in arrays]:
        array, tensor = arrays[name], state[name]
        same_kind = (array.dtype.kind == "f") == tensor.is_floating_point()
        if list(array.shape) != list(tensor.shape) or not same_kind:
            yield f"{name} {list(array.shape)} {array.dtype} for {list(tensor.shape)} {tensor.numpy().dtype}"


def drop_head(arrays: Arrays, model: "nn.Layer", *, remove: bool = False) -> tuple[Arrays, list[str]]:
    """Replace the weights of the classifier (the last Linear) by those of the model, if their shapes differ.

    Args:
        arrays: weights of a file, by the names of the model.
        model: with a new classifier.
        remove: replace the classifier in any case.

    Returns:
        The weights for `set_weights`, and the names that were replaced.
    """
    state = model.state_dict()
    head = find_head(model)
    names = [name for name in (f"{head}.weight", f"{head}.bias") if name in state]
    dropped = [n for n in names if remove or n not in arrays or list(arrays[n].shape) != list(state[n].shape)]
    return {**arrays, **{name: state[name].numpy() for name in dropped}}, dropped


def find_head(model: "nn.Layer") -> str:
    """Find the name of the classifier: the last Linear."""
    from paddle import nn

    return [name for name, layer in model.named_sublayers() if isinstance(layer, nn.Linear)][-1]
