"""Many image files to records, in order: workers decode and run whole batches side by side, memory stays flat."""

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

from .benchmark_report import BenchmarkReport, StageTimes
from .engines import EngineOptions
from .predictions import failure_record
from .predictor import Predictor
from .topk import topk_records

SECONDS_BETWEEN_LINES = 5
WARMUP = 5  # batches before the timed ones; the first pays for memory and kernels


def share_threads(engine: str, options: EngineOptions, num_batches: int) -> tuple[int, EngineOptions]:
    """Workers for `num_batches`, and the options with which each worker's engine gets its share of the threads.

    Batches side by side on one thread each beat one batch on all threads, where the runtime lets go of Python's lock.
    Paddle does not: there the second worker only decodes while the first one's engine runs on all threads.
    """
    if engine == "paddle":
        return min(2, max(num_batches, 1)), options
    num_workers = min(options.threads, max(num_batches, 1))
    return num_workers, replace(options, num_threads=options.threads // num_workers, num_clones=num_workers)


def with_progress(batches: Iterator[list[dict]], num_images: int) -> Iterator[list[dict]]:
    """Pass `batches` on; every few seconds a line on stderr says how far they are."""
    num_done, start = 0, time.monotonic()
    next_line = start + SECONDS_BETWEEN_LINES
    for records in batches:
        yield records
        num_done += len(records)
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
    k: int = 5,
    threshold: float = 0.0,
) -> Iterator[list[dict]]:
    """The records of each batch of `paths`, in their order.

    A worker takes a batch from file to record, so decoding, inference and the caller's output overlap. At most two
    batches a worker are under way or waiting to be taken. An image that cannot be read gets a `failure_record`.
    """
    idle = SimpleQueue()
    for predictor_of_worker in (predictor, *(predictor.clone() for _ in range(num_workers - 1))):
        idle.put(predictor_of_worker)

    def answer(batch: Sequence[str]) -> list[dict]:
        mine = idle.get()
        try:
            return answer_batch(mine, batch, k=k, threshold=threshold)
        finally:
            idle.put(mine)

    pool = ThreadPoolExecutor(num_workers)
    try:
        under_way = deque()
        for first in range(0, len(paths), batch_size):
            under_way.append(pool.submit(answer, paths[first : first + batch_size]))
            if len(under_way) == 2 * num_workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def timed_answers(
    predictor: Predictor,
    paths: Sequence[str],
    report: BenchmarkReport,
    *,
    batch_size: int = 1,
    k: int = 5,
    threshold: float = 0.0,
) -> Iterator[list[dict]]:
    """The same batch after batch in one thread, every stage timed, after WARMUP blank batches; prints `report`."""
    side = predictor.card.preprocess.input_size
    for _ in range(WARMUP):
        predictor.logits(np.zeros((batch_size, 3, side, side), np.float32))
    for first in range(0, len(paths), batch_size):
        batch = paths[first : first + batch_size]
        yield answer_batch(predictor, batch, k=k, threshold=threshold, clocks=report.clocks)
    if paths:
        report.print()


def answer_batch(
    predictor: Predictor,
    paths: Sequence[str],
    *,
    k: int = 5,
    threshold: float = 0.0,
    clocks: Sequence[StageTimes] = (),
) -> list[dict]:
    """The records of `paths`, run as one batch; `clocks` are stamped after each stage of report.STAGES."""
    for clock in clocks:
        clock.start()
    preprocess = predictor.card.preprocess
    arrays, reasons = {}, {}
    for path in paths:
        try:
            arrays[path] = preprocess.normalize(read_pixels(path, preprocess))
        except BadImage as error:
            reasons[path] = error.reason
    batch = np.stack(list(arrays.values())) if arrays else None
    for clock in clocks:
        clock.stamp()
    logits = predictor.logits(batch) if arrays else None
    for clock in clocks:
        clock.stamp()
    records = topk_records(logits, list(arrays), predictor.card.class_names, k, threshold) if arrays else []
    answered = dict(zip(arrays, records, strict=True))
    records = [answered.get(path) or failure_record(path, reasons[path]) for path in paths]
    for clock in clocks:
        clock.end(stamp=True)
    return records
