"""A model as a program file that needs no Python code of the project."""

from pathlib import Path

import paddle
from paddle import nn
from paddle.static import InputSpec


def export_program(model: nn.Layer, input_size: int, folder: str | Path, name: str = "model") -> list[Path]:
    """Write the model in evaluation mode, images [any, 3, S, S] float32 -> logits, and return the files.

    These are `name.json` and `name.pdiparams`; or, if the environment had FLAGS_enable_pir_api=0 before Paddle was
    imported, `name.pdmodel`, `name.pdiparams` and `name.pdiparams.info`. The model itself stays as it was.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    was_training, forward = model.training, model.forward
    model.eval()
    images = InputSpec([None, 3, input_size, input_size], "float32", "x")
    try:
        paddle.jit.save(paddle.jit.to_static(model, input_spec=[images], full_graph=True), str(folder / name))
    finally:
        model.forward = forward  # to_static exchanges it in place
        if was_training:
            model.train()
    return sorted(
        path for path in folder.glob(f"{name}.*") if path.suffix in (".json", ".pdmodel", ".pdiparams", ".info")
    )
