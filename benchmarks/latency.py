"""Measures the latency of every engine on every model in one run: each engine in a process of its own, in rotation.

python -m benchmarks.latency --output_dir output/benchmarks
python -m benchmarks.latency --contenders openvino "openvino bf16" --batch_sizes 1 8 32
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml", "paddle")

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.flags import add_output_flag, add_results_flag
from benchmarks.record import record
from benchmarks.rotation import ContenderProcess, rotated, start_contender
from common.cli import positive_int
from common.cli import run as run_program
from common.cpus import has_bfloat16, processor_name
from common.figure_fonts import import_pyplot
from common.files import atomic_write
from deploy.engine_base import EngineOptions, format_threads
from models import list_models

MODELS = ("peleenet", "mobilenet_v3_small", "alexnet")
SIDE = 224
WARM_UP_BATCHES, TIMED_BATCHES = 2, 3  # per round


class Contender(NamedTuple):
    """An engine, its program in the exported folder, its options, and the largest batch size of the program."""

    engine: str
    program: str
    options: dict
    max_batch_size: float = float("inf")


CONTENDERS = {
    "paddle": Contender("paddle", "model.json", {}),
    "paddle oneDNN": Contender("paddle", "model.json", {"onednn": True}),
    "paddle pdmodel oneDNN": Contender("paddle", "model.pdmodel", {"onednn": True}),
    "paddle pdmodel OpenVINO": Contender("paddle", "model.pdmodel", {"openvino": True}),
    "paddle pdmodel-b1 OpenVINO": Contender("paddle", "model_b1.pdmodel", {"openvino": True}, 1),
    "onnxruntime": Contender("onnxruntime", "model.onnx", {}),
    "OpenVINO alone": Contender("", "model.onnx", {}),
    "openvino": Contender("openvino", "model.onnx", {}),
    "openvino bf16": Contender("openvino", "model.onnx", {"precision": "bf16"}),
    "auto": Contender("auto", "", {}),
}
PEERS = ("onnxruntime", "OpenVINO alone")  # the runtimes as their own documentation calls them
BF16 = "openvino bf16"


@dataclass(frozen=True)
class Result:
    """Milliseconds per image of one contender: median and quartiles over all batches.

    The ratios are of the medians of a round to those of `reference` in the same round; their median and quartiles. The
    reference is the faster of the PEERS, and of bf16 the same engine in fp32.
    """

    model: str
    contender: str
    batch_size: int
    num_threads: int
    median_ms: float
    quarter_ms: float
    three_quarter_ms: float
    num_batches: int
    reference: str | None = None  # None: it was not measured
    ratio: float | None = None
    quarter_ratio: float | None = None
    three_quarter_ratio: float | None = None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=list_models())
    parser.add_argument("--contenders", nargs="+", default=None, choices=CONTENDERS, help="all that run here")
    parser.add_argument("--batch_sizes", type=positive_int, nargs="+", default=(1, 8))
    parser.add_argument("--num_threads", type=positive_int, nargs="+", default=(1, 2))
    parser.add_argument(
        "--num_rounds", type=positive_int, default=20, help=f"rounds of {TIMED_BATCHES} timed batches per engine"
    )
    add_output_flag(parser, "output/benchmarks")
    add_results_flag(parser)
    flags = parser.parse_args(argv)
    print(f"{processor_name()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    contenders = flags.contenders or [name for name in CONTENDERS if name != BF16 or has_bfloat16()]
    results, floors = [], {}
    for model in flags.models:
        folder = flags.output_dir / "exported" / model
        num_macs = export_random(model, folder)
        for num_threads in flags.num_threads:
            floors[f"{model}, {format_threads(num_threads)}"] = floor = floor_ms(num_macs, num_threads)
            print(f"{model}, floor {floor:.2f} ms per image on {format_threads(num_threads)}", flush=True)
            with contextlib.ExitStack() as stack:
                processes = {name: stack.enter_context(start_engine(name, folder, num_threads)) for name in contenders}
                for batch_size in flags.batch_sizes:
                    rows = measure(model, processes, batch_size, num_threads, flags.num_rounds)
                    print_table(rows)
                    results += rows
    record("latency", flags.results, floors_ms=floors, results=[asdict(result) for result in results])
    plot(results, flags.output_dir / "latency.png")


def export_random(name: str, folder: Path) -> int:
    """Export a model with random weights, whose values do not change the speed; return its MACs for one image."""
    import paddle

    from datasets.preprocess import Preprocess
    from deploy.card import Card
    from deploy.engines import EagerEngine
    from deploy.export.export_folder import export_folder
    from deploy.export.parity import parity_images
    from deploy.predictor import Predictor
    from engine.export import export_program
    from models import create_model
    from models.complexity import count_macs

    paddle.seed(0)
    model = create_model(name)
    card = Card(name, type(model).__name__, 1000, Preprocess(input_size=SIDE), class_names=None)
    eager = Predictor(EagerEngine(model), card)
    images = parity_images()
    formats = ("paddle", "pdmodel", "pdmodel-b1", "onnx")
    logits = eager.logits(eager.preprocess(images))
    export_folder(folder, formats, card, partial(export_program, model, SIDE), images, logits)
    return count_macs(model, SIDE)


def start_engine(name: str, folder: Path, num_threads: int) -> AbstractContextManager[ContenderProcess]:
    """Start a process with the engine of the contender `name`, whose requests are batch sizes."""
    return start_contender(name, run_engine, name, folder, num_threads)


def run_engine(pipe: Connection, name: str, folder: Path, num_threads: int) -> None:
    """Load the engine, then measure a round for every batch size that arrives; the main function of the process.

    Args:
        pipe: receives a batch size; sends "loaded", then the milliseconds of each batch.
        name: key of CONTENDERS.
        folder: exported folder.
        num_threads: threads of the engine.
    """
    from deploy.predictor import open_predictor

    contender = CONTENDERS[name]
    if contender.engine:
        options = EngineOptions(num_threads=num_threads, **contender.options)
        run = open_predictor(folder / contender.program, engine=contender.engine, options=options).logits
    else:
        run = openvino_alone(folder / contender.program, num_threads)
    pipe.send("loaded")
    while True:
        arrays = np.random.default_rng(0).standard_normal((pipe.recv(), 3, SIDE, SIDE), np.float32)
        milliseconds = []
        for _ in range(WARM_UP_BATCHES + TIMED_BATCHES):
            start = time.perf_counter()
            run(arrays)
            milliseconds.append(1000 * (time.perf_counter() - start))
        pipe.send(milliseconds[WARM_UP_BATCHES:])


def openvino_alone(program: Path, num_threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """OpenVINO's compiled model of `program` as its documentation calls it, in float32, on `num_threads` threads."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": num_threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(program, "CPU", settings)
    return lambda images: compiled(images)[0]


