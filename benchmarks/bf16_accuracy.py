"""Measures what bfloat16 costs in accuracy: networks trained on the digits of `make demo`, in fp32 and in bf16.

python -m benchmarks.bf16_accuracy [--models peleenet mobilenet_v3_small]
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml", "paddle", "openvino")

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.flags import add_output_flag, add_results_flag
from benchmarks.record import record
from benchmarks.scripts import run
from common.cli import positive_int
from common.cli import run as run_program
from datasets.digits import write_digits
from deploy.engine_base import EngineOptions, require_bfloat16
from deploy.predictor import open_predictor
from deploy.topk import softmax

MODELS = ("peleenet", "mobilenet_v3_small")
FLAGS = ("--nb_classes=10", "--input_size=64", "--train_interpolation=bilinear")
RECIPE = "--config=configs/recipes/peleenet_digits.yaml"
BATCH_SIZE = 32


def main(argv: Sequence[str] | None = None) -> None:
    """Train and export each model, classify the test images in both precisions, print a line and record the results.

    Raises:
        MissingDependencyError: this processor has no bfloat16.
        ProjectError: a training or an export failed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--epochs", type=positive_int, help="of the training; default: those of the recipe")
    add_output_flag(parser, "output/benchmarks/bf16_accuracy")
    add_results_flag(parser)
    flags = parser.parse_args(argv)
    require_bfloat16()
    data = flags.output_dir / "digits"
    if not (data / "val_list.txt").exists():
        write_digits(data)
    results = []
    for model in flags.models:
        exported = train_and_export(model, data, flags.output_dir / model, flags.epochs)
        results.append({"model": model, **score(exported, data)})
        print(line_of(results[-1]), flush=True)
    record("bf16_accuracy", flags.results, results=results)


def train_and_export(model: str, data: Path, folder: Path, epochs: int | None) -> Path:
    """Train `model` on the digits and export it as ONNX, unless `folder` has the export of an earlier run.

    Args:
        model: name of the model.
        data: folder of the digits and their lists.
        folder: of the run.
        epochs: None: those of the recipe.

    Raises:
        ProjectError: training or export failed.
    """
    exported = folder / "exported"
    if not (exported / "card.yaml").exists():
        lists = [f"--cls_label_path_{split}={data / f'{split}_list.txt'}" for split in ("train", "val")]
        length = [f"--epochs={epochs}"] if epochs else []
        where = [f"--data_path={data}", f"--output_dir={folder / 'train'}"]
        run("main.py", RECIPE, f"--model={model}", *FLAGS, *lists, *length, *where)
        checkpoint = f"--resume={folder / 'train' / 'checkpoint-best.pd'}"
        run("export_model.py", f"--model={model}", *FLAGS, checkpoint, f"--output_dir={exported}", "--format=onnx")
    return exported


def score(exported: Path, data: Path) -> dict:
    """Classify the test images by OpenVINO in fp32 and in bf16: both top-1, and how far the two are from each other."""
    lines = [line.rsplit(" ", 1) for line in (data / "val_list.txt").read_text(encoding="utf-8").splitlines()]
    labels = np.array([int(label) for _, label in lines])
    probabilities = {}
    for precision in ("fp32", "bf16"):
        options = EngineOptions(precision=precision, max_batch_size=BATCH_SIZE)
        predictor, logits = open_predictor(exported, engine="openvino", options=options), []
        for first in range(0, len(lines), BATCH_SIZE):
            files = [(data / path).read_bytes() for path, _ in lines[first : first + BATCH_SIZE]]
            logits.append(predictor.logits(predictor.preprocess(files)))
        probabilities[precision] = softmax(np.concatenate(logits))
    best = {precision: values.argmax(1) for precision, values in probabilities.items()}
    return {
        "num_images": len(labels),
        "fp32_top1_percent": float(100 * (best["fp32"] == labels).mean()),
        "bf16_top1_percent": float(100 * (best["bf16"] == labels).mean()),
        "num_other_classes": int((best["fp32"] != best["bf16"]).sum()),
        "largest_difference": float(np.abs(probabilities["fp32"] - probabilities["bf16"]).max()),
    }


def line_of(result: dict) -> str:
    """One line for people: accuracy in both precisions, images of another class, largest difference of a score."""
    fp32, bf16 = result["fp32_top1_percent"], result["bf16_top1_percent"]
    return (
        f"{result['model']}: top-1 {fp32:.2f} % in fp32, {bf16:.2f} % in bf16 ({bf16 - fp32:+.2f}); another class for "
        f"{result['num_other_classes']} of {result['num_images']} images; a score differs by at most "
        f"{result['largest_difference']:.4f}"
    )


if __name__ == "__main__":
    run_program(main)
