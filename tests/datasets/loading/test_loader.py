"""Loaders: the same bytes with any workers, ranks and restarts, on the CPU and on a device; errors name the file."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from common.errors import BadImage, DataError
from configs.schema import AugmentConfig, MixConfig, PreprocessConfig
from datasets.augment.mixup import create_mixup
from datasets.augment.random_erasing import create_random_erasing
from datasets.augment.transforms import build_train_transform, sample_rng
from datasets.loading import loader as module
from datasets.loading.loader import choose_num_workers, normalize_on_device
from datasets.loading.sampler import TrainSampler
from datasets.loading.worker_pool import SerialPool
from datasets.preprocess import Preprocess
from datasets.reading import backends
from datasets.reading.decode import read_bytes, read_image
from datasets.reading.pixels import image_to_input
from tests.datasets.fake_images import FaultySamples, write_fake_images
from tests.datasets.loaders import PREPROCESS, SIDE, as_bytes, open_eval_loader, open_train_loader, wait_until

ERASE = AugmentConfig(aa="rand-m9-mstd0.5-inc1", reprob=0.5, recount=2)
ERASE_NOTHING = AugmentConfig(aa="rand-m9-mstd0.5-inc1", reprob=0.0)
MIXUP = create_mixup(MixConfig(mixup_mode="elem"), 4)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_fake_images(tmp_path_factory.mktemp("images"), 33)


@pytest.fixture(params=["cpu", "device"])
def place(request, monkeypatch):
    """Both ways to the model: the memory of this process, and Paddle's thread that copies to a device."""
    monkeypatch.setattr(module, "is_on_cpu", lambda: request.param == "cpu")


def sampler_of(images, *, batch_size=4, rank=0, world=1, accum_iter=2):
    return TrainSampler(len(images), batch_size, accum_iter, rank, world, seed=5)


@pytest.mark.parametrize("augment", [ERASE_NOTHING, ERASE], ids=["whole", "erased"])
def test_same_bytes_with_any_number_of_workers_and_from_any_step(images, augment, place):
    here = open_train_loader(images, sampler_of(images), augment, mixup=MIXUP)
    assert here.steps_per_epoch == 4 and here.accum_iter == 2
    expected = as_bytes(here.batches(3))
    assert len(expected) == 8
    for num_workers in (2, 3):
        workers = open_train_loader(images, sampler_of(images), augment, mixup=MIXUP, num_workers=num_workers)
        assert as_bytes(workers.batches(3)) == expected
        assert as_bytes(workers.batches(3, first_step=3)) == expected[6:]
    assert as_bytes(here.batches(4)) != expected


def test_an_image_that_is_drawn_again_in_an_epoch_draws_other_changes(images, place):
    """Samples 2, 2 + 33 and 2 + 66 are uses of image 2; its first use is as without them."""
    labels = images.labels[2]
    for augment in (ERASE_NOTHING, AugmentConfig(aa="", hflip=0.0, scale=(1.0, 1.0), ratio=(1.0, 1.0), reprob=1.0)):
        sampler = TrainSampler(33, 3, 1, 0, 1, seed=5, order=lambda *_: np.array([2, 35, 68] * 11))
        [batch, *_] = open_train_loader(images, sampler, augment).batches(0)
        assert batch.indices.tolist() == [2, 2, 2] and batch.labels.tolist() == [labels] * 3
        first, second, third = batch.images.numpy()
        assert not (np.array_equal(first, second) or np.array_equal(first, third) or np.array_equal(second, third))
        usual = TrainSampler(33, 3, 1, 0, 1, seed=5, order=lambda *_: np.arange(33))
        [batch, *_] = open_train_loader(images, usual, augment).batches(0)
        np.testing.assert_array_equal(batch.images.numpy()[2], first)


def test_same_images_on_one_and_two_ranks(images):
    alone = list(open_train_loader(images, sampler_of(images, batch_size=8), ERASE).batches(0))
    ranks = [
        list(open_train_loader(images, sampler_of(images, rank=rank, world=2), ERASE).batches(0)) for rank in (0, 1)
    ]
    assert len(alone) == len(ranks[0]) == len(ranks[1]) == 4
    for whole, first, second in zip(alone, *ranks, strict=True):
        for rank, part in enumerate((first, second)):
            np.testing.assert_array_equal(part.indices, whole.indices[rank::2])
            np.testing.assert_array_equal(part.images.numpy(), whole.images.numpy()[rank::2])
            np.testing.assert_array_equal(part.labels.numpy(), whole.labels.numpy()[rank::2])


