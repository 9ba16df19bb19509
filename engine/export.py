"""A model as a program file that needs no Python code of the project."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paddle
from paddle import nn
from paddle.static import InputSpec

SUFFIXES = (".json", ".pdmodel", ".pdiparams", ".pdiparams.info")


def export_program(
    model: nn.Layer, input_size: int, folder: str | Path, name: str = "model", *, batch_size: int | None = None
) -> list[Path]:
    """Write the model in evaluation mode, images x [B, 3, S, S] float32 -> logits, and return the files.

    B is `batch_size`, or any.

    These are `name.json` and `name.pdiparams`; or, if the environment had FLAGS_enable_pir_api=0 before Paddle was
    imported, `name.pdmodel`, `name.pdiparams` and `name.pdiparams.info`. Older ones of that name go: half of them
    would not fit the new ones. The model itself stays as it was.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / (name + suffix) for suffix in SUFFIXES]
    for file in files:
        file.unlink(missing_ok=True)
    was_training = model.training
    model.eval()
    images = InputSpec([batch_size, 3, input_size, input_size], "float32", "x")
    with _ctrl_c_waits():
        paddle.jit.save(model, str(folder / name), input_spec=[images])
    if was_training:
        model.train()
    return [file for file in files if file.exists()]


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """An exception that comes while Paddle 3.3.1 traces a program can end the process with a segmentation fault."""
    if threading.current_thread() is not threading.main_thread():  # which gets the signals
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
