"""Packing: shards are the same bytes every time, a stopped packing continues, and its flags and errors."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import BadImage, DataError, DiskError
from datasets.loading.sampler import TrainSampler
from datasets.pack import Encoding, main
from datasets.reading.dataset import open_dataset
from datasets.reading.decode import decode, read_bytes
from datasets.reading.image_folder import scan_image_folder
from datasets.reading.jpeg import find_tiles
from datasets.reading.shards import open_shards
from factory.data import _other_orientation
from tests.datasets.fake_images import fake_image
from tests.datasets.loaders import as_bytes, open_train_loader
from tests.datasets.packing import COUNT, pack_train, write_class_folders


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    write_class_folders(root)
    return root


def contents(folder):
    """Content of each file of folder/train, by name."""
    return {path.name: path.read_bytes() for path in sorted((folder / "train").iterdir())}


def test_tar_reads_the_shards_and_list_txt_names_the_originals(root, tmp_path):
    shards = pack_train(root, tmp_path)
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


def test_packing_continues_and_gives_the_same_bytes(root, tmp_path, capsys):
    pack_train(root, tmp_path / "a")
    pack_train(root, tmp_path / "b", num_workers=2)
    (tmp_path / "b" / "train" / "train-00002.tar").unlink()
    (tmp_path / "b" / "train" / "shards.json").unlink()
    kept = (tmp_path / "b" / "train" / "train-00001.tar").stat().st_mtime_ns
    capsys.readouterr()
    pack_train(root, tmp_path / "b")
    assert "23 images in 4 shards (3 of an earlier run)" in capsys.readouterr().out
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert (tmp_path / "b" / "train" / "train-00001.tar").stat().st_mtime_ns == kept
    with pytest.raises(DataError, match="holds other images or settings; choose another --output_dir"):
        main(f"--data_path={root} --output_dir={tmp_path / 'b'} --per_shard=8 --num_workers=0".split())


def test_other_images_with_the_same_labels_are_refused(tmp_path):
    for name in ("a", "b"):
        path = tmp_path / name / "train" / "cat" / f"{name}.png"
        path.parent.mkdir(parents=True)
        fake_image(seed=len(name)).save(path)
    main(f"--data_path={tmp_path / 'a'} --output_dir={tmp_path / 'out'} --num_workers=0".split())
    with pytest.raises(DataError, match="holds other images or settings; choose another --output_dir"):
        main(f"--data_path={tmp_path / 'b'} --output_dir={tmp_path / 'out'} --num_workers=0".split())


def test_a_stopped_writer_leaves_no_part_of_a_shard_under_its_name(root, tmp_path, monkeypatch):
    """While a shard is written, its name is not in the folder; the name appears with the whole content."""
    pack_train(root, tmp_path / "whole")
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
        pack_train(root, tmp_path / "out")
    assert [path.name for path in folder.glob("*.tar")] == ["train-00000.tar"]
    assert not (folder / "shards.json").exists()
    monkeypatch.setattr(Encoding, "encode", encode)
    pack_train(root, tmp_path / "out")
    expected = contents(tmp_path / "whole")
    assert contents(tmp_path / "out") == expected
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


def test_a_packing_that_is_repaired_is_not_called_whole_meanwhile(root, tmp_path, monkeypatch):
    pack_train(root, tmp_path)
    shard = tmp_path / "train" / "train-00001.tar"
    shard.write_bytes(b"damaged")
    monkeypatch.setattr(Encoding, "encode", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DiskError):
        pack_train(root, tmp_path)
    assert not (tmp_path / "train" / "shards.json").exists()


@pytest.mark.parametrize(("store", "extension"), [("jpeg", "jpg"), ("raw", "ppm")])
def test_short_side(root, tmp_path, store, extension):
    shards = pack_train(root, tmp_path, "--store", store, "--short_side", "32")
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
    loaders = [
        open_train_loader(shards, TrainSampler(COUNT, 5, 1, 0, 1, seed=1), image_backend="cv2", num_workers=num_workers)
        for num_workers in (0, 2)
    ]
    assert as_bytes(loaders[0].batches(2)) == as_bytes(loaders[1].batches(2))


TOO_SMALL, NEEDS_ENCODING = "expected a whole number of at least 1, got", "need --store jpeg or raw"


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        ("--per_shard=0", TOO_SMALL),
        ("--per_shard=-1", TOO_SMALL),
        ("--short_side=0", TOO_SMALL),
        ("--quality=x", TOO_SMALL),
        ("--quality=101", "invalid choice"),
        ("--num_workers=-1", "expected a whole number of at least 0"),
        ("--short_side=9", NEEDS_ENCODING),
        ("--exif_orientation=apply", NEEDS_ENCODING),
    ],
)
def test_wrong_flags(tmp_path, flag, error, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--output_dir", str(tmp_path), flag])
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(("store", "size"), [("raw", (4730, 4730)), ("raw", (65_501, 1)), ("jpeg", (65_501, 1))])
def test_an_image_that_no_reader_accepts_is_not_written(tmp_path, store, size):
    Image.new("L", size).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=rf"a\.png: {size[0]} x {size[1]} pixels are too many for --store {store}"):
        Encoding(store).encode(str(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([], None), (["--store=raw"], "ignore"), (["--store=raw", "--exif_orientation=apply"], "apply")],
)
def test_shards_tell_what_was_done_with_exif(root, tmp_path, flags, expected):
    """A network that is fed turned photographs gets those of shards as they were packed."""
    main(["--data_path", str(root), "--output_dir", str(tmp_path), "--num_workers=0", *flags])
    images = open_dataset(tmp_path, "train", None)
    assert images.exif_orientation == expected
    said = [_other_orientation(images, wanted) for wanted in ("ignore", "apply")]
    assert [len(one) for one in said] == [int(expected == "apply"), int(expected == "ignore")]
    (tmp_path / "train" / "settings.json").write_text("{")
    assert open_dataset(tmp_path, "train", None).exif_orientation is None


def test_bad_image_ends_the_packing(root, tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "1.jpg").write_bytes(b"<html>")
    command = f"--data_path={tmp_path} --output_dir={tmp_path / 'out'} --store=raw --num_workers=0".split()
    with pytest.raises(BadImage, match=r"1\.jpg: not an image.*datasets\.check writes lists without such images"):
        main(command)
    assert not (tmp_path / "out" / "train" / "shards.json").exists()


def test_packing_again_does_not_take_a_flipped_bit_for_the_truth(root, tmp_path, capsys):
    pack_train(root, tmp_path / "a")
    pack_train(root, tmp_path / "b")
    folder = tmp_path / "b" / "train"
    content = bytearray((folder / "train-00001.tar").read_bytes())
    content[content.index(b"IDAT") + 9] ^= 1  # in the pixels of an image: the tar stays readable
    (folder / "train-00001.tar").write_bytes(content)
    (folder / "train-00002.tar.sha256").write_bytes(b"")
    (folder / "train-00003.tar.sha256").unlink()
    pack_train(root, tmp_path / "b")
    said = capsys.readouterr().out
    assert "written again, because" in said and "(1 of an earlier run)" in said
    assert all(f"train-{number:05d}.tar" in said.split("because")[1] for number in (1, 2, 3))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("store", ["as_is", "jpeg", "raw"])
def test_a_source_that_changed_since_it_was_packed_is_packed_again(tmp_path, capsys, store):
    write_class_folders(tmp_path)
    pack_train(tmp_path, tmp_path / "out", f"--store={store}")
    changed = tmp_path / "train" / "class_0" / "0.JPEG"
    fake_image(99, 50, seed=99).save(changed)
    capsys.readouterr()
    shards = pack_train(tmp_path, tmp_path / "out", f"--store={store}")
    assert bytes(read_bytes(shards.path(0))) == Encoding(store).encode(str(changed))[1]
    said = capsys.readouterr().out
    assert "or their images changed: train-00000.tar\n" in said and "(3 of an earlier run)" in said
    pack_train(tmp_path, tmp_path / "out", f"--store={store}")
    assert "(4 of an earlier run)" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"images": 1}', b"\xff\xfe"])
def test_damaged_settings_do_not_block_a_folder(root, tmp_path, capsys, content):
    pack_train(root, tmp_path / "a")
    shards = pack_train(root, tmp_path / "b", "--store=jpeg", "--quality=20")
    settings = tmp_path / "b" / "train" / "settings.json"
    settings.write_bytes(content)
    shards = pack_train(root, tmp_path / "b")  # with other settings: nothing of the earlier packing may stay
    assert f"note: {settings} is damaged: it is now {settings}.damaged, and all" in capsys.readouterr().out
    assert settings.with_name("settings.json.damaged").read_bytes() == content
    settings.with_name("settings.json.damaged").unlink()
    assert contents(tmp_path / "a") == contents(tmp_path / "b") and len(shards) == COUNT


def test_a_list_of_the_originals_that_was_cut_short_is_found(root, tmp_path):
    pack_train(root, tmp_path)
    path = tmp_path / "train" / "list.txt"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"list.txt: expected \d+ bytes"):
        open_shards(tmp_path / "train")
