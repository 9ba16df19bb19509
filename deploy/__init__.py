"""Run exported folders: card, engines, predictor and benchmark report; `load` opens one from Python."""

import os
from typing import TYPE_CHECKING

from common.own_packages import check_own_packages

if TYPE_CHECKING:
    from .classifier import Classifier

check_own_packages()  # before the first import of `datasets`, which is also the name of another library


def load(
    path: str | os.PathLike,
    *,
    engine: str = "auto",
    device: str = "auto",
    num_threads: int | None = None,
    precision: str = "fp32",
    label_list: str | None = None,
    trust_program: bool = False,
    use_ema: bool = False,
) -> "Classifier":
    """Load an exported folder or a checkpoint: `load("output/own/exported").predict("a.jpg").label`.

    With ONNX Runtime or OpenVINO Paddle is not imported. A checkpoint needs the packages of the training; only then
    `factory` is imported, which is the one exception to the table of imports in docs/design.md.

    Args:
        path: folder that export_model.py wrote, a program in it, or a file of weights that main.py wrote.
        engine: of an exported folder: "paddle", "onnxruntime", "openvino", or "auto" for the fastest.
        device: "cpu", "gpu", or "auto", which takes a GPU where there is one.
        num_threads: on a CPU; None: one per usable processor. For a checkpoint Paddle reads it at its import alone.
        precision: of an exported folder: "fp32", "bf16" on a CPU with bfloat16, or "int8" for its INT8 program.
        label_list: file of class names to use instead of those of the folder or the checkpoint.
        trust_program: also run a program of an exported folder that export_model.py did not write.
        use_ema: take the averaged weights of a checkpoint.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DataError: `label_list` does not fit.
        EngineOptionError: the engine cannot do what was asked for.
        ExportedModelError: the exported folder cannot be used.
        MissingDependencyError: a runtime or a device is missing.
        UsageError: no such path, or an argument that does not fit it.
    """
    from pathlib import Path

    from common.errors import UsageError

    from .classifier import PRECISIONS, Classifier, is_exported, open_exported, python_words
    from .engines import ENGINES

    path = Path(os.path.expanduser(os.fspath(path)))
    for name, value, known in (
        ("engine", engine, ("auto", *ENGINES)),
        ("device", device, ("auto", "cpu", "gpu")),
        ("precision", precision, PRECISIONS),
    ):
        if value not in known:
            raise UsageError(f"{name}: expected {', '.join(known)}, got {value!r}")
    with python_words():
        if is_exported(path):
            if use_ema:
                raise UsageError(
                    "use_ema: an exported folder has one set of weights; export_model.py --use_ema takes it"
                )
            predictor = open_exported(path, engine, device, num_threads, label_list, trust_program, precision)
        else:
            if engine not in ("auto", "paddle"):
                raise UsageError(f"engine={engine!r} runs exported folders, and {path} is a file of weights: export it")
            if precision != "fp32":
                raise UsageError(
                    f"precision={precision!r} is of exported folders; {path} is a file of weights: export it"
                )
            from factory.trained_predictor import open_trained

            predictor = open_trained(
                str(path), label_list=label_list or "", use_ema=use_ema, device=device, num_threads=num_threads
            )
    return Classifier(predictor, str(path))
