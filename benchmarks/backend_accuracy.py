"""Does a fast decoder cost accuracy? PeleeNet on the digits as JPEGs, trained with every backend, several seeds each.

python -m benchmarks.backend_accuracy [--seeds 0 1 2]
"""

import argparse
import io
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from PIL import Image

from benchmarks.flags import add_output_flag, add_results_flag
from benchmarks.record import record
from common.cli import run as run_script
from datasets.digits import write_digits

ROOT = Path(__file__).parent.parent
BACKENDS = ("pil", "cv2", "turbo")
SIDE = 160  # of the JPEGs: crops of 124 to 160 pixels become 64, so they are decoded whole or by half, and shrunk
GRAIN = 16  # standard deviation of the noise, as of a sensor: without it, not to smooth would cost nothing
QUALITY = 95
MODEL = ("--model=peleenet", "--nb_classes=10", "--input_size=64", "--train_interpolation=bilinear", "--num_workers=0")
TRAINING = ("--config=configs/recipes/peleenet_digits.yaml", "--epochs=8")


def main(argv: Sequence[str] | None = None) -> None:
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
            results.append(score(data, backend, seed, flags.output_dir / f"{backend}_{seed}"))
            print(results[-1], flush=True)
    print(*table(results), sep="\n")
    record("backend_accuracy", flags.results, results=results)


def write_jpegs(folder: Path) -> Path:
    """The digits under their names, but as a camera would take them: larger, with grain, as JPEGs."""
    if (folder / "done").exists():
        return folder
    write_digits(folder)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        scan = np.asarray(Image.open(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)
        grain = np.random.default_rng(number).normal(0, GRAIN, scan.shape)
        file = io.BytesIO()
        Image.fromarray(np.clip(scan + grain, 0, 255).round().astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        path.write_bytes(file.getvalue())  # the content decides what a file is, not its name
    (folder / "done").touch()
    return folder


def score(data: Path, backend: str, seed: int, folder: Path) -> dict:
    """Train with `backend`, unless that was done before, and evaluate the last weights by Pillow and by `backend`."""
    lists = (f"--data_path={data}", f"--cls_label_path_val={data / 'val_list.txt'}")
    train_list = f"--cls_label_path_train={data / 'train_list.txt'}"
    if not (folder / "done").exists():
        how = (f"--image_backend={backend}", f"--seed={seed}", f"--output_dir={folder}")
        run("main.py", *TRAINING, *MODEL, *lists, train_list, *how)
        (folder / "done").touch()
    weights = f"--resume={folder / 'checkpoint-latest.pd'}"
    found = {}
    for by in ("pil", backend):
        printed = run("eval.py", *MODEL, *lists, weights, f"--eval_image_backend={by}")
        found[by] = float(re.findall(r"\* Acc@1 (\S+)", printed)[-1])
    return {"backend": backend, "seed": seed, "top1_percent": found["pil"], "top1_percent_by_itself": found[backend]}


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def table(results: list[dict]) -> list[str]:
    """A line for each backend: top-1 of every seed, their mean and deviation, and the difference to Pillow's mean."""
    lines, means = [], {}
    for backend in dict.fromkeys(result["backend"] for result in results):
        scores = [result["top1_percent"] for result in results if result["backend"] == backend]
        itself = fmean(result["top1_percent_by_itself"] for result in results if result["backend"] == backend)
        means[backend] = fmean(scores)
        spread = f" +- {stdev(scores):.2f}" if len(scores) > 1 else ""
        less = f", {means[backend] - means['pil']:+.2f} to pil" if "pil" in means else ""
        each = " ".join(f"{one:.2f}" for one in scores)
        lines.append(f"{backend:5s} {each}: mean {means[backend]:.2f}{spread}{less}; evaluated by itself {itself:.2f}")
    return lines


if __name__ == "__main__":
    run_script(main)
