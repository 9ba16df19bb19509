"""Measures images per second from files to batches: every backend and shards beside the peers, in one run.

python -m benchmarks.loader --images FOLDER [--quick]
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml", "paddle")

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.flags import add_output_flag, add_results_flag
from benchmarks.loader_peers import PEERS, Job
from benchmarks.record import record
from common.cli import non_negative_int, positive_int
from common.cli import run as run_program
from common.cpus import processor_name
from common.errors import DataError
from common.figure_fonts import import_pyplot
from common.files import atomic_write
from common.processes import children
from configs.schema import AugmentConfig, PreprocessConfig, TrainLoaderConfig
from datasets.augment.transforms import build_train_transform
from datasets.loading.sampler import TrainSampler
from datasets.pack import main as pack
from datasets.preprocess import Preprocess
from datasets.reading.dataset import open_dataset
from datasets.reading.image_folder import find_images, scan_image_folder

SIDE = 224  # of the images in pixels
# contenders of the project: the source of the images, and the backend
OURS = {
    "ours, pil": ("files", "pil"),
    "ours, cv2": ("files", "cv2"),
    "ours, turbo": ("files", "turbo"),
    "ours, turbo, shards": ("as_is", "turbo"),
    "ours, turbo, shards of short side 320": ("jpeg", "turbo"),
    "ours, turbo, raw shards of short side 320": ("raw", "turbo"),
}
SHARDS = {"as_is": [], "jpeg": ["--short_side=320"], "raw": ["--short_side=320"]}


@dataclass(frozen=True)
class Result:
    """Images per second of one contender over all rounds, and its costs."""

    contender: str
    num_workers: int
    images_per_second: float  # median
    lowest: float
    highest: float
    bytes_per_image: int  # sent by a worker
    worker_mb: float  # resident memory of all workers without shared memory; 0 in one process
    num_rounds: int


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all contenders, print a table, record the results and plot them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="JPEG files, repeated until there are enough")
    parser.add_argument("--num_images", type=positive_int, default=2048, help="images per epoch")
    parser.add_argument("--batch_size", type=positive_int, default=64, help="images per batch")
    parser.add_argument(
        "--num_workers", type=non_negative_int, nargs="+", default=(0, 2), help="0: one process on one core"
    )
    parser.add_argument("--num_rounds", type=positive_int, default=7, help="timed epochs of each contender")
    parser.add_argument("--quick", action="store_true", help="256 images, 3 rounds: under three minutes")
    add_output_flag(parser, "output/benchmarks")
    add_results_flag(parser)
    flags = parser.parse_args(argv)
    if flags.quick:
        flags.num_images, flags.num_rounds, flags.batch_size = 256, 3, 32
    if flags.num_images < 2 * flags.batch_size:
        parser.error(f"--num_images {flags.num_images} is less than two batches of {flags.batch_size}")
    print(f"{processor_name()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        job = write_sources(flags.images, Path(folder), flags.num_images, flags.batch_size)
        for num_workers in flags.num_workers:
            results += measure(contenders(job, num_workers), num_workers, flags)
            print_table(results, num_workers)
    record("loader", flags.results, results=[asdict(result) for result in results])
    plot(results, flags.output_dir / "loader.png")


def write_sources(images: str, folder: Path, count: int, batch_size: int) -> Job:
    """Write links to the images as class folders, and the same images as shards of each kind.

    Args:
        images: file or folder of JPEGs, which are repeated until there are `count`.
        folder: where links and shards are written.
        count: number of images.
        batch_size: images per batch of the job.

    Raises:
        DataError: there are no images, or the shards cannot be written.
    """
    for index, path in zip(range(count), itertools.cycle(find_images(images)), strict=False):
        link = folder / "train" / f"{index % 4}" / f"{index:06d}{Path(path).suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(path).resolve())
    for store, flags in SHARDS.items():
        if pack([f"--data_path={folder}", f"--output_dir={folder / store}", f"--store={store}", *flags]):
            raise DataError(f"{images}: the shards of --store={store} cannot be written; see above")
    paths = scan_image_folder(folder / "train")
    return Job(folder, [paths.path(i) for i in range(len(paths))], batch_size, SIDE)


def contenders(job: Job, num_workers: int) -> dict[str, Callable[[], Iterator]]:
    """Create one function per contender that starts an epoch; a peer whose package is missing is left out."""
    epochs_of = {name: our_epochs(job, *source, num_workers) for name, source in OURS.items()}
    for name, prepare in PEERS.items():
        try:
            epochs_of[name] = prepare(job, num_workers)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return {name: epochs for name, epochs in epochs_of.items() if epochs is not None}


def our_epochs(job: Job, source: str, backend: str, num_workers: int) -> Callable[[], Iterator]:
    """Create the function that starts an epoch of the project's own loader.

    Args:
        job: images and batch size.
        source: "files", or a key of SHARDS.
        backend: image backend.
        num_workers: worker processes; 0 reads in this process.
    """
    from datasets.loading.loader import TrainLoader

    images = open_dataset(job.folder if source == "files" else job.folder / source, "train", None, 4)
    preprocess = Preprocess(job.side)
    transform = build_train_transform(AugmentConfig(aa=""), PreprocessConfig(job.side, "bilinear"))
    sampler = TrainSampler(len(images), job.batch_size, 1, 0, 1, seed=0)
    config = TrainLoaderConfig(job.batch_size, num_workers, image_backend=backend)
    loader = TrainLoader(images, transform, preprocess, sampler, config)
    epoch = itertools.count()
    return lambda: loader.batches(next(epoch))


def measure(epochs: dict[str, Callable[[], Iterator]], num_workers: int, flags) -> list[Result]:
    """Time one epoch of each contender per round; the order rotates, so that other load affects all contenders."""
    names = list(epochs)
    speeds, sizes, memory = {name: [] for name in names}, {}, {}
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {}
    if num_workers == 0 and usable:
        os.sched_setaffinity(0, {max(usable)})
    for round_number in range(-1, flags.num_rounds):  # round -1 warms up
        first = round_number % len(names)
        for name in names[first:] + names[:first]:
            speed, megabytes = time_epoch(epochs[name])
            sizes[name] = 3 * SIDE**2 * (4 if name in PEERS else 1)
            if round_number < 0:  # the project's own loaders keep their processes from here on
                memory[name] = megabytes
            else:
                speeds[name].append(speed)
    if num_workers == 0 and usable:
        os.sched_setaffinity(0, usable)
    return [
        Result(
            name,
            num_workers,
            *(float(value) for value in (np.median(values), min(values), max(values))),
            bytes_per_image=sizes[name],
            worker_mb=memory[name],
            num_rounds=flags.num_rounds,
        )
        for name, values in speeds.items()
    ]


def time_epoch(start_epoch: Callable[[], Iterator]) -> tuple[float, float]:
    """Time one epoch: (images per second after the first batch, MB of the processes that the epoch started)."""
    before = worker_pids()
    batches = start_epoch()
    next(batches)  # starts the processes
    megabytes = private_mb(worker_pids() - before)
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch[1])
    return count / (time.perf_counter() - start), megabytes


def worker_pids() -> set[int]:
    """Process ids of the living children of this process (Linux; none elsewhere)."""
    return {process.pid for process in children(os.getpid()) if process.is_alive}


def private_mb(pids: set[int]) -> float:
    """Sum up the memory in MB that each process shares with no other."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def print_table(results: list[Result], num_workers: int) -> None:
    """Print the results with `num_workers`, the fastest first."""
    rows = [result for result in results if result.num_workers == num_workers]
    base = next(result for result in rows if result.contender == "PeleeNet-paddle's").images_per_second
    where = f"{num_workers} workers" if num_workers else "one process, one core"
    print(f"\n{where}: images/s (lowest..highest), times PeleeNet-paddle's, kB per image, MB of workers")
    for result in sorted(rows, key=lambda result: -result.images_per_second):
        spread = f"({result.lowest:.0f}..{result.highest:.0f})"
        costs = f"{result.bytes_per_image / 1024:5.0f} {result.worker_mb:6.0f}"
        ratio = result.images_per_second / base
        print(f"  {result.contender:44s} {result.images_per_second:7.0f} {spread:14s} x{ratio:.2f} {costs}", flush=True)


def plot(results: list[Result], path: Path) -> None:
    """Plot one panel per number of workers into the file `path`."""
    pyplot = import_pyplot("the figure needs matplotlib")
    panels = sorted({result.num_workers for result in results})
    figure, axes = pyplot.subplots(len(panels), squeeze=False, figsize=(9, 3.6 * len(panels)), layout="constrained")
    for num_workers, axis in zip(panels, axes[:, 0], strict=True):
        bars = [result for result in results if result.num_workers == num_workers]
        bars.sort(key=lambda result: result.images_per_second)
        medians = np.array([bar.images_per_second for bar in bars])
        spread = [medians - [bar.lowest for bar in bars], [bar.highest for bar in bars] - medians]
        colours = ["tab:gray" if bar.contender in PEERS else "tab:blue" for bar in bars]
        axis.barh([bar.contender for bar in bars], medians, xerr=spread, color=colours)
        axis.set_xlabel("images/s (median; line: lowest to highest round)")
        axis.set_title(f"{num_workers} workers" if num_workers else "one process, one core")
    with atomic_write(path) as file:
        figure.savefig(file, dpi=120, format="png")
    print(f"\n{path}")


if __name__ == "__main__":
    run_program(main)
