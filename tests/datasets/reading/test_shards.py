"""Holds shards to the files they were packed from: the same batches, checksums, and errors that name the shard."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import BadImage, DataError, DiskError
from configs.schema import AugmentConfig, PreprocessConfig, TrainLoaderConfig
from datasets.augment.transforms import build_train_transform
from datasets.loading.loader import TrainLoader
from datasets.loading.sampler import TrainSampler
from datasets.pack import Encoding, main
from datasets.preprocess import Preprocess
from datasets.reading.backends import raw_pixels
from datasets.reading.dataset import open_dataset
from datasets.reading.decode import decode, read_bytes
from datasets.reading.image_folder import scan_image_folder
from datasets.reading.jpeg_tiles import find_tiles
from datasets.reading.shards import ENTRY
from tests.datasets.fake_images import encode_image, fake_image

COUNT = 23


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """train/ with three classes of JPEG and PNG files."""
    root = tmp_path_factory.mktemp("files")
    for i in range(COUNT):
        name = "6\n" if i == 6 else i
        path = root / "train" / f"class_{i % 3}" / f"{name}.{('JPEG', 'png')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        fake_image(60 + i, 50, seed=i).save(path)
    return root


def pack(root, folder, *more, per_shard=7, num_workers=0):
    command = f"--data_path={root} --output_dir={folder} --per_shard={per_shard} --num_workers={num_workers}".split()
    assert main([*command, *more]) == 0
    return open_dataset(folder, "train", None, 3)


def batches(images, backend="pil", num_workers=0):
    transform = build_train_transform(AugmentConfig(aa="v0"), PreprocessConfig(16, "random"))
    sampler = TrainSampler(len(images), 5, 1, 0, 1, seed=1)
    config = TrainLoaderConfig(5, num_workers, image_backend=backend)
    loader = TrainLoader(images, transform, Preprocess(16), sampler, config)
    return [(batch.images.numpy().tobytes(), batch.labels.numpy().tobytes()) for batch in loader.batches(2)]


def content(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "train").iterdir())}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_same_batches_as_from_files(root, tmp_path, num_workers):
    files, shards = scan_image_folder(root / "train"), pack(root, tmp_path, num_workers=num_workers)
    assert len(shards) == COUNT and shards.class_names == files.class_names
    np.testing.assert_array_equal(shards.labels, files.labels)
    assert [bytes(read_bytes(shards.path(i))) for i in range(COUNT)] == [
        read_bytes(files.path(i)) for i in range(COUNT)
    ]
    assert batches(shards, num_workers=num_workers) == batches(files)


def test_tar_reads_them_and_the_list_names_the_originals(root, tmp_path):
    shards = pack(root, tmp_path)
    with tarfile.open(tmp_path / "train" / "train-00001.tar") as tar:
        names = tar.getnames()
        assert names[:2] == ["000000007.jpeg", "000000007.cls"] or names[:2] == ["000000007.png", "000000007.cls"]
        assert len(names) == 14 and int(tar.extractfile(names[1]).read()) == shards.label(7)
    lines = (tmp_path / "train" / "list.txt").read_text().splitlines()
    files = scan_image_folder(root / "train")
    expected = [f"{os.path.relpath(files.path(i), root / 'train')} {files.label(i)}" for i in range(COUNT)]
    assert (
        lines == [line.replace("\n", "\\n") for line in expected] and shards.place(7) == f"{tmp_path}/train/list.txt:8"
    )


def test_packing_goes_on_and_gives_the_same_bytes(root, tmp_path, capsys):
    pack(root, tmp_path / "a")
    pack(root, tmp_path / "b", num_workers=2)
    (tmp_path / "b" / "train" / "train-00002.tar").unlink()
    (tmp_path / "b" / "train" / "shards.json").unlink()
    kept = (tmp_path / "b" / "train" / "train-00001.tar").stat().st_mtime_ns
    capsys.readouterr()
    pack(root, tmp_path / "b")
    assert "23 images in 4 shards (3 of an earlier run)" in capsys.readouterr().out
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert (tmp_path / "b" / "train" / "train-00001.tar").stat().st_mtime_ns == kept
    with pytest.raises(DataError, match="holds other images or settings; choose another --output_dir"):
        main(f"--data_path={root} --output_dir={tmp_path / 'b'} --per_shard=8 --num_workers=0".split())


def test_a_stopped_writer_leaves_no_part_of_a_shard_under_its_name(root, tmp_path, monkeypatch):
    """While a shard is written, its name is not in the folder; the name appears with the whole content."""
    pack(root, tmp_path / "whole")
    folder, encoded_images, renamed = tmp_path / "out" / "train", [], {}
    encode, replace = Encoding.encode, os.replace

    def stopped(encoding, path):
        encoded_images.append(path)
        shards = {path.name for path in folder.glob("*.tar")}
        assert shards == {f"train-{number:05d}.tar" for number in range((len(encoded_images) - 1) // 7)}
        if len(encoded_images) == 10:
            raise KeyboardInterrupt
        return encode(encoding, path)

    def observed(source, target):
        renamed[os.path.basename(target)] = Path(source).read_bytes()
        replace(source, target)

    monkeypatch.setattr(Encoding, "encode", stopped)
    monkeypatch.setattr(os, "replace", observed)
    with pytest.raises(KeyboardInterrupt):
        pack(root, tmp_path / "out")
    assert [path.name for path in folder.glob("*.tar")] == ["train-00000.tar"]
    assert not (folder / "shards.json").exists()
    monkeypatch.setattr(Encoding, "encode", encode)
    pack(root, tmp_path / "out")
    expected = content(tmp_path / "whole")
    assert content(tmp_path / "out") == expected
    assert renamed.items() >= {name: data for name, data in expected.items() if name.endswith(".tar")}.items()


@pytest.mark.parametrize("name", ["settings.json", "train-00003.tar", "index.npy", "list.txt"])
def test_shards_json_is_the_last_file_and_says_that_all_others_are_there(root, tmp_path, monkeypatch, name):
    replace = os.replace

    def fail(source, target):
        if os.path.basename(target) == name:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DiskError, match=r"cannot write .*: No space left on device"):
        main(f"--data_path={root} --output_dir={tmp_path} --per_shard=7 --num_workers=0".split())
    assert not (tmp_path / "train" / "shards.json").exists()


@pytest.mark.parametrize(("store", "extension"), [("jpeg", "jpg"), ("raw", "ppm")])
def test_shrunk(root, tmp_path, store, extension):
    shards = pack(root, tmp_path, "--store", store, "--short_side", "32")
    with tarfile.open(tmp_path / "train" / "train-00000.tar") as tar:
        assert tar.getnames()[0] == f"000000000.{extension}"
    files = scan_image_folder(root / "train")
    for i in range(5):
        small, large = (decode(read_bytes(images.path(i)), "x") for images in (shards, files))
        assert min(small.size) == 32 and abs(small.width / small.height - large.width / large.height) < 0.05
        expected = large.resize(small.size, Image.Resampling.BICUBIC)
        error = np.abs(np.asarray(small).astype(int) - np.asarray(expected)).mean()
        assert error == 0 if store == "raw" else error < 4
        assert (find_tiles(read_bytes(shards.path(i))) is not None) == (store == "jpeg")
    pytest.importorskip("cv2")
    assert batches(shards, "cv2") == batches(shards, "cv2", num_workers=2)


def test_raw_pixels():
    image = fake_image(50, 30)
    data = encode_image(image, "PPM")
    np.testing.assert_array_equal(raw_pixels(data), np.asarray(image))
    too_long = b"P6\n4730 4730\n255\n" + bytes(3 * 4730**2)
    for other in (
        too_long,
        data[:-1],
        data + b"x",
        data.replace(b"P6", b"P5"),
        b"",
        b"P6\n0 5\n255\n",
        encode_image(image, "PNG"),
    ):
        assert raw_pixels(other) is None


def test_damage_is_named(root, tmp_path):
    shards = pack(root, tmp_path)
    shard = tmp_path / "train" / "train-00001.tar"
    check = ["--output_dir", str(tmp_path), "--check", "--num_workers", "0"]
    assert main(check) == 0
    with shard.open("r+b") as file:
        file.seek(2000)
        file.write(b"\xff")
    with pytest.raises(DataError, match="1 files are damaged, the first"):
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
    pack(root, tmp_path)
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


BELOW, AS_IS = "expected a whole number of at least 1, got", "need --store jpeg or raw"


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        ("--per_shard=0", BELOW),
        ("--per_shard=-1", BELOW),
        ("--short_side=0", BELOW),
        ("--quality=x", BELOW),
        ("--short_side=9", AS_IS),
        ("--exif_orientation=apply", AS_IS),
    ],
)
def test_wrong_flags(tmp_path, flag, error, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--output_dir", str(tmp_path), flag])
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(("store", "size"), [("raw", (4730, 4730)), ("raw", (65_501, 1)), ("jpeg", (65_501, 1))])
def test_what_no_reader_would_take_is_not_written(tmp_path, store, size):
    Image.new("L", size).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=rf"a\.png: {size[0]} x {size[1]} pixels are too many for --store {store}"):
        Encoding(store).encode(str(tmp_path / "a.png"))


def test_bad_image_ends_the_packing(root, tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "1.jpg").write_bytes(b"<html>")
    command = f"--data_path={tmp_path} --output_dir={tmp_path / 'out'} --store=raw --num_workers=0".split()
    with pytest.raises(BadImage, match=r"1\.jpg: not an image.*datasets\.check writes lists without such images"):
        main(command)
    assert not (tmp_path / "out" / "train" / "shards.json").exists()
