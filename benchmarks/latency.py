"""Milliseconds of one batch: every engine on every model, taking turns in one run.

python -m benchmarks.latency --output_dir output/benchmarks
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deploy.engines import EngineOptions
from deploy.predictor import Predictor, choose_engine

MODELS = ("peleenet", "mobilenet_v3_small", "alexnet")
SIDE = 224


class Contender(NamedTuple):
    """An engine, its program in the exported folder, and its switches."""

    engine: str
    program: str
    switches: dict


CONTENDERS = {
    "paddle": Contender("paddle", "model.json", {}),
    "paddle oneDNN": Contender("paddle", "model.json", {"onednn": True}),
    "paddle pdmodel oneDNN": Contender("paddle", "model.pdmodel", {"onednn": True}),
    "paddle pdmodel OpenVINO": Contender("paddle", "model.pdmodel", {"openvino": True}),
    "onnxruntime": Contender("onnxruntime", "model.onnx", {}),
    "openvino": Contender("openvino", "model.onnx", {}),
}
AUTO = "auto"


@dataclass(frozen=True)
class Result:
    """Milliseconds an image of one contender: median, and the quarter and three-quarter points of all rounds."""

    model: str
    contender: str
    batch_size: int
    num_threads: int
    median_ms: float
    quarter_ms: float
    three_quarter_ms: float
    num_rounds: int


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=(1, 8))
    parser.add_argument("--num_threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--num_rounds", type=int, default=50)
    parser.add_argument("--output_dir", type=Path, default=Path("output/benchmarks"))
    flags = parser.parse_args(argv)
    flags.output_dir.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {platform.platform()}")
    results = []
    for model in flags.models:
        folder = flags.output_dir / "exported" / model
        num_macs = export_random(model, folder)
        for num_threads in flags.num_threads:
            print(
                f"{model}, floor {floor_ms(num_macs, num_threads):.2f} ms an image on {num_threads} threads", flush=True
            )
            predictors = load(folder, num_threads)
            for batch_size in flags.batch_sizes:
                results += measure(model, predictors, batch_size, num_threads, flags.num_rounds)
                print_table(results[-len(predictors) :])
    write(results, flags.output_dir)


def export_random(name: str, folder: Path) -> int:
    """Export the model with fresh weights, whose values do not change the speed; returns its MACs for one image."""
    import paddle

    from datasets.preprocess import Preprocess
    from deploy.card import Card
    from deploy.eager import EagerPredictor
    from deploy.export import check_images, export_folder
    from engine.export import export_program
    from models import create_model
    from models.complexity import count_macs

    paddle.seed(0)
    model = create_model(name)
    card = Card(name, type(model).__name__, 1000, Preprocess(input_size=SIDE), class_names=None)
    eager = EagerPredictor(model, card)
    images = check_images()
    formats = ("paddle", "pdmodel", "onnx")
    logits = eager.logits(eager.arrays(images))
    export_folder(folder, formats, card, lambda place: export_program(model, SIDE, place), images, logits)
    return count_macs(model, SIDE)


def load(folder: Path, num_threads: int) -> dict[str, Predictor]:
    """A predictor for each contender, and one for what --engine auto chooses."""
    predictors = {}
    for name, (engine, program, switches) in CONTENDERS.items():
        options = EngineOptions(num_threads=num_threads, **switches)
        predictors[name] = Predictor(folder / program, engine=engine, options=options)
    engine, options = choose_engine(folder, EngineOptions(num_threads=num_threads))
    predictors[AUTO] = Predictor(folder, engine=engine, options=options)
    return predictors


def measure(
    model: str, predictors: dict[str, Predictor], batch_size: int, num_threads: int, num_rounds: int
) -> list[Result]:
    """One batch of each contender a round, in an order that shifts, so that the machine's moods hit all alike."""
    arrays = np.random.default_rng(0).standard_normal((batch_size, 3, SIDE, SIDE), np.float32)
    names = list(predictors)
    for name in names:
        for _ in range(3):
            predictors[name].engine.run(arrays)
    milliseconds = {name: [] for name in names}
    for turn in range(num_rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            predictors[name].engine.run(arrays)
            milliseconds[name].append(1000 * (time.perf_counter() - start) / batch_size)
    results = []
    for name in names:
        quarter, median, three_quarter = np.percentile(milliseconds[name], (25, 50, 75)).tolist()
        results.append(Result(model, name, batch_size, num_threads, median, quarter, three_quarter, num_rounds))
    return results


def floor_ms(num_macs: int, num_threads: int) -> float:
    """Milliseconds that the multiplications alone would take at the rate of a large float32 matrix product here."""
    from threadpoolctl import threadpool_limits

    size, best = 2048, 0.0
    one = np.random.default_rng(0).standard_normal((size, size), np.float32)
    with threadpool_limits(num_threads):
        for _ in range(5):
            start = time.perf_counter()
            one @ one
            best = max(best, size**3 / (time.perf_counter() - start))
    return 1000 * num_macs / best


def print_table(results: list[Result]) -> None:
    best = min(result.median_ms for result in results)
    first = results[0]
    print(f"\n{first.model}, batch {first.batch_size}, {first.num_threads} threads: ms an image")
    for result in sorted(results, key=lambda result: result.median_ms):
        spread = f"{result.quarter_ms:.2f}..{result.three_quarter_ms:.2f}"
        print(
            f"  {result.contender:24s} {result.median_ms:8.2f}  ({spread})  x{result.median_ms / best:.2f}", flush=True
        )


def write(results: list[Result], folder: Path) -> None:
    """latency.jsonl, and latency.png: a panel for each model and number of threads."""
    with (folder / "latency.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(result)) + "\n" for result in results)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = sorted({(result.model, result.num_threads) for result in results})
    figure, axes = pyplot.subplots(len(panels), squeeze=False, figsize=(9, 3 * len(panels)), layout="constrained")
    for (model, num_threads), axis in zip(panels, axes[:, 0], strict=True):
        here = [result for result in results if (result.model, result.num_threads) == (model, num_threads)]
        for offset, batch_size in enumerate(sorted({result.batch_size for result in here})):
            bars = [result for result in here if result.batch_size == batch_size]
            places = np.arange(len(bars)) + 0.4 * offset
            medians = np.array([bar.median_ms for bar in bars])
            spread = [medians - [bar.quarter_ms for bar in bars], [bar.three_quarter_ms for bar in bars] - medians]
            axis.barh(places, medians, height=0.38, xerr=spread, label=f"batch {batch_size}")
        axis.set_yticks(np.arange(len(bars)) + 0.2, [bar.contender for bar in bars])
        axis.set_title(f"{model}, {num_threads} threads")
        axis.set_xlabel("ms an image (median; line: middle half of the rounds)")
        axis.legend()
    figure.savefig(folder / "latency.png", dpi=120)
    print(f"\n{folder / 'latency.jsonl'}, {folder / 'latency.png'}")


if __name__ == "__main__":
    main()
