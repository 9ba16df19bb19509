"""The batcher: batches under load, no delay without, every job answered once, also late, broken and cancelled ones."""

import io
import threading
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from datasets.preprocess import Preprocess
from deploy.serving.errors import ServingError
from deploy.serving.workers.batching import Answer, Batcher, Job

SIDE = 8
SOON = 30.0  # seconds; a deadline that no test reaches


def image_file(grey: int) -> bytes:
    """A PNG of one shade of grey."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (grey, grey, grey)).save(file, "PNG")
    return file.getvalue()


class FakePredictor:
    """The logit is the mean of the image; a gate holds the engine, so that a test decides when it computes."""

    def __init__(self):
        self.card = SimpleNamespace(preprocess=Preprocess(SIDE, mean=(0, 0, 0), std=(1, 1, 1)))
        self.gate, self.is_computing = threading.Event(), threading.Event()
        self.gate.set()
        self.batches: list[int] = []

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.is_computing.set()
        assert self.gate.wait(20)
        self.batches.append(len(batch))
        means = batch.mean((1, 2, 3))
        if (means > 500).any():
            raise RuntimeError("a size that the engine does not take")
        with np.errstate(divide="ignore"):
            return np.stack([means, np.where(means < 0, np.inf, means)], 1)


class Collector:
    """Collects what the batcher reports."""

    def __init__(self):
        self.answers: dict[int, Answer | ServingError] = {}
        self.counts = Counter()
        self._changed = threading.Condition()

    def report(self, job: Job, answer: Answer | ServingError) -> None:
        with self._changed:
            self.answers[job.number] = answer
            self.counts[job.number] += 1
            self._changed.notify()

    def wait_for(self, count: int) -> dict[int, Answer | ServingError]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.answers) >= count, 20)
            return self.answers


@pytest.fixture
def predictor():
    return FakePredictor()


@pytest.fixture
def collector():
    return Collector()


def job(number: int, image: bytes | float, seconds: float = SOON) -> Job:
    tensor = np.full((3, SIDE, SIDE), image, np.float32) if isinstance(image, float) else image
    return Job(number, tensor, time.monotonic() + seconds)


def test_every_image_gets_its_own_answer(predictor, collector):
    batcher = Batcher(predictor, collector.report, num_decoders=3, max_batch_size=4)
    for number in range(200):
        batcher.submit(job(number, image_file(number) if number % 2 else number / 255))
    answers = collector.wait_for(200)
    for number in range(200):
        assert answers[number].logits[0] == pytest.approx(number / 255, abs=1e-6)
        assert 1 <= answers[number].batch_size <= 4
    assert set(collector.counts.values()) == {1}
    batcher.close()


def computing_batcher(predictor, collector) -> Batcher:
    """A batcher whose engine computes job 0 until the gate opens, so that the next jobs wait."""
    batcher = Batcher(predictor, collector.report, max_batch_size=8)
    predictor.gate.clear()
    batcher.submit(job(0, 0.5))
    assert predictor.is_computing.wait(20)
    return batcher


def test_batches_grow_with_the_load(predictor, collector):
    batcher = computing_batcher(predictor, collector)
    for number in range(1, 21):
        batcher.submit(job(number, 0.5))
    predictor.gate.set()
    collector.wait_for(21)
    assert predictor.batches == [1, 8, 8, 4]
    batcher.close()


def test_a_single_client_does_not_wait(predictor, collector):
    batcher = Batcher(predictor, collector.report, max_batch_size=8, max_delay_seconds=20)
    for number in range(5):
        start = time.monotonic()
        batcher.submit(job(number, image_file(9)))
        collector.wait_for(number + 1)
        assert time.monotonic() - start < 5  # the delay would be 20
    assert predictor.batches == [1] * 5
    batcher.close()


def test_a_batch_waits_for_images_that_are_being_decoded_but_not_longer_than_the_delay(predictor, collector):
    batcher = Batcher(predictor, collector.report, num_decoders=1, max_batch_size=3, max_delay_seconds=20)
    hold, decode = threading.Event(), batcher._decode
    batcher._decode = lambda job: hold.wait(20) and decode(job)
    for number in range(3):
        batcher.submit(job(number, image_file(number)))
    hold.set()  # one decoder: two images are not decoded yet when the first is
    collector.wait_for(3)
    assert predictor.batches == [3]
    batcher.close()

    hold.clear()
    batcher = Batcher(predictor, collector.report, num_decoders=1, max_batch_size=3, max_delay_seconds=0.01)
    batcher._decode = lambda job: hold.wait(20) and None  # the decoder is held
    predictor.batches.clear()
    batcher.submit(job(10, image_file(0)))
    batcher.submit(job(11, 0.5))
    collector.wait_for(4)
    assert 11 in collector.answers and predictor.batches == [1]
    batcher.cancel(10)
    hold.set()
    batcher.close()


def test_a_file_that_is_no_image(predictor, collector):
    batcher = Batcher(predictor, collector.report)
    batcher.submit(job(1, b"nothing"))
    batcher.submit(job(2, image_file(255)))
    answers = collector.wait_for(2)
    assert answers[1].status == 422 and "not an image" in answers[1].message
    assert answers[2].logits[0] == pytest.approx(1)
    batcher.close()


def test_a_row_that_is_not_finite_fails_alone(predictor, collector):
    batcher = computing_batcher(predictor, collector)
    for number, value in enumerate((0.25, -1.0, 0.75), 1):
        batcher.submit(job(number, value))
    predictor.gate.set()
    answers = collector.wait_for(4)
    assert predictor.batches == [1, 3]
    assert answers[2].status == 422 and "nan or inf" in answers[2].message
    assert [answers[number].logits[0] for number in (1, 3)] == [0.25, 0.75]
    batcher.close()


def test_an_error_of_the_engine_fails_one_image_alone(predictor, collector):
    batcher = computing_batcher(predictor, collector)
    for number, value in enumerate((0.25, 1000.0, 0.75), 1):
        batcher.submit(job(number, value))
    predictor.gate.set()
    answers = collector.wait_for(4)
    assert answers[2].status == 500 and answers[2].kind == "engine_failed"
    assert [answers[number].logits[0] for number in (1, 3)] == [0.25, 0.75]
    batcher.close()


def test_late_and_cancelled_jobs_are_not_computed(predictor, collector):
    batcher = computing_batcher(predictor, collector)
    batcher.submit(job(1, 0.1, seconds=-1))
    batcher.submit(job(2, image_file(1), seconds=-1))
    batcher.submit(job(3, 0.3))
    batcher.submit(job(4, image_file(4)))
    batcher.submit(job(5, 0.2))
    batcher.cancel(3)
    batcher.cancel(4)
    batcher.cancel(99)
    predictor.gate.set()
    answers = collector.wait_for(6)
    batcher.close()
    assert answers.keys() == set(range(6))
    # the server sees by the answers to cancelled ones, 3 and 4, that nothing hangs
    assert [answers[number].status for number in (1, 2, 3, 4)] == [504] * 4
    assert sum(predictor.batches) == 2


def test_late_jobs_of_a_long_queue_are_refused_before_their_batch(predictor, collector):
    """The server takes a batcher that refuses them only when their batch comes for one that hangs."""
    batcher = computing_batcher(predictor, collector)
    for number in range(1, 9):
        batcher.submit(job(number, 0.5))
    batcher.submit(job(9, 0.5, seconds=-1))
    compute, refused = predictor.run, []
    predictor.run = lambda batch: (refused.append(9 in collector.answers), compute(batch))[1]
    predictor.gate.set()
    collector.wait_for(10)
    batcher.close()
    assert refused == [True]


def test_closing_answers_what_was_submitted(predictor, collector):
    batcher = Batcher(predictor, collector.report, num_decoders=2, max_batch_size=4)
    for number in range(50):
        batcher.submit(job(number, image_file(number)))
    batcher.close()
    assert collector.answers.keys() == set(range(50))