def test_samples_are_those_of_the_drawn_choices(images, place):
    """Every row of a batch can be computed again from seed, epoch and index alone."""
    loader = open_train_loader(images, sampler_of(images), ERASE)
    transform, erasing = build_train_transform(ERASE, PreprocessConfig(SIDE, "random")), create_random_erasing(ERASE)
    batch = next(loader.batches(7))
    assert batch.images.dtype == paddle.float32 and batch.images.shape == [4, 3, SIDE, SIDE]
    assert batch.labels.dtype == paddle.int64
    for row, index in enumerate(batch.indices):
        assert loader.path(index) == images.path(index)
        image = read_image(images.path(index))
        pixels = transform.apply(image, transform.draw(sample_rng(5, 7, index), image.size))
        expected = PREPROCESS.normalize(pixels[None])
        erasing.draw(5, SIDE, 7, [index]).apply(expected)
        np.testing.assert_array_equal(batch.images[row].numpy(), expected[0])
        assert batch.labels[row].item() == images.label(index)


def test_padded_crops_go_with_erasing_and_mixup_in_every_worker(images):
    """The same bytes by worker processes, of which each row can be computed again; only then it is erased and mixed."""
    augment = AugmentConfig(crop="pad3", aa="", reprob=1.0)
    alone, others = (
        as_bytes(open_train_loader(images, sampler_of(images), augment, mixup=MIXUP, num_workers=number).batches(1))
        for number in (0, 2)
    )
    assert alone == others and len(alone) > 2
    plain = AugmentConfig(crop="pad3", aa="", reprob=0.0)
    batch = next(open_train_loader(images, sampler_of(images), plain).batches(1))
    transform = build_train_transform(plain, PreprocessConfig(SIDE, "random"))
    for row, index in enumerate(batch.indices):
        image = read_image(images.path(index))
        pixels = transform.apply(image, transform.draw(sample_rng(5, 1, index), image.size))
        np.testing.assert_array_equal(batch.images[row].numpy(), PREPROCESS.normalize(pixels))


def test_mixed_labels_are_soft(images):
    loader = open_train_loader(images, sampler_of(images), ERASE, mixup=MIXUP)
    mixed = [batch.labels.numpy() for batch in loader.batches(0)]
    assert mixed[0].shape == (4, 4) and mixed[0].dtype == np.float32
    np.testing.assert_allclose([labels.sum(axis=1) for labels in mixed], 1, rtol=0, atol=1e-6)


def test_mixup_draws_for_each_epoch_micro_batch_and_rank(images):
    """No two micro-batches share a lam: not those of two ranks, of one optimizer step, or of two epochs."""
    mixup = create_mixup(MixConfig(smoothing=0.0, mixup=0.8, cutmix=0.0, mixup_mode="elem"), 4)
    drawn = {}
    for rank, epoch in itertools.product((0, 1), (0, 1)):
        loader = open_train_loader(images, sampler_of(images, rank=rank, world=2), ERASE_NOTHING, mixup=mixup)
        for micro_step, batch in enumerate(loader.batches(epoch)):
            labels = batch.labels.numpy()
            drawn[rank, epoch, micro_step] = {round(float(lam), 5) for lam in labels[(labels > 0) & (labels < 1)]}
    assert len(drawn) == 2 * 2 * 4
    assert all(drawn.values()), "a micro-batch without two partners of different classes has no lam"
    for (here, lams), (there, other_lams) in itertools.combinations(drawn.items(), 2):
        assert not lams & other_lams, (here, there)


def test_odd_batch_is_refused_before_an_image_is_read(images):
    pairs = create_mixup(MixConfig(mixup_mode="pair"), 4)
    with pytest.raises(DataError, match="even batch size, got 5"):
        open_train_loader(images, sampler_of(images, batch_size=5), mixup=pairs)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_of_33_images_on_2_ranks_is_exact(images, num_workers, place):
    seen = []
    for rank in (0, 1):
        loader = open_eval_loader(images, 8, rank=rank, world=2, num_workers=num_workers)
        assert (loader.num_samples, loader.batch_size, loader.num_common_batches) == (33, 8, 2)
        for batch in loader.batches():
            for row, index in enumerate(batch.indices):
                expected = image_to_input(read_image(images.path(index)), PREPROCESS)
                np.testing.assert_array_equal(batch.images[row].numpy(), expected)
                assert batch.labels[row].item() == images.label(index)
            seen += batch.indices.tolist()
    assert sorted(seen) == list(range(33))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rank_without_samples_has_no_batches(tmp_path, num_workers, place):
    images = write_fake_images(tmp_path, 1)
    assert list(open_eval_loader(images, 8, rank=1, world=2, num_workers=num_workers).batches()) == []


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_image_names_path_reason_and_line(tmp_path, num_workers, capfd, place):
    images = write_fake_images(tmp_path, 9)
    (tmp_path / "6.png").unlink()
    with pytest.raises(BadImage, match=r"6\.png: No such file or directory \(named by l\.txt:7\)") as caught:
        list(open_eval_loader(images, 2, num_workers=num_workers).batches())
    assert caught.value.path.endswith("6.png") and caught.value.exit_code == 3
    (tmp_path / "6.png").write_bytes(b"<html>")
    sampler = sampler_of(images, batch_size=9, accum_iter=1)
    with pytest.raises(BadImage, match=r"6\.png: not an image of .* \(named by l\.txt:7\)"):
        list(open_train_loader(images, sampler, num_workers=num_workers).batches(0))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("num_workers", [0, 2])