def measure(
    model: str, processes: dict[str, ContenderProcess], batch_size: int, num_threads: int, num_rounds: int
) -> list[Result]:
    """Measure one round after another; the order of the contenders rotates, so a busy machine slows all alike.

    Args:
        model: name of the model.
        processes: running processes by the name of their contender.
        batch_size: contenders whose program takes less are left out.
        num_threads: threads of each engine, for the result.
        num_rounds: rounds after one that is not counted.
    """
    names = [name for name in processes if batch_size <= CONTENDERS[name].max_batch_size]
    milliseconds = {name: [] for name in names}
    for number in range(-1, num_rounds):  # round -1 warms up
        for name in rotated(names, number):
            measured = processes[name].measure_round(batch_size)
            milliseconds[name] += measured if number >= 0 else []
    medians = {name: np.median(np.reshape(all_ms, (num_rounds, -1)), axis=1) for name, all_ms in milliseconds.items()}
    results = []
    for name in names:
        each = np.array(milliseconds[name]) / batch_size
        quarter, median, three_quarter = np.percentile(each, (25, 50, 75)).tolist()
        ratios = compare(name, medians)
        results.append(Result(model, name, batch_size, num_threads, median, quarter, three_quarter, len(each), *ratios))
    return results


def compare(name: str, medians: dict[str, np.ndarray]) -> tuple[str | None, ...]:
    """The reference of the contender `name`, and median and quartiles of its ratios, by the medians of each round."""
    candidates = [other for other in (("openvino",) if name == BF16 else PEERS) if other in medians]
    if not candidates:
        return (None, None, None, None)
    reference = min(candidates, key=lambda other: np.median(medians[other]))
    quarter, median, three_quarter = np.percentile(medians[name] / medians[reference], (25, 50, 75)).tolist()
    return reference, median, quarter, three_quarter


