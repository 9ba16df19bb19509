"""Batches are functions of seed, epoch and step, for any source, backend, worker, rank and restart (hypothesis)."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.schema import AugmentConfig
from datasets.loading.sampler import EvalSampler, TrainSampler
from datasets.pack import main as pack
from datasets.preprocess import Preprocess
from datasets.reading.image_folder import scan_image_folder
from datasets.reading.shards import ShardedImages
from tests.datasets.fake_images import fake_image
from tests.datasets.loaders import open_eval_loader, open_train_loader

COUNT, GLOBAL_BATCH, STEPS = 26, 4, 6
WORKERS = [(0, "auto"), *((number, kind) for number in (1, 2, 3) for kind in ("process", "thread"))]


@pytest.fixture(scope="module")
def images_of(tmp_path_factory):
    """The images of each source; those that are stored raw or as tiles have other pixels than the files."""
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")
    root = tmp_path_factory.mktemp("data")
    for i in range(COUNT):
        path = root / "train" / f"{i % 2}" / f"{i}.{('jpg', 'jpg', 'png')[i % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        fake_image(50 + 3 * i, 130 - 3 * i, seed=i).save(path)
    sources = {"files": scan_image_folder(root / "train")}
    for store in ("as_is", "jpeg", "raw"):
        command = [f"--data_path={root}", f"--output_dir={root / store}", f"--store={store}"]
        assert pack([*command, "--per_shard=7", "--num_workers=0"]) == 0
        sources[store] = ShardedImages(root / store / "train")
    return sources


@pytest.fixture(scope="module")
def loader_of(images_of):
    """A function that opens a loader, one of each kind, because worker processes take time to start."""
    augment = AugmentConfig(aa="rand-m9-mstd0.5-inc1", reprob=0.25)

    @cache
    def loader_of(source, backend, workers=WORKERS[0], rank=0, world=1, *, split="train"):
        images, batch_size = images_of[source], GLOBAL_BATCH // world
        flags = dict(zip(("num_workers", "worker_type"), workers, strict=True))
        if split == "val":
            preprocess = Preprocess(24, image_backend=backend)
            return open_eval_loader(images, batch_size, preprocess=preprocess, rank=rank, world=world, **flags)
        sampler = TrainSampler(COUNT, batch_size, 1, rank, world, seed=3)
        return open_train_loader(images, sampler, augment, preprocess=Preprocess(24), image_backend=backend, **flags)

    yield loader_of
    loader_of.cache_clear()  # ends the worker processes of the loaders
    reference_batches.cache_clear()


@cache
def reference_batches(loader_of, source, backend, epoch=None):
    """The batches of one process: a whole epoch, or without one the evaluation. Packed files have the same pixels."""
    source = {"as_is": "files"}.get(source, source)
    loader = loader_of(source, backend, split="train" if epoch is not None else "val")
    batches = list(loader.batches(epoch) if epoch is not None else loader.batches())
    return [(batch.indices, batch.images.numpy(), batch.labels.numpy()) for batch in batches]


SETTINGS = {
    "source": st.sampled_from(["files", "as_is", "jpeg", "raw"]),
    "backend": st.sampled_from(["pil", "cv2", "turbo"]),
    "workers": st.sampled_from(WORKERS),
    "world_and_rank": st.sampled_from([(1, 0), (2, 0), (2, 1)]),
}


@settings(max_examples=30, deadline=None)
@given(**SETTINGS, epoch=st.integers(0, 2), first_step=st.integers(0, STEPS), leave_after=st.integers(1, STEPS))
def test_same_bytes(loader_of, source, backend, workers, world_and_rank, epoch, first_step, leave_after):
    world, rank = world_and_rank
    # A restart: one epoch is left in the middle, and the same loader begins another epoch there.
    for batch in _first(leave_after, loader_of(source, backend, workers, rank, world).batches(epoch, first_step)):
        assert len(batch.indices)
    batches = loader_of(source, backend, workers, rank, world).batches(epoch, first_step)
    expected = reference_batches(loader_of, source, backend, epoch)[first_step:]
    for (indices, images, labels), batch in zip(expected, batches, strict=True):
        np.testing.assert_array_equal(batch.indices, indices[rank::world])
        np.testing.assert_array_equal(batch.images.numpy(), images[rank::world])
        np.testing.assert_array_equal(batch.labels.numpy(), labels[rank::world])


@settings(max_examples=15, deadline=None)
@given(**SETTINGS, leave_after=st.integers(1, STEPS))
def test_same_bytes_in_evaluation(loader_of, source, backend, workers, world_and_rank, leave_after):
    world, rank = world_and_rank
    loader = loader_of(source, backend, workers, rank, world, split="val")
    for batch in _first(leave_after, loader.batches()):
        assert len(batch.indices)
    expected = [np.concatenate(parts) for parts in zip(*reference_batches(loader_of, source, backend), strict=True)]
    num_images = 0
    for batch in loader.batches():
        for part, whole in zip((batch.indices, batch.images.numpy(), batch.labels.numpy()), expected, strict=True):
            np.testing.assert_array_equal(part, whole[batch.indices])
        num_images += len(batch.indices)
    assert num_images == sum(
        len(indices) for indices in EvalSampler(COUNT, GLOBAL_BATCH // world, rank, world).batches()
    )


def _first(count, batches):
    for _, batch in zip(range(count), batches, strict=False):
        yield batch
    batches.close()
