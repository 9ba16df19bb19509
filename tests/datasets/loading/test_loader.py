"""Holds batches to their promise: the same bytes with any workers, ranks and restarts; errors that name the file."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from common.errors import BadImage, DataError
from configs.schema import AugmentConfig, LoaderConfig, MixConfig, PreprocessConfig, TrainLoaderConfig
from datasets.augment.mixup import create_mixup
from datasets.augment.random_erasing import create_random_erasing
from datasets.augment.transforms import build_train_transform, sample_rng
from datasets.loading import loader
from datasets.loading.loader import EvalLoader, TrainLoader, choose_num_workers, normalize_on_device
from datasets.loading.sampler import EvalSampler, TrainSampler
from datasets.preprocess import Preprocess
from datasets.reading import backends
from datasets.reading.decode import read_bytes, read_image
from datasets.reading.pixels import image_to_input
from tests.datasets.fake_images import FaultySamples, write_pictures

PREPROCESS = Preprocess(16)
AUGMENT = AugmentConfig(aa="rand-m9-mstd0.5-inc1", reprob=0.5, recount=2)
TRANSFORM = build_train_transform(AUGMENT, PreprocessConfig(16, "random"))
ERASING = create_random_erasing(AUGMENT)
MIXUP = create_mixup(MixConfig(mixup_mode="elem"), 4)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"), 33)


@pytest.fixture(params=["cpu", "device"])
def way(request, monkeypatch):
    """Both ways to the model: the memory of this process, and Paddle's thread that copies to a device."""
    monkeypatch.setattr(loader, "is_on_cpu", lambda: request.param == "cpu")


def train_loader(images, *, num_workers=0, batch_size=4, rank=0, world=1, erasing=ERASING, mixup=None, accum_iter=2):
    sampler = TrainSampler(len(images), batch_size, accum_iter, rank, world, seed=5)
    config = TrainLoaderConfig(batch_size, num_workers)
    return TrainLoader(images, TRANSFORM, PREPROCESS, sampler, config, erasing=erasing, mixup=mixup)


def eval_loader(images, batch_size, *, num_workers=0, preprocess=PREPROCESS, rank=0, world=1):
    sampler = EvalSampler(len(images), batch_size, rank, world)
    return EvalLoader(images, preprocess, sampler, LoaderConfig(batch_size, num_workers))


def as_bytes(batches):
    return [
        (batch.images.numpy().tobytes(), batch.labels.numpy().tobytes(), batch.indices.tobytes()) for batch in batches
    ]


@pytest.mark.parametrize("erasing", [None, ERASING])
def test_same_bytes_with_any_number_of_workers_and_from_any_step(images, erasing, way):
    here = train_loader(images, erasing=erasing, mixup=MIXUP)
    assert here.steps_per_epoch == 4
    expected = as_bytes(here.batches(3))
    assert len(expected) == 8
    for num_workers in (2, 3):
        workers = train_loader(images, erasing=erasing, mixup=MIXUP, num_workers=num_workers)
        assert as_bytes(workers.batches(3)) == expected
        assert as_bytes(workers.batches(3, first_step=3)) == expected[6:]
    assert as_bytes(here.batches(4)) != expected


def test_same_images_on_one_and_two_ranks(images):
    alone = list(train_loader(images, batch_size=8).batches(0))
    ranks = [list(train_loader(images, batch_size=4, rank=rank, world=2).batches(0)) for rank in (0, 1)]
    assert len(alone) == len(ranks[0]) == len(ranks[1]) == 4
    for whole, first, second in zip(alone, *ranks, strict=True):
        for rank, part in enumerate((first, second)):
            np.testing.assert_array_equal(part.indices, whole.indices[rank::2])
            np.testing.assert_array_equal(part.images.numpy(), whole.images.numpy()[rank::2])
            np.testing.assert_array_equal(part.labels.numpy(), whole.labels.numpy()[rank::2])


