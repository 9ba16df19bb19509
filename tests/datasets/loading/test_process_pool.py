"""Lost workers: with --on_bad_image skip an image at which two workers were lost is left out, and nothing else."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from common.errors import LostWorker
from datasets.loading import process_pool
from datasets.loading.sample import Task
from datasets.loading.worker_pool import ProcessPool
from tests.datasets.fake_images import DeadlySamples, write_fake_images
from tests.datasets.loaders import PREPROCESS, open_eval_loader, wait_until

SAMPLES = DeadlySamples(PREPROCESS)
SKIP = {"on_bad_image": "skip", "max_bad_images": 3}


@pytest.fixture(autouse=True)
def no_worker_is_left():
    yield
    wait_until(lambda: not multiprocessing.active_children())


@pytest.fixture
def images(tmp_path):
    return write_fake_images(tmp_path, 17)


def open_loader(images, num_workers: int, batch_size: int = 2, **flags):
    loader = open_eval_loader(images, batch_size, num_workers=num_workers, worker_type="process", **flags)
    loader._samples = SAMPLES
    return loader


def test_an_image_at_which_workers_die_is_skipped_and_the_others_are_read(images, capfd):
    expected = np.concatenate([batch.images.numpy() for batch in open_eval_loader(images, 2).batches()])
    for index in (5, 16):
        Path(images.path(index)).write_bytes(b"crash")
    loader = open_loader(images, 2, **SKIP)
    batches = list(loader.batches())
    assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(17))
    is_bad = np.concatenate([np.zeros(len(b.indices), bool) if b.is_bad is None else b.is_bad for b in batches])
    assert np.flatnonzero(is_bad).tolist() == [5, 16]
    found = np.concatenate([batch.images.numpy() for batch in batches])
    np.testing.assert_array_equal(found[~is_bad], expected[~is_bad])
    lines = capfd.readouterr().err.splitlines()
    for index in (5, 16):
        tried, given_up, skipped = [line for line in lines if f"/{index}.png" in line]
        assert f"/{index}.png (image {index}, process " in tried and tried.endswith("the image is tried once more")
        assert "a worker process died (exit code -11)" in tried and given_up.endswith("the image is given up")
        assert "of at most 3" in skipped and "2 worker processes were lost at it, the last one died" in skipped
        assert f"(named by l.txt:{index + 1})" in skipped
    assert len(list(loader.batches())) == len(batches)  # another epoch of the same workers
    assert capfd.readouterr().err == ""


def test_a_worker_that_was_killed_by_something_else_costs_no_image(images, capfd):
    Path(images.path(4)).write_bytes(b"once")
    batches = list(open_loader(images, 1, **SKIP).batches())
    assert all(batch.is_bad is None for batch in batches) and len(batches) == 9
    assert capfd.readouterr().err.count("is tried once more") == 1


def test_an_image_at_which_workers_hang_is_skipped(images, monkeypatch, capfd):
    monkeypatch.setattr(process_pool, "IMAGE_SECONDS", 0.4)
    Path(images.path(3)).write_bytes(b"hang")
    batches = list(open_loader(images, 1, **SKIP).batches())
    assert [batch.indices[batch.is_bad].tolist() for batch in batches if batch.is_bad is not None] == [[3]]
    assert "the last one did not answer for 0 s" in capfd.readouterr().err


def test_lost_workers_end_the_run_without_the_flag_and_where_they_are_many(images, monkeypatch):
    for index in (3, 5):
        Path(images.path(index)).write_bytes(b"crash")
    with pytest.raises(LostWorker, match=r"died \(exit code -11; .*/3\.png \(image 3, .*; fewer --num_workers"):
        list(open_loader(images, 1).batches())
    monkeypatch.setattr(process_pool, "MAX_LOST_WORKERS", 2)
    with pytest.raises(LostWorker, match=r"/5\.png \(image 5, process \d+\), as 2 did before; fewer"):
        list(open_loader(images, 1, **SKIP).batches())


def test_a_worker_that_cannot_be_replaced_ends_the_run(images, monkeypatch):
    Path(images.path(0)).write_bytes(b"crash")
    pool = ProcessPool(SAMPLES, 2, 1, replaces_workers=True)

    def refuse(process):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", refuse)
    with pytest.raises(LostWorker, match=r"/0\.png .*, and no other one can be started: .* not permitted"):
        list(pool.batches([Task(0, np.arange(2), [images.path(i) for i in range(2)])]))
    pool.close()