def floor_ms(num_macs: int, num_threads: int) -> float:
    """Compute the milliseconds of the multiplications alone, at the speed of a large float32 matrix product."""
    from threadpoolctl import threadpool_limits

    size, best = 2048, 0.0
    matrix = np.random.default_rng(0).standard_normal((size, size), np.float32)
    with threadpool_limits(num_threads):
        for _ in range(5):
            start = time.perf_counter()
            matrix @ matrix
            best = max(best, size**3 / (time.perf_counter() - start))
    return 1000 * num_macs / best


def print_table(results: list[Result]) -> None:
    """Print the results of one model, batch size and number of threads, the fastest first."""
    best = min(result.median_ms for result in results)
    first = results[0]
    print(f"\n{first.model}, batch {first.batch_size}, {format_threads(first.num_threads)}: ms per image")
    for result in sorted(results, key=lambda result: result.median_ms):
        spread = f"{result.quarter_ms:.2f}..{result.three_quarter_ms:.2f}"
        print(
            f"  {result.contender:24s} {result.median_ms:8.2f}  ({spread})  x{result.median_ms / best:.2f}  "
            + format_ratio(result),
            flush=True,
        )


def format_ratio(result: Result) -> str:
    """The ratio of a result with its quartiles: `0.83 (0.80..0.86) of onnxruntime`."""
    if result.reference is None:
        return ""
    spread = f"{result.quarter_ratio:.2f}..{result.three_quarter_ratio:.2f}"
    return f"{result.ratio:.2f} ({spread}) of {result.reference}"


def plot(results: list[Result], path: Path) -> None:
    """Plot one panel per model and number of threads into the file `path`."""
    pyplot = import_pyplot("the figure needs matplotlib")
    panels = sorted({(result.model, result.num_threads) for result in results})
    figure, axes = pyplot.subplots(len(panels), squeeze=False, figsize=(9, 3 * len(panels)), layout="constrained")
    for (model, num_threads), axis in zip(panels, axes[:, 0], strict=True):
        rows = [result for result in results if (result.model, result.num_threads) == (model, num_threads)]
        names = list(dict.fromkeys(result.contender for result in rows))
        for offset, batch_size in enumerate(sorted({result.batch_size for result in rows})):
            bars = [result for result in rows if result.batch_size == batch_size]
            places = np.array([names.index(bar.contender) for bar in bars]) + 0.4 * offset
            medians = np.array([bar.median_ms for bar in bars])
            spread = [medians - [bar.quarter_ms for bar in bars], [bar.three_quarter_ms for bar in bars] - medians]
            axis.barh(places, medians, height=0.38, xerr=spread, label=f"batch {batch_size}")
        axis.set_yticks(np.arange(len(names)) + 0.2, names)
        axis.set_title(f"{model}, {format_threads(num_threads)}")
        axis.set_xlabel("ms per image (median; line: middle half of the batches)")
        axis.legend()
    with atomic_write(path) as file:
        figure.savefig(file, dpi=120, format="png")
    print(f"\n{path}")


if __name__ == "__main__":
    run_program(main)