def test_samples_are_those_of_the_drawn_choices(images, way):
    """What a batch holds can be made again from seed, epoch and index alone."""
    batch = next(train_loader(images).batches(7))
    assert batch.images.dtype == paddle.float32 and batch.images.shape == [4, 3, 16, 16]
    assert batch.labels.dtype == paddle.int64
    for row, index in enumerate(batch.indices):
        image = read_image(images.path(index))
        pixels = TRANSFORM.apply(image, TRANSFORM.draw(sample_rng(5, 7, index), image.size))
        expected = PREPROCESS.normalize(pixels[None])
        ERASING.draw(5, 16, 7, [index]).apply(expected)
        np.testing.assert_array_equal(batch.images[row].numpy(), expected[0])
        assert batch.labels[row].item() == images.label(index)


def test_mixed_labels_are_soft(images):
    mixed = [batch.labels.numpy() for batch in train_loader(images, mixup=MIXUP).batches(0)]
    assert mixed[0].shape == (4, 4) and mixed[0].dtype == np.float32
    np.testing.assert_allclose([labels.sum(axis=1) for labels in mixed], 1, rtol=0, atol=1e-6)


def test_mixing_draws_for_each_epoch_micro_batch_and_rank(images):
    """No two micro-batches share a lam: not those of two ranks, nor of an optimizer step, nor of two epochs."""
    mixup = create_mixup(MixConfig(smoothing=0.0, mixup=0.8, cutmix=0.0, mixup_mode="elem"), 4)
    drawn = {}
    for rank, epoch in itertools.product((0, 1), (0, 1)):
        loader = train_loader(images, rank=rank, world=2, erasing=None, mixup=mixup)
        for micro_step, batch in enumerate(loader.batches(epoch)):
            labels = batch.labels.numpy()
            drawn[rank, epoch, micro_step] = {round(float(lam), 5) for lam in labels[(labels > 0) & (labels < 1)]}
    assert len(drawn) == 2 * 2 * 4
    assert all(drawn.values()), "a micro-batch without two partners of different classes says nothing"
    for (place, lams), (other_place, other_lams) in itertools.combinations(drawn.items(), 2):
        assert not lams & other_lams, (place, other_place)


def test_odd_batch_is_refused_before_anything_is_read(images):
    pairs = create_mixup(MixConfig(mixup_mode="pair"), 4)
    with pytest.raises(DataError, match="even batch size, got 5"):
        train_loader(images, batch_size=5, mixup=pairs)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_of_33_images_on_2_ranks_is_exact(images, num_workers, way):
    seen = []
    for rank in (0, 1):
        loader = eval_loader(images, 8, num_workers=num_workers, rank=rank, world=2)
        assert loader.num_samples == 33
        for batch in loader.batches():
            for row, index in enumerate(batch.indices):
                expected = image_to_input(read_image(images.path(index)), PREPROCESS)
                np.testing.assert_array_equal(batch.images[row].numpy(), expected)
                assert batch.labels[row].item() == images.label(index)
            seen += batch.indices.tolist()
    assert sorted(seen) == list(range(33))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rank_without_samples_has_no_batches(images, num_workers):
    sampler = EvalSampler(1, 8, 1, 2)
    assert list(EvalLoader(images, PREPROCESS, sampler, LoaderConfig(8, num_workers)).batches()) == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_image_names_path_reason_and_line(tmp_path, num_workers, capfd, way):
    images = write_pictures(tmp_path, 9)
    (tmp_path / "6.png").unlink()
    loader = eval_loader(images, 2, num_workers=num_workers)
    with pytest.raises(BadImage, match=r"6\.png: No such file or directory \(named by l\.txt:7\)") as caught:
        list(loader.batches())
    assert caught.value.path.endswith("6.png") and caught.value.exit_code == 3
    (tmp_path / "6.png").write_bytes(b"<html>")
    with pytest.raises(BadImage, match=r"6\.png: not an image of .* \(named by l\.txt:7\)"):
        list(train_loader(images, batch_size=9, accum_iter=1, num_workers=num_workers).batches(0))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("num_workers", [0, 2])
