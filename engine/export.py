"""Export of a model as a program file that runs without the Python code of the project."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dis import get_instructions
from pathlib import Path

import paddle
from paddle import nn
from paddle.jit.dy2static.utils import TransformOptions
from paddle.static import InputSpec

SUFFIXES = (".json", ".pdmodel", ".pdiparams", ".pdiparams.info")


def export_program(
    model: nn.Layer, input_size: int, folder: str | Path, name: str = "model", *, batch_size: int | None = None
) -> list[Path]:
    """Write the model in evaluation mode as a program: images x [B, 3, S, S] float32 -> logits [B, C].

    The files are `name.json` and `name.pdiparams`; or, if the environment had FLAGS_enable_pir_api=0 before Paddle was
    imported, `name.pdmodel`, `name.pdiparams` and `name.pdiparams.info`. Older files of all these names are removed:
    program and weights of two exports do not fit each other.

    Args:
        model: left in the mode (training or evaluation) in which it was.
        input_size: side S of the images in pixels.
        folder: where the files are written; created if it is missing.
        name: file name without extension.
        batch_size: B; None allows any number of images.

    Returns:
        The files that were written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / (name + suffix) for suffix in SUFFIXES]
    for file in files:
        file.unlink(missing_ok=True)
    was_training = model.training
    model.eval()
    images = InputSpec([batch_size, 3, input_size, input_size], "float32", "x")
    with _ctrl_c_deferred(), _temporary_home(folder), _without_call_stacks():
        try:
            with _traced_as_written(model):
                paddle.jit.save(model, str(folder / name), input_spec=[images])
        except TypeError:  # of a branch on values in a function that a forward calls
            paddle.jit.save(model, str(folder / name), input_spec=[images])
    if was_training:
        model.train()
    return [file for file in files if file.exists()]


def append_softmax(model: nn.Layer, temperature: float = 1.0) -> nn.Layer:
    """The model followed by a division by `temperature`, if that is not 1, and a softmax over its logits [B, C]."""
    division = [] if temperature == 1 else [_Division(temperature)]
    return nn.Sequential(model, *division, nn.Softmax(axis=-1))


class _Division(nn.Layer):
    """Divides by a constant."""

    def __init__(self, divisor: float):
        super().__init__()
        self._divisor = divisor

    def forward(self, values: paddle.Tensor) -> paddle.Tensor:
        return values / self._divisor


@contextmanager
def _traced_as_written(model: nn.Layer) -> Iterator[None]:
    """Let Paddle run each `forward` without a branch as it is, and not translate its source code first.

    The translation is for branches on the values of tensors. Without one the program is the same, byte for
    byte, in less than half the time: PeleeNet in 1.3 s instead of 3.1 s on one core.
    """
    kinds = {type(layer) for layer in model.sublayers(include_self=True)}
    forwards = {kind.forward for kind in kinds if not kind.forward.__module__.startswith("paddle.")}
    plain = [forward for forward in forwards if not any("_IF_" in step.opname for step in get_instructions(forward))]
    marked = [forward for forward in plain if not hasattr(forward, TransformOptions.TRANSFORM_OPTIONS_ATTR_NAME)]
    for forward in marked:
        paddle.jit.not_to_static(forward)
    try:
        yield
    finally:
        for forward in marked:
            delattr(forward, TransformOptions.TRANSFORM_OPTIONS_ATTR_NAME)


@contextmanager
def _without_call_stacks() -> Iterator[None]:
    """Let Paddle 3.3.1 note no call stack with each operator; a traceback that is printed later is whole.

    The call stacks take half the time, PeleeNet 1.3 s instead of 0.6 s on one core, and a .pdmodel keeps some of them,
    which name folders of the machine.
    """
    before = getattr(sys, "tracebacklimit", None)
    sys.tracebacklimit = 0
    try:
        yield
    finally:
        if before is None:
            del sys.tracebacklimit
        else:
            sys.tracebacklimit = before


@contextmanager
def _temporary_home(parent: Path) -> Iterator[None]:
    """Set HOME to a folder in `parent`: Paddle 3.3.1 writes what it traces to ~/.cache, which may not be writable.

    The folder goes with `parent` if the export is killed.
    """
    names = ("HOME", "USERPROFILE")  # of POSIX, of Windows
    before = {name: os.environ[name] for name in names if name in os.environ}
    with tempfile.TemporaryDirectory(prefix=".home-", dir=parent) as folder:
        os.environ.update(dict.fromkeys(names, folder))
        try:
            yield
        finally:
            for name in names:
                del os.environ[name]
            os.environ.update(before)


@contextmanager
def _ctrl_c_deferred() -> Iterator[None]:
    """Delay Ctrl-C to the end of the context: an exception while Paddle 3.3.1 traces can cause a segmentation fault."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    arrived = []
    before = signal.signal(signal.SIGINT, lambda *_: arrived.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if arrived:
        raise KeyboardInterrupt
