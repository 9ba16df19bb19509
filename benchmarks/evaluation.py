"""Measures eval.py and predict.py on a CPU in one run: the eager model on one thread and on all, and the default.

python -m benchmarks.evaluation
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml", "paddle")

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.flags import add_results_flag
from benchmarks.pictures import draw_pictures
from benchmarks.record import record
from benchmarks.rotation import rotated
from common.cli import positive_int
from common.cli import run as run_program
from common.cpus import processor_name
from common.errors import ProjectError

ROOT = Path(__file__).parents[1]
MODELS = ("peleenet", "mobilenet_v3_small", "alexnet")
SCRIPTS = ("eval.py", "predict.py")
ONE_THREAD, EAGER, DEFAULT = "eager, 1 thread", "eager, all threads", "default"
WAYS = {ONE_THREAD: ["--eager=True", "--cpu_threads=1"], EAGER: ["--eager=True"], DEFAULT: []}


@dataclass(frozen=True)
class Result:
    """One script with one network in one way: images per second of the whole program, median and quartiles.

    `ratio` is to the eager model on one thread in the same round.
    """

    script: str
    model: str
    way: str
    images_per_second: float
    quarter: float
    three_quarter: float
    ratio: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--num_images", type=positive_int, default=512, help="JPEG files of 500 x 375 pixels")
    parser.add_argument("--num_rounds", type=positive_int, default=5)
    parser.add_argument("--scripts", nargs="+", default=SCRIPTS, choices=SCRIPTS)
    add_results_flag(parser)
    flags = parser.parse_args(argv)
    print(f"{processor_name()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        draw_pictures(Path(folder) / "val", flags.num_images)
        write_list(Path(folder))
        for model in flags.models:
            write_random_weights(model, Path(folder) / f"{model}.pd")
            for script in flags.scripts:
                command = commands(Path(folder), model)[script]
                found = summarize(script, model, measure(command, flags.num_rounds), flags.num_images)
                print_table(found)
                results += found
    record("evaluation", flags.results, num_images=flags.num_images, results=[asdict(result) for result in results])


def write_list(folder: Path) -> None:
    """Write the list of the pictures: weights of 1000 classes do not fit the few class folders."""
    paths = sorted((folder / "val").glob("*/*.jpg"))
    lines = [f"{path.relative_to(folder).as_posix()} {path.parent.name}\n" for path in paths]
    (folder / "val_list.txt").write_text("".join(lines), encoding="utf-8")


def write_random_weights(name: str, path: Path) -> None:
    """Write a checkpoint with random weights, whose values do not change the speed."""
    import paddle

    from datasets.preprocess import Preprocess
    from engine.checkpoint import write_checkpoint
    from models import create_model

    paddle.seed(0)
    tensors = {f"model/{key}": value.numpy() for key, value in create_model(name).state_dict().items()}
    info = {"args": {"model": name, "nb_classes": 1000}, "preprocess": Preprocess().to_dict()}
    write_checkpoint(path, tensors, {"next_epoch": 1, "next_step": 0, "epoch": 0, "info": info})


def commands(folder: Path, model: str) -> dict[str, list[str]]:
    """The command line of each script, as a user types it."""
    weights, images = f"--resume={folder / model}.pd", f"--cls_label_path_val={folder / 'val_list.txt'}"
    return {
        "eval.py": [sys.executable, "eval.py", weights, f"--data_path={folder}", images],
        "predict.py": [sys.executable, "predict.py", weights, f"--infer_imgs={folder / 'val'}", "--batch_size=8"],
    }


def measure(command: list[str], num_rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of a script in all WAYS, in rotation, after a round that is not counted.

    Raises:
        ProjectError: the script failed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(-1, num_rounds):
        for way in rotated(list(WAYS), number):
            start = time.perf_counter()
            done = subprocess.run([*command, *WAYS[way]], cwd=ROOT, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise ProjectError(f"{' '.join(command)} failed:\n{done.stderr}")
            seconds[way] += [time.perf_counter() - start] * (number >= 0)
    return seconds


def summarize(script: str, model: str, seconds: dict[str, list[float]], num_images: int) -> list[Result]:
    """Compute images per second, and the ratio to ONE_THREAD in the same round.

    Args:
        script: its name, for the result.
        model: its name, for the result.
        seconds: of each round, by way.
        num_images: images of one run.
    """
    results = []
    for way, values in seconds.items():
        quarter, median, three_quarter = np.percentile(num_images / np.array(values), (25, 50, 75)).tolist()
        ratio = float(np.median(np.array(seconds[ONE_THREAD]) / values))
        results.append(Result(script, model, way, median, quarter, three_quarter, ratio))
    return results


def print_table(results: list[Result]) -> None:
    """Print the results of one script with one network."""
    print(f"\n{results[0].script}, {results[0].model}: images/s (quartiles), times the eager model on one thread")
    for result in results:
        spread = f"({result.quarter:.1f}..{result.three_quarter:.1f})"
        print(f"  {result.way:20s} {result.images_per_second:8.1f} {spread:18s} x{result.ratio:.2f}", flush=True)


if __name__ == "__main__":
    run_program(main)