def test_mistake_in_an_operation_names_the_image_and_the_line_of_code(images, num_workers):
    loader = eval_loader(images, 4, num_workers=num_workers)
    loader._samples = FaultySamples(PREPROCESS)
    with pytest.raises(DataError, match=r"(?s)0\.png: no sample could be made of it.*ZeroDivisionError"):
        list(loader.batches())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_leaving_early_is_quiet_and_ends_thread_and_workers(images, num_workers, capfd, way):
    threads = threading.active_count()
    batches = eval_loader(images, 2, num_workers=num_workers).batches()
    assert len(next(batches).indices) == 2
    batches.close()
    wait_until(lambda: threading.active_count() == threads and not multiprocessing.active_children())
    assert capfd.readouterr().err == ""


def test_leaving_early_reads_no_more_than_was_ahead(images, monkeypatch):
    read = []
    monkeypatch.setattr(backends, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    batches = eval_loader(images, 1).batches()
    next(batches)
    batches.close()
    assert len(read) <= 8


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_killed_worker_is_an_error_that_names_its_images(images):
    loader = eval_loader(images, 2, num_workers=1)
    with pytest.raises(
        DataError, match=r"died \(exit code -9; .* at .*png \(image \d+, process \d+\); fewer --num_workers"
    ):
        for _ in loader.batches():
            for worker in multiprocessing.active_children():
                worker.kill()


def test_workers_outlive_an_epoch_and_the_signals_of_a_batch_system(images):
    loader = eval_loader(images, 2, num_workers=1)
    expected = as_bytes(loader.batches())
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGTERM)
    os.kill(worker.pid, signal.SIGINT)
    assert as_bytes(loader.batches()) == expected
    assert multiprocessing.active_children() == [worker]


def test_workers_know_nothing_of_paddle():
    """They start in a fraction of Paddle's time, and hold none of its locks."""
    code = "import sys; sys.modules['paddle'] = None; import datasets.loading.worker_pool"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)


def test_exif_orientation_is_the_same_in_training_and_evaluation(tmp_path):
    images = write_pictures(tmp_path, 1)
    upright = read_image(images.path(0))
    exif = Image.Exif()
    exif[0x0112] = 3
    upright.transpose(Image.Transpose.ROTATE_180).save(images.path(0), exif=exif)
    turning = Preprocess(16, exif_orientation="apply")
    batch = next(eval_loader(images, 1, preprocess=turning).batches())
    np.testing.assert_array_equal(batch.images[0].numpy(), image_to_input(upright, turning))
    transform = build_train_transform(AugmentConfig(aa=""), PreprocessConfig(16, "bilinear"))
    loader = TrainLoader(images, transform, turning, TrainSampler(1, 1, 1, 0, 1, 0), TrainLoaderConfig(1, 0))
    pixels = transform.apply(upright, transform.draw(sample_rng(0, 0, 0), upright.size))
    np.testing.assert_array_equal(next(loader.batches(0)).images[0].numpy(), turning.normalize(pixels))


def test_device_normalises_to_the_same_bits():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    scale, shift = map(paddle.to_tensor, PREPROCESS.scale_and_shift())
    on_device = normalize_on_device(paddle.to_tensor(pixels), scale, shift).numpy()
    np.testing.assert_array_equal(on_device, PREPROCESS.normalize(pixels))


@pytest.mark.parametrize(("usable", "ranks", "expected"), [(2, 1, 2), (2, 2, 1), (64, 4, 8), (12, 4, 3), (1, 2, 0)])
def test_number_of_workers(usable, ranks, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(usable)))
    assert choose_num_workers(None, ranks) == expected
    assert choose_num_workers(11, ranks) == 11 and choose_num_workers(0, ranks) == 0