def test_fault_of_the_code_names_the_image_and_the_line_of_code(images, num_workers, place):
    loader = open_eval_loader(images, 4, num_workers=num_workers)
    loader._samples = FaultySamples(PREPROCESS)
    with pytest.raises(DataError, match=r"(?s)0\.png: no sample could be made of it.*ZeroDivisionError"):
        list(loader.batches())


def test_an_error_comes_after_the_batches_before_it(images, monkeypatch, place):
    """Also an error that is no DataError: Paddle's DataLoader would report each as one about a blocking queue."""
    batches = SerialPool.batches

    def two_batches_and_an_error(pool, tasks):
        yield from itertools.islice(batches(pool, tasks), 2)
        raise OSError("no process")

    monkeypatch.setattr(SerialPool, "batches", two_batches_and_an_error)
    loaded = open_eval_loader(images, 4).batches()
    assert [next(loaded).indices.tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(OSError, match="no process"):
        next(loaded)


# ------------------------------------------------------------------------------------------------- leaving, processes


@pytest.mark.parametrize("num_workers", [0, 1])
def test_leaving_early_is_quiet_and_ends_thread_and_workers(images, num_workers, capfd, place):
    threads = threading.active_count()
    batches = open_eval_loader(images, 2, num_workers=num_workers).batches()
    assert len(next(batches).indices) == 2
    batches.close()
    wait_until(lambda: threading.active_count() == threads and not multiprocessing.active_children())
    assert capfd.readouterr().err == ""


def test_leaving_early_reads_no_more_than_was_started(images, monkeypatch, place):
    read = []
    monkeypatch.setattr(backends, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    batches = open_eval_loader(images, 1).batches()
    next(batches)
    batches.close()
    assert len(read) <= 8


def test_killed_worker_is_an_error_that_names_its_images(images):
    loader = open_eval_loader(images, 2, num_workers=1)
    with pytest.raises(
        DataError, match=r"died \(exit code -9; .* at .*png \(image \d+, process \d+\); fewer --num_workers"
    ) as caught:
        for _ in loader.batches():
            for worker in multiprocessing.active_children():
                worker.kill()
    assert caught.value.exit_code == 1  # not that of wrong data: a restart may succeed


def test_workers_outlive_an_epoch_and_the_signals_of_a_batch_system(images):
    loader = open_eval_loader(images, 2, num_workers=1)
    expected = as_bytes(loader.batches())
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGTERM)
    os.kill(worker.pid, signal.SIGINT)
    assert as_bytes(loader.batches()) == expected
    assert multiprocessing.active_children() == [worker]


def test_workers_do_not_import_paddle():
    """They start in a fraction of Paddle's time, and hold none of its locks."""
    code = "import sys; sys.modules['paddle'] = None; import datasets.loading.worker_pool"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)


# ------------------------------------------------------------------------------------------------------------- the rest


def test_exif_orientation_is_the_same_in_training_and_evaluation(tmp_path):
    images = write_fake_images(tmp_path, 1)
    upright = read_image(images.path(0))
    exif = Image.Exif()
    exif[0x0112] = 3
    upright.transpose(Image.Transpose.ROTATE_180).save(images.path(0), exif=exif)
    preprocess = Preprocess(SIDE, exif_orientation="apply")
    batch = next(open_eval_loader(images, 1, preprocess=preprocess).batches())
    np.testing.assert_array_equal(batch.images[0].numpy(), image_to_input(upright, preprocess))
    augment = AugmentConfig(aa="", reprob=0.0)
    loader = open_train_loader(images, TrainSampler(1, 1, 1, 0, 1, 0), augment, preprocess=preprocess)
    transform = build_train_transform(augment, PreprocessConfig(SIDE, "random"))
    pixels = transform.apply(upright, transform.draw(sample_rng(0, 0, 0), upright.size))
    np.testing.assert_array_equal(next(loader.batches(0)).images[0].numpy(), preprocess.normalize(pixels))


def test_device_normalises_to_the_same_bits():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    scale, shift = map(paddle.to_tensor, PREPROCESS.scale_and_shift())
    on_device = normalize_on_device(paddle.to_tensor(pixels), scale, shift).numpy()
    np.testing.assert_array_equal(on_device, PREPROCESS.normalize(pixels))


@pytest.mark.parametrize(("usable", "ranks", "expected"), [(2, 1, 2), (2, 2, 1), (64, 4, 8), (12, 4, 3), (1, 2, 0)])
def test_number_of_workers(usable, ranks, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(usable)))
    monkeypatch.setattr("common.cpus.cpu_quota", lambda: None)
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", str(ranks))
    assert choose_num_workers(None) == expected
    assert choose_num_workers(11) == 11 and choose_num_workers(0) == 0


def test_a_loader_without_a_number_of_workers_chooses_one(images, monkeypatch):
    monkeypatch.setattr("datasets.loading.loader.choose_num_workers", lambda asked: {None: 3}[asked])
    assert open_eval_loader(images, 4, world=4, num_workers=None)._num_workers == 3
