"""Holds batches to being functions of seed, epoch and step, whatever reads them: drawn by hypothesis from all ways."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import picture

from datasets.image_folder import scan_image_folder
from datasets.loaders import TrainLoader
from datasets.pack import main as pack
from datasets.preprocess import Preprocess
from datasets.sampler import TrainSampler
from datasets.shards import ShardedImages
from datasets.transforms import build_train_transform

COUNT, GLOBAL_BATCH, STEPS = 26, 4, 6
PREPROCESS = Preprocess(24)


@pytest.fixture(scope="module")
def loader_of(tmp_path_factory):
    """A function that gives the loader of a way to read; one of each, because worker processes take time to start."""
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")
    root = tmp_path_factory.mktemp("data")
    for i in range(COUNT):
        path = root / "train" / f"{i % 2}" / f"{i}.{('jpg', 'jpg', 'png')[i % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(50 + 3 * i, 130 - 3 * i, seed=i).save(path)
    command = [f"--data_path={root}", f"--output_dir={root / 'shards'}", "--per_shard=7", "--num_workers=0"]
    assert pack(command) == 0
    sources = {"files": scan_image_folder(root / "train"), "shards": ShardedImages(root / "shards" / "train")}
    transform = build_train_transform(PREPROCESS, interpolation="random", aa="rand-m9-mstd0.5-inc1", reprob=0.25)

    @cache
    def loader_of(source, backend, num_workers, rank, world):
        sampler = TrainSampler(COUNT, GLOBAL_BATCH // world, 1, rank, world, seed=3)
        images = sources[source]
        return TrainLoader(images, transform, PREPROCESS, sampler, num_workers=num_workers, seed=3, backend=backend)

    yield loader_of
    loader_of.cache_clear()  # and with the loaders their processes go
    reference.cache_clear()


@cache
def reference(loader_of, backend, epoch):
    """The epoch as one process reads it from files, from its first step on."""
    batches = list(loader_of("files", backend, 0, 0, 1).batches(epoch))
    return [(batch.indices, batch.images.numpy(), batch.labels.numpy()) for batch in batches]


@settings(max_examples=30, deadline=None)
@given(
    source=st.sampled_from(["files", "shards"]),
    backend=st.sampled_from(["pil", "cv2", "turbo"]),
    num_workers=st.sampled_from([0, 1, 3]),
    world=st.sampled_from([1, 2]),
    epoch=st.integers(0, 2),
    first_step=st.integers(0, STEPS),
    leave_after=st.integers(1, STEPS),
    data=st.data(),
)
def test_same_bytes(loader_of, source, backend, num_workers, world, epoch, first_step, leave_after, data):
    rank = data.draw(st.integers(0, world - 1), label="rank")
    # the restart: an epoch that is left in the middle, by a loader that then begins another one there
    for found in _first(leave_after, loader_of(source, backend, num_workers, rank, world).batches(epoch, first_step)):
        assert found
    batches = loader_of(source, backend, num_workers, rank, world).batches(epoch, first_step)
    expected = reference(loader_of, backend, epoch)[first_step:]
    for (indices, images, labels), batch in zip(expected, batches, strict=True):
        np.testing.assert_array_equal(batch.indices, indices[rank::world])
        np.testing.assert_array_equal(batch.images.numpy(), images[rank::world])
        np.testing.assert_array_equal(batch.labels.numpy(), labels[rank::world])


def _first(count, batches):
    for _, batch in zip(range(count), batches, strict=False):
        yield batch
    batches.close()
