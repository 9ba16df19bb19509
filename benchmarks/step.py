"""Measures a training step on a CPU in one run: our loop, a bare loop in Paddle, PyTorch, and reading JPEG files.

python -m benchmarks.step
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml", "paddle")

import argparse
import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.flags import add_results_flag
from benchmarks.layer_kinds import LayerKinds, measure_layer_kinds, print_layer_kinds
from benchmarks.pictures import draw_pictures
from benchmarks.record import record
from benchmarks.rotation import rotated, start_contender
from benchmarks.step_contenders import BARE, CONTENDERS, FROM_FILES, OURS, PLAIN, PYTORCH, Job, Round, run_contender
from common.cli import positive_int
from common.cli import run as run_program
from common.cpus import processor_name
from deploy.engine_base import format_threads

MODELS = ("peleenet", "mobilenet_v3_small", "alexnet")
NUM_PICTURES = 256
RATIOS = ((PLAIN, BARE), (OURS, BARE), (OURS, PYTORCH), (FROM_FILES, OURS))  # each within a round


@dataclass(frozen=True)
class Result:
    """One contender with one network: milliseconds per image, median and quartiles over the rounds."""

    model: str
    side: int
    batch_size: int
    num_threads: int
    contender: str
    median_ms: float
    quarter_ms: float
    three_quarter_ms: float
    waiting_percent: float
    peak_mb: float


@dataclass(frozen=True)
class Ratio:
    """The time of one contender as a multiple of another's: median and quartiles over the rounds."""

    model: str
    side: int
    num_threads: int
    of: str
    to: str
    median: float
    quarter: float
    three_quarter: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument(
        "--sides", type=positive_int, nargs="+", default=(224, 64), help="sides of the images in pixels"
    )
    parser.add_argument("--num_threads", type=positive_int, nargs="+", default=(1, 2))
    parser.add_argument("--batch_size", type=positive_int, default=16)
    parser.add_argument("--num_steps", type=positive_int, default=3, help="steps per round")
    parser.add_argument("--num_rounds", type=positive_int, default=10, help="rounds after one that is not counted")
    add_results_flag(parser)
    flags = parser.parse_args(argv)
    print(f"{processor_name()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    results, ratios = [], []
    kinds: list[LayerKinds] = []
    with tempfile.TemporaryDirectory() as folder:
        draw_pictures(Path(folder) / "train", NUM_PICTURES)
        for model in flags.models:
            for side in flags.sides:
                for num_threads in flags.num_threads:
                    job = Job(model, side, flags.batch_size, num_threads, folder)
                    rounds = measure(job, flags.num_steps, flags.num_rounds)
                    results += (found := summarize(job, rounds, flags.num_steps))
                    ratios += (compared := compare(job, rounds))
                    kinds.append(measure_layer_kinds(job))
                    print_table(found, compared)
                    print_layer_kinds(kinds[-1])
    record(
        "step",
        flags.results,
        results=[asdict(result) for result in results],
        ratios=[asdict(ratio) for ratio in ratios],
        layer_kinds=[kind._asdict() for kind in kinds],
    )


def measure(job: Job, num_steps: int, num_rounds: int) -> dict[str, list[Round]]:
    """Measure all contenders in rotation; PyTorch is left out, with a word, where it is not installed."""
    needed = ("torch",) if job.model == "peleenet" else ("torch", "torchvision")
    missing = [package for package in needed if not importlib.util.find_spec(package)]
    names = [name for name in CONTENDERS if name != PYTORCH or not missing]
    if missing:
        print(f"PyTorch is left out: {' and '.join(missing)} is not installed (make align)")
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(start_contender(name, run_contender, name, job)) for name in names}
        for number in range(-1, num_rounds):  # round -1 warms up
            for name in rotated(names, number):
                measured = processes[name].measure_round(num_steps)
                rounds[name] += [measured] * (number >= 0)
    return rounds


def summarize(job: Job, rounds: dict[str, list[Round]], num_steps: int) -> list[Result]:
    """Compute median and quartiles of each contender."""
    results = []
    for name, measured in rounds.items():
        each = np.array([one.seconds for one in measured]) * 1000 / (num_steps * job.batch_size)
        quarter, median, three_quarter = np.percentile(each, (25, 50, 75)).tolist()
        waiting = 100 * sum(one.waiting_seconds for one in measured) / sum(one.seconds for one in measured)
        peak = max(one.peak_mb for one in measured)
        results.append(Result(*job[:4], name, median, quarter, three_quarter, waiting, peak))
    return results


def compare(job: Job, rounds: dict[str, list[Round]]) -> list[Ratio]:
    """Compute the RATIOS of two contenders in the same round."""
    ratios = []
    for of, to in RATIOS:
        if of in rounds and to in rounds:
            each = [mine.seconds / other.seconds for mine, other in zip(rounds[of], rounds[to], strict=True)]
            quarter, median, three_quarter = np.percentile(each, (25, 50, 75)).tolist()
            ratios.append(Ratio(job.model, job.side, job.num_threads, of, to, median, quarter, three_quarter))
    return ratios


def print_table(results: list[Result], ratios: list[Ratio]) -> None:
    """Print the results with one network, image size and number of threads."""
    first = results[0]
    print(
        f"\n{first.model}, {first.side} pixels, batch {first.batch_size}, {format_threads(first.num_threads)}: ms per "
        "image (quartiles), images/s, waiting for images, peak memory"
    )
    for result in results:
        spread = f"({result.quarter_ms:.2f}..{result.three_quarter_ms:.2f})"
        rest = f"{1000 / result.median_ms:8.1f} {result.waiting_percent:5.1f} % {result.peak_mb:7.0f} MB"
        print(f"  {result.contender:22s} {result.median_ms:8.2f} {spread:18s} {rest}")
    for ratio in ratios:
        spread = f"({ratio.quarter:.3f}..{ratio.three_quarter:.3f})"
        print(f"  {ratio.of} / {ratio.to}: {ratio.median:.3f} {spread}", flush=True)


if __name__ == "__main__":
    run_program(main)
