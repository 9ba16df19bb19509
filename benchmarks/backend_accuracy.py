"""Measures whether a fast decoder costs accuracy: PeleeNet on JPEGs of digits, with each backend and several seeds.

python -m benchmarks.backend_accuracy [--seeds 0 1 2]
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml", "paddle")

import argparse
import io
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from PIL import Image

from benchmarks.flags import add_output_flag, add_results_flag
from benchmarks.record import record
from benchmarks.scripts import run
from common.cli import run as run_program
from datasets.digits import write_digits

BACKENDS = ("pil", "cv2", "turbo")
SIDE = 160  # of the JPEGs in pixels: crops of 124 to 160 become 64, so the files are decoded at full or half size
GRAIN = 16  # standard deviation of the sensor noise: without noise a resize that does not smooth would cost nothing
QUALITY = 95  # of the JPEGs
MODEL = ("--model=peleenet", "--nb_classes=10", "--input_size=64", "--train_interpolation=bilinear", "--num_workers=0")
TRAINING = ("--config=configs/recipes/peleenet_digits.yaml", "--epochs=8")


def main(argv: Sequence[str] | None = None) -> None:
    """Train and evaluate with each backend and seed, print a table and record the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    add_output_flag(parser, "output/benchmarks/backend_accuracy")
    add_results_flag(parser)
    flags = parser.parse_args(argv)
    data = write_jpegs(flags.output_dir / "digits")
    results = []
    for seed in flags.seeds:
        for backend in flags.backends:
            results.append(train_and_score(data, backend, seed, flags.output_dir / f"{backend}_{seed}"))
            print(results[-1], flush=True)
    print(*table(results), sep="\n")
    record("backend_accuracy", flags.results, results=results)


def write_jpegs(folder: Path) -> Path:
    """Write the digits under their names as JPEGs that resemble photographs: larger, and with sensor noise."""
    if (folder / "done").exists():
        return folder
    write_digits(folder)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        enlarged = np.asarray(Image.open(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)
        grain = np.random.default_rng(number).normal(0, GRAIN, enlarged.shape)
        file = io.BytesIO()
        Image.fromarray(np.clip(enlarged + grain, 0, 255).round().astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        path.write_bytes(file.getvalue())  # the name ends in .png; readers go by the content
    (folder / "done").touch()
    return folder


def train_and_score(data: Path, backend: str, seed: int, folder: Path) -> dict:
    """Train with `backend`, and evaluate the last weights with Pillow and with `backend`.

    Args:
        data: folder of the digits and their lists.
        backend: image backend of the training.
        seed: seed of the training.
        folder: where the run is kept; a run that is complete is not trained again.

    Raises:
        ProjectError: training or evaluation failed.
    """
    lists = (f"--data_path={data}", f"--cls_label_path_val={data / 'val_list.txt'}")
    train_list = f"--cls_label_path_train={data / 'train_list.txt'}"
    if not (folder / "done").exists():
        settings = (f"--image_backend={backend}", f"--seed={seed}", f"--output_dir={folder}")
        run("main.py", *TRAINING, *MODEL, *lists, train_list, *settings)
        (folder / "done").touch()
    weights = f"--resume={folder / 'checkpoint-latest.pd'}"
    top1 = {}
    for eval_backend in ("pil", backend):
        printed = run("eval.py", *MODEL, *lists, weights, f"--eval_image_backend={eval_backend}")
        top1[eval_backend] = float(re.findall(r"\* Acc@1 (\S+)", printed)[-1])
    return {"backend": backend, "seed": seed, "top1_percent": top1["pil"], "top1_percent_by_itself": top1[backend]}


def table(results: list[dict]) -> list[str]:
    """Format one line per backend: top-1 of every seed, mean, standard deviation, difference to the mean of pil."""
    lines, means = [], {}
    for backend in dict.fromkeys(result["backend"] for result in results):
        scores = [result["top1_percent"] for result in results if result["backend"] == backend]
        own = fmean(result["top1_percent_by_itself"] for result in results if result["backend"] == backend)
        means[backend] = fmean(scores)
        spread = f" +- {stdev(scores):.2f}" if len(scores) > 1 else ""
        difference = f", {means[backend] - means['pil']:+.2f} to pil" if "pil" in means else ""
        each = " ".join(f"{score:.2f}" for score in scores)
        lines.append(
            f"{backend:5s} {each}: mean {means[backend]:.2f}{spread}{difference}; evaluated by itself {own:.2f}"
        )
    return lines


if __name__ == "__main__":
    run_program(main)
