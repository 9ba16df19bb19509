"""Decode images in a pool of threads, collect them into batches, and compute these: threads in one process, no HTTP."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from common.errors import BadImage

from ...predictor import Predictor
from ...sources import Source, read_source
from ..errors import ServingError, deadline_passed, unreadable_image


class Answer(NamedTuple):
    """The logits of one image, [C] float32, and what they took."""

    logits: np.ndarray
    queue_seconds: float  # waiting for a decoder and for the engine
    decode_seconds: float
    compute_seconds: float  # of the whole batch
    batch_size: int


@dataclass
class Job:
    """One image to be computed before `deadline`, a time of `time.monotonic`."""

    number: int
    image: bytes | np.ndarray  # an image file, or a preprocessed image [3, S, S] float32
    deadline: float
    received: float = field(default_factory=time.monotonic)
    decode_seconds: float = 0.0
    decoded: float = 0.0
    is_cancelled: bool = False


class Batcher:
    """Take jobs, decode them side by side, and compute the decoded ones in batches.

    The engine never waits while all images that are here are decoded: a batch is what was decoded while the last one
    was computed. While other images are being decoded, an incomplete batch waits for them, at most `max_delay_seconds`
    after its first image was decoded. So a single client is not delayed, and batches grow with the load.
    """

    def __init__(
        self,
        predictor: Predictor,
        report: Callable[[Job, Answer | ServingError], None],
        *,
        num_decoders: int = 2,
        max_batch_size: int = 8,
        max_delay_seconds: float = 0.002,
    ):
        """Start the threads.

        Args:
            predictor: preprocesses and computes.
            report: called from a thread with every job and its answer, once; also for cancelled ones, since a batcher
                that does not answer hangs.
            num_decoders: number of threads that decode.
            max_batch_size: images in a batch.
            max_delay_seconds: how long an incomplete batch waits for images that are being decoded.
        """
        self._predictor, self._report = predictor, report
        self._max_batch_size, self._max_delay = max_batch_size, max_delay_seconds
        self._jobs: dict[int, Job] = {}  # by their numbers, until they are answered
        self._to_decode: SimpleQueue[Job | None] = SimpleQueue()
        self._decoded: deque[Job] = deque()
        self._num_decoding = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._decoders = [threading.Thread(target=self._decode_all, daemon=True) for _ in range(num_decoders)]
        self._engine = threading.Thread(target=self._compute_all, daemon=True)
        for thread in (*self._decoders, self._engine):
            thread.start()

    def submit(self, job: Job) -> None:
        """Take a job; its number must differ from those of all jobs before, also of cancelled ones."""
        with self._changed:
            self._jobs[job.number] = job
            if isinstance(job.image, bytes):
                self._num_decoding += 1
            else:
                job.decoded = job.received
                self._decoded.append(job)
                self._changed.notify()
        if isinstance(job.image, bytes):
            self._to_decode.put(job)

    def cancel(self, number: int) -> None:
        """Give up a job that nobody waits for any more; it is not computed if it is not in a batch yet."""
        with self._changed:
            if job := self._jobs.get(number):
                job.is_cancelled = True

    def close(self) -> None:
        """Answer all jobs that were submitted, then end the threads."""
        for _ in self._decoders:
            self._to_decode.put(None)
        for thread in self._decoders:
            thread.join()
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._engine.join()

    def _finish(self, job: Job, answer: Answer | ServingError) -> None:
        with self._changed:
            del self._jobs[job.number]
        self._report(job, answer)

    def _decode_all(self) -> None:
        while job := self._to_decode.get():
            refusal = self._decode(job)
            with self._changed:
                self._num_decoding -= 1
                if refusal is None:
                    self._decoded.append(job)
                self._changed.notify()
            if refusal is not None:
                self._finish(job, refusal)

    def _decode(self, job: Job) -> ServingError | None:
        """Replace the file of a job by the preprocessed image; returns the error of one that cannot be decoded."""
        start = time.monotonic()
        if refusal := _refusal_of(job, start):
            return refusal
        try:
            job.image = read_source(Source(job.image, "image"), self._predictor.card.preprocess)
        except BadImage as error:
            return unreadable_image(error.reason)
        job.decoded = time.monotonic()
        job.decode_seconds = job.decoded - start
        return None

    def _compute_all(self) -> None:
        while batch := self._next_batch():
            now, wanted = time.monotonic(), []
            for job in (*batch, *self._take_unwanted(now)):
                if refusal := _refusal_of(job, now):
                    self._finish(job, refusal)
                else:
                    wanted.append(job)
            if wanted:
                self._compute(wanted)

    def _take_unwanted(self, now: float) -> list[Job]:
        """Take jobs out of the queue that need no computing, since one that is refused late looks like a hang."""
        wanted, unwanted = deque(), []
        with self._changed:
            for job in self._decoded:
                (unwanted if _refusal_of(job, now) else wanted).append(job)
            self._decoded = wanted
        return unwanted

    def _next_batch(self) -> list[Job]:
        """Wait for the next batch; an empty one after the last."""
        with self._changed:
            while not self._decoded:
                if self._is_closed:
                    return []
                self._changed.wait()
            until = self._decoded[0].decoded + self._max_delay
            while len(self._decoded) < self._max_batch_size and self._num_decoding:
                if (seconds := until - time.monotonic()) <= 0:
                    break
                self._changed.wait(seconds)
            return [self._decoded.popleft() for _ in range(min(len(self._decoded), self._max_batch_size))]

    def _compute(self, batch: list[Job]) -> None:
        start = time.monotonic()
        try:
            logits = self._predictor.run(np.stack([job.image for job in batch]))
        except Exception:  # each runtime has its own exceptions
            if len(batch) > 1:  # one image must not fail the others
                for job in batch:
                    self._compute([job])
                return
            self._finish(batch[0], ServingError(500, "engine_failed", "the engine could not compute this image"))
            return
        end = time.monotonic()
        for job, row in zip(batch, logits, strict=True):
            if not np.isfinite(row).all():
                self._finish(job, unreadable_image("the model gives nan or inf for this image"))
                continue
            waited = start - job.received - job.decode_seconds
            self._finish(job, Answer(row, waited, job.decode_seconds, end - start, len(batch)))


def _refusal_of(job: Job, now: float) -> ServingError | None:
    is_unwanted = job.is_cancelled or job.deadline < now  # nobody reads the words of a refusal of a cancelled one
    return deadline_passed() if is_unwanted else None
