"""Predict many image files in order: workers decode and run whole batches side by side, in bounded memory."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue

import numpy as np

from common.errors import BadImage
from datasets.reading.pixels import read_pixels

from .benchmark_report import BenchmarkReport, StageTimer
from .engines import ENGINES, EngineOptions
from .predictions import failed_prediction
from .predictor import Predictor
from .topk import topk_predictions

SECONDS_BETWEEN_LINES = 5  # of progress
NUM_WARMUP_BATCHES = 5  # before the timed ones; the first allocates memory and chooses kernels


def share_threads(engine: str, options: EngineOptions, num_batches: int) -> tuple[int, EngineOptions]:
    """Choose the number of workers for `num_batches`, and divide the threads of `options` among their engines.

    Batches side by side on one thread each are faster than one batch on all threads, if the engine releases the global
    interpreter lock. If the engine holds the lock, a second worker decodes while the engine runs on all threads.
    """
    if not ENGINES[engine].releases_gil:
        return min(2, max(num_batches, 1)), options
    num_workers = min(options.threads, max(num_batches, 1))
    return num_workers, replace(options, num_threads=options.threads // num_workers, num_clones=num_workers)


def print_progress(batches: Iterator[list[dict]], num_images: int) -> Iterator[list[dict]]:
    """Yield `batches` unchanged, and print the number of finished images on stderr every few seconds."""
    num_done, start = 0, time.monotonic()
    next_line = start + SECONDS_BETWEEN_LINES
    for predictions in batches:
        yield predictions
        num_done += len(predictions)
        now = time.monotonic()
        if now >= next_line:
            print(
                f"{num_done}/{num_images} images, {num_done / (now - start):.1f} images/s", file=sys.stderr, flush=True
            )
            next_line = now + SECONDS_BETWEEN_LINES


def predict_files(
    predictor: Predictor,
    paths: Sequence[str],
    *,
    batch_size: int = 1,
    num_workers: int = 1,
    topk: int = 5,
    threshold: float = 0.0,
) -> Iterator[list[dict]]:
    """Yield the predictions of each batch of `paths`, in the order of `paths`.

    A worker takes a batch from files to predictions, so decoding, inference and the caller's output overlap. At most
    two batches per worker are being computed or waiting for the caller.

    Args:
        predictor: every worker but one gets a clone of it.
        paths: image files; a file that cannot be read gets a `failed_prediction`.
        batch_size: images per batch; the last batch may be smaller.
        num_workers: number of threads.
        topk: number of classes in a prediction.
        threshold: classes of a lower probability are left out.
    """
    idle = SimpleQueue()
    for predictor_of_worker in (predictor, *(predictor.clone() for _ in range(num_workers - 1))):
        idle.put(predictor_of_worker)

    def predict(batch: Sequence[str]) -> list[dict]:
        own_predictor = idle.get()
        try:
            return predict_batch(own_predictor, batch, topk=topk, threshold=threshold)
        finally:
            idle.put(own_predictor)

    pool = ThreadPoolExecutor(num_workers)
    try:
        pending = deque()
        for first in range(0, len(paths), batch_size):
            pending.append(pool.submit(predict, paths[first : first + batch_size]))
            if len(pending) == 2 * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def predict_files_timed(
    predictor: Predictor,
    paths: Sequence[str],
    report: BenchmarkReport,
    *,
    batch_size: int = 1,
    topk: int = 5,
    threshold: float = 0.0,
) -> Iterator[list[dict]]:
    """Yield the same as `predict_files`, batch after batch in one thread; time every stage and print `report`.

    Args:
        predictor: runs NUM_WARMUP_BATCHES blank batches before the first timed one.
        paths: image files; a file that cannot be read gets a `failed_prediction`.
        report: its timers measure the stages.
        batch_size: images per batch; the last batch may be smaller.
        topk: number of classes in a prediction.
        threshold: classes of a lower probability are left out.
    """
    side = predictor.card.preprocess.input_size
    for _ in range(NUM_WARMUP_BATCHES):
        predictor.logits(np.zeros((batch_size, 3, side, side), np.float32))
    for first in range(0, len(paths), batch_size):
        batch = paths[first : first + batch_size]
        yield predict_batch(predictor, batch, topk=topk, threshold=threshold, timers=report.timers)
    if paths:
        report.print()


def predict_batch(
    predictor: Predictor,
    paths: Sequence[str],
    *,
    topk: int = 5,
    threshold: float = 0.0,
    timers: Sequence[StageTimer] = (),
) -> list[dict]:
    """Predict the image files `paths` in one batch.

    Args:
        predictor: preprocesses and runs the images.
        paths: image files; a file that cannot be read gets a `failed_prediction`.
        topk: number of classes in a prediction.
        threshold: classes of a lower probability are left out.
        timers: measure the stages `benchmark_report.STAGES`.
    """
    for timer in timers:
        timer.start()
    preprocess = predictor.card.preprocess
    images, reasons = {}, {}
    for path in paths:
        try:
            images[path] = preprocess.normalize(read_pixels(path, preprocess))
        except BadImage as error:
            reasons[path] = error.reason
    batch = np.stack(list(images.values())) if images else None
    for timer in timers:
        timer.stamp()
    logits = predictor.logits(batch) if images else None
    for timer in timers:
        timer.stamp()
    settings = {"topk": topk, "threshold": threshold, "temperature": predictor.card.temperature}
    predictions = topk_predictions(logits, list(images), predictor.class_names, **settings) if images else []
    by_path = dict(zip(images, predictions, strict=True))
    predictions = [by_path.get(path) or failed_prediction(path, reasons[path]) for path in paths]
    for timer in timers:
        timer.end(stamp=True)
    return predictions
