"""Workers keep the order, hold few batches, and stop when one fails."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from datasets.preprocess import Preprocess
from deploy import pipeline
from deploy.card import Card
from deploy.engines import EngineOptions
from deploy.pipeline import predict_files, predict_files_timed, print_progress, share_threads


class FakePredictor:
    """Logits that encode the red value of an image; a lock detects two threads in one predictor."""

    card = Card("fake", "Fake", 256, Preprocess(input_size=8), class_names=None)
    class_names = None

    def __init__(self):
        self.running = threading.Lock()
        self.clones = []

    def clone(self):
        clone = FakePredictor()
        self.clones.append(clone)
        return clone

    def logits(self, arrays):
        assert self.running.acquire(blocking=False), "two threads in one predictor"
        time.sleep(0.002 * (len(arrays) % 3))
        self.running.release()
        red = self.card.preprocess.std[0] * arrays[:, 0, 0, 0] + self.card.preprocess.mean[0]
        return np.eye(256, dtype=np.float32)[np.rint(255 * red).astype(int)]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbered")
    for number in range(41):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number:02d}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.mark.parametrize("num_workers", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_image_is_predicted_once_and_in_order(paths, num_workers, batch_size):
    predictor = FakePredictor()
    batches = list(predict_files(predictor, paths, batch_size=batch_size, num_workers=num_workers, topk=1))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    predictions = [prediction for batch in batches for prediction in batch]
    assert [prediction["file_name"] for prediction in predictions] == paths
    assert [prediction["class_ids"] for prediction in predictions] == [[number] for number in range(41)]
    assert len(predictor.clones) == num_workers - 1


def test_the_temperature_of_the_card_makes_the_scores(paths, monkeypatch):
    [[plain]] = predict_files(FakePredictor(), paths[:1], topk=1)
    monkeypatch.setattr(FakePredictor, "card", replace(FakePredictor.card, temperature=0.25))
    [[prediction]] = predict_files(FakePredictor(), paths[:1], topk=1)
    scores = [np.exp(1 / temperature) / (255 + np.exp(1 / temperature)) for temperature in (1, 0.25)]
    np.testing.assert_allclose([*plain["scores"], *prediction["scores"]], scores, rtol=1e-12)


def test_at_most_two_batches_per_worker_are_pending(paths, monkeypatch):
    started = []
    predict_batch = pipeline.predict_batch

    def counted(predictor, batch, **arguments):
        started.append(batch)
        return predict_batch(predictor, batch, **arguments)

    monkeypatch.setattr(pipeline, "predict_batch", counted)
    for num_taken, _ in enumerate(predict_files(FakePredictor(), paths, num_workers=2), start=1):
        time.sleep(0.005)  # a slow caller
        assert len(started) - num_taken <= 2 * 2


def test_an_error_in_a_worker_is_raised_and_stops_the_others(paths, monkeypatch):
    calls = []

    def fail(predictor, batch, **arguments):
        calls.append(batch)
        raise RuntimeError("out of order")

    monkeypatch.setattr(pipeline, "predict_batch", fail)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="out of order"):
        list(predict_files(FakePredictor(), paths, num_workers=2))
    assert len(calls) <= 4
    assert set(threading.enumerate()) <= before, "a worker was left running"


class FakeReport:
    """Records the order of events: timer, model, report."""

    def __init__(self, events):
        self.timers, self.events = [self], events

    def start(self):
        self.events.append("start")

    def stamp(self):
        self.events.append("stamp")

    def end(self, stamp=True):
        self.events.append("end")

    def print(self):
        self.events.append("print")


def test_the_benchmark_warms_up_and_then_times_every_batch(paths):
    events = []

    class Predictor(FakePredictor):
        def logits(self, arrays):
            events.append(arrays.shape)
            return super().logits(arrays)

    predictions = [
        prediction
        for batch in predict_files_timed(Predictor(), paths[:7], FakeReport(events), batch_size=3, topk=1)
        for prediction in batch
    ]
    assert [prediction["class_ids"] for prediction in predictions] == [[number] for number in range(7)]
    warm_up, timed = events[: events.index("start")], events[events.index("start") :]
    assert len(warm_up) >= 1 and set(warm_up) == {(3, 3, 8, 8)}, "as large as a timed batch"
    batches = [["start", "stamp", (size, 3, 8, 8), "stamp", "end"] for size in (3, 3, 1)]
    assert timed == [*batches[0], *batches[1], *batches[2], "print"]


def test_threads_are_divided_among_workers():
    options = EngineOptions(num_threads=4)
    assert share_threads("onnxruntime", options, 100) == (4, EngineOptions(num_threads=1, num_clones=4))
    assert share_threads("openvino", options, 2) == (2, EngineOptions(num_threads=2, num_clones=2))
    assert share_threads("onnxruntime", options, 0) == (1, EngineOptions(num_threads=4, num_clones=1))
    assert share_threads("paddle", options, 100) == (2, options), "Paddle holds the lock: one worker only decodes"


def test_progress_is_printed_on_stderr_and_batches_are_unchanged(monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "SECONDS_BETWEEN_LINES", 0)
    assert list(print_progress(iter([[1, 2], [3]]), 3)) == [[1, 2], [3]]
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith("3/3 images, ")
