"""Reading of shards: the same batches as from the files, and errors that name the shard."""

import json
import os

import numpy as np
import pytest

from common.errors import BadImage, DataError
from datasets.loading.sampler import TrainSampler
from datasets.pack import main
from datasets.preprocess import Preprocess
from datasets.reading.dataset import open_dataset
from datasets.reading.decode import read_bytes
from datasets.reading.image_folder import scan_image_folder
from datasets.reading.pixels import read_pixels
from datasets.reading.shards import ENTRY
from tests.datasets.loaders import as_bytes, open_train_loader
from tests.datasets.packing import COUNT, pack_train, write_class_folders


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    write_class_folders(root)
    return root


def batches_of(images, num_workers=0):
    sampler = TrainSampler(len(images), 5, 1, 0, 1, seed=1)
    return as_bytes(open_train_loader(images, sampler, num_workers=num_workers).batches(2))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_same_batches_as_from_files(root, tmp_path, num_workers):
    files, shards = scan_image_folder(root / "train"), pack_train(root, tmp_path, num_workers=num_workers)
    assert len(shards) == COUNT and shards.class_names == files.class_names
    np.testing.assert_array_equal(shards.labels, files.labels)
    assert [bytes(read_bytes(shards.path(i))) for i in range(COUNT)] == [
        read_bytes(files.path(i)) for i in range(COUNT)
    ]
    assert batches_of(shards, num_workers) == batches_of(files)


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_resized_shards_are_fitted_as_their_files_are(root, tmp_path, store, fit):
    """A shard of a short side of 40 keeps the shape of the image, so every fit of 32 pixels or less has all of it."""
    shards = pack_train(root, tmp_path, f"--store={store}", "--short_side=40", "--quality=95")
    files, preprocess = scan_image_folder(root / "train"), Preprocess(32, crop_pct=1.0, fit=fit)
    for index in range(0, COUNT, 5):
        stored, whole = (read_pixels(images.path(index), preprocess).astype(int) for images in (shards, files))
        assert np.abs(stored - whole).mean() < 16
        rows = [int((pixels == preprocess.fill).all(axis=(1, 2)).sum()) for pixels in (stored, whole)]
        assert abs(rows[0] - rows[1]) <= 1  # the sides of a stored image are whole pixels
        assert all(rows) == any(rows) == (fit == "letterbox")


def test_damage_is_named(root, tmp_path):
    shards = pack_train(root, tmp_path)
    shard = tmp_path / "train" / "train-00001.tar"
    check = ["--output_dir", str(tmp_path), "--check", "--num_workers", "0"]
    assert main(check) == 0
    with shard.open("r+b") as file:
        file.seek(2000)
        file.write(b"\xff")
    with pytest.raises(DataError, match="tar is damaged; remove it"):
        main(check)
    with (tmp_path / "train" / "index.npy").open("r+b") as file:  # in a label
        file.seek(-8, os.SEEK_END)
        file.write(b"\1")
    with pytest.raises(DataError, match="2 files are damaged"):
        main(check)
    os.truncate(shard, 5000)
    with pytest.raises(DataError, match=r"train-00001\.tar: expected \d+ bytes, got 5000"):
        open_dataset(tmp_path, "train", None, 3)
    with pytest.raises(BadImage, match=r"train-00001\.tar@\d+\+\d+: the shard ends at byte"):
        read_bytes(shards.path(13))
    shard.unlink()
    with pytest.raises(BadImage, match="No such file"):
        read_bytes(shards.path(13).replace("00001", "00009"))


def test_what_cannot_be_opened(root, tmp_path):
    pack_train(root, tmp_path)
    with pytest.raises(DataError, match=r"holds shards, .* leave out l\.txt"):
        open_dataset(tmp_path, "train", "l.txt", 3)
    with pytest.raises(DataError, match=r"list\.txt:17: label 2, but --nb_classes is 2"):
        open_dataset(tmp_path, "train", None, 2)
    with pytest.raises(DataError, match="holds shards already"):
        main(["--data_path", str(tmp_path), "--output_dir", str(tmp_path / "again")])
    for broken in (np.zeros(COUNT - 1, ENTRY), np.full(COUNT, -1, ENTRY), np.full(COUNT, 4, ENTRY)):
        np.save(tmp_path / "train" / "index.npy", broken)
        with pytest.raises(DataError, match=r"index\.npy: is damaged"):
            open_dataset(tmp_path, "train", None, 3)
    np.save(tmp_path / "train" / "index.npy", np.zeros(3))
    with pytest.raises(DataError, match="expected entries of"):
        open_dataset(tmp_path, "train", None, 3)
    (tmp_path / "train" / "shards.json").write_text(json.dumps({"shards": 3}))
    with pytest.raises(DataError, match="cannot be read"):
        open_dataset(tmp_path, "train", None, 3)
    (tmp_path / "train" / "shards.json").unlink()
    with pytest.raises(DataError, match=r"shards\.json: No such file or directory; pack the folder again"):
        main(["--output_dir", str(tmp_path), "--check"])
    with pytest.raises(DataError, match="no such folder"):
        main(["--data_path", str(tmp_path / "none"), "--output_dir", str(tmp_path)])


def test_an_address_is_bounded_like_a_picture(tmp_path):
    shard = tmp_path / "sparse.tar"
    shard.touch()
    os.truncate(shard, 12 * 2**30)
    with pytest.raises(BadImage, match="12288 MB; the limit is 64 MB"):
        read_bytes(f"{shard}@0+{12 * 2**30}")
    assert len(read_bytes(f"{shard}@{11 * 2**30}+512")) == 512


def test_a_shard_that_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo.tar")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "null.tar").symlink_to("/dev/zero")
    for name in ("fifo", "folder", "null"):
        with pytest.raises(BadImage, match="not a regular file"):
            read_bytes(f"{tmp_path}/{name}.tar@0+512")


@pytest.mark.parametrize("name", ["train-00001.tar", "index.npy", "settings.json"])
def test_a_fifo_in_a_packed_folder_is_refused(root, tmp_path, name):
    pack_train(root, tmp_path)
    (tmp_path / "train" / name).unlink()
    os.mkfifo(tmp_path / "train" / name)
    again = [f"--data_path={root}", f"--output_dir={tmp_path}", "--per_shard=7", "--num_workers=0"]
    if name != "settings.json":
        with pytest.raises(DataError):
            open_dataset(tmp_path, "train", None, 3)
        with pytest.raises(DataError):
            main(["--output_dir", str(tmp_path), "--check", "--num_workers", "0"])
    if name == "train-00001.tar":
        with pytest.raises(DataError, match="is no regular file; remove it and pack again"):
            main(again)
    else:
        assert main(again) == 0


@pytest.mark.parametrize("field", ["label", "offset", "size"])
def test_a_negative_number_in_the_index_is_named(root, tmp_path, field):
    pack_train(root, tmp_path)
    index = np.load(tmp_path / "train" / "index.npy")
    index[field][4] = -3
    np.save(tmp_path / "train" / "index.npy", index)
    with pytest.raises(DataError, match=rf"index\.npy: {field} -3 of image 4 is negative; remove the folder"):
        open_dataset(tmp_path, "train", None, 3)
