"""IDX files become folders and lists with the same pixels and labels; damaged and crafted files are refused."""

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.cli import run
from common.errors import DataError, MissingDependencyError
from datasets import idx, pack
from datasets.check.__main__ import main as check
from datasets.class_names import read_class_names
from datasets.classes import choose_classes
from datasets.idx import FASHION_MNIST, NAMES, _first_label_and_names, main, open_source
from datasets.idx_file import IdxFile
from datasets.reading.dataset import open_dataset
from datasets.reading.image_folder import scan_image_folder
from datasets.reading.image_list import read_image_list
from tests.readme_commands import commands

COUNTS = {"train": 23, "t10k": 11}


def idx_bytes(array: np.ndarray, magic: int = 8) -> bytes:
    return struct.pack(">HBB", 0, magic, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_set(folder: Path, prefix: str = "", *, first: int = 0, classes: int = 10, is_packed: bool = True) -> dict:
    """The four files of a small data set with pictures of 7 x 5 pixels; returns {split: (images, labels)}."""
    folder.mkdir(exist_ok=True)
    rng, arrays = np.random.default_rng(1), {}
    for split, count in COUNTS.items():
        images = rng.integers(0, 256, (count, 7, 5), np.uint8)
        labels = (np.arange(count) % classes + first).astype(np.uint8)
        arrays[split] = images, labels
        for array, kind in ((images, "images-idx3"), (labels, "labels-idx1")):
            data = idx_bytes(array)
            name = f"{prefix}{split}-{kind}-ubyte"
            (folder / (f"{name}.gz" if is_packed else name)).write_bytes(gzip.compress(data) if is_packed else data)
    return arrays


def read(folder: Path, split: str) -> list[tuple[np.ndarray, int]]:
    """Pixels and label of each image of a list, in the order of the numbers in the file names."""
    images = read_image_list(folder / f"{split}_list.txt", folder)
    pairs = sorted((Path(images.path(i)).stem, images.path(i), images.label(i)) for i in range(len(images)))
    return [(np.asarray(Image.open(path)), label) for _, path, label in pairs]


@pytest.mark.parametrize("is_packed", [True, False])
def test_every_pixel_and_label(tmp_path, is_packed, capsys):
    arrays = write_set(tmp_path / "raw", is_packed=is_packed)
    folder = tmp_path / "out"
    assert main([str(tmp_path / "raw"), "--output_dir", str(folder), "--class_names", "mnist"]) == 0
    assert "23 images in train/, 11 images in val/, 10 classes, 5 x 7 pixels" in capsys.readouterr().out
    for split, (images, labels) in zip(("train", "val"), arrays.values(), strict=True):
        found = read(folder, split)
        assert [label for _, label in found] == labels.tolist()
        assert all(np.array_equal(pixels, image) for (pixels, _), image in zip(found, images, strict=True))
        listed, scanned = read_image_list(folder / f"{split}_list.txt", folder), scan_image_folder(folder / split)
        assert [listed.path(i) for i in range(len(listed))] == [scanned.path(i) for i in range(len(scanned))]
        assert listed.labels.tolist() == scanned.labels.tolist()
    assert read_class_names(folder / "label_list.txt", 10)[3] == "three"


def test_the_same_files_again_and_after_a_stop(tmp_path):
    write_set(tmp_path / "raw")
    folder, command = tmp_path / "out", [str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out")]

    def content() -> dict:
        return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    main(command)
    before = content()
    (folder / "train_list.txt").unlink()
    first = next((folder / "train").rglob("*.png"))
    first.write_bytes(first.read_bytes()[:20])
    main(command)
    assert content() == before


def test_lists_are_removed_before_the_first_picture_is_written(tmp_path, monkeypatch):
    write_set(tmp_path / "raw")
    command = [str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out")]
    main(command)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert not list((tmp_path / "out").glob("*_list.txt*"))


def test_a_folder_of_other_files_is_refused(tmp_path):
    write_set(tmp_path / "raw")
    write_set(tmp_path / "other", classes=9)
    main([str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out")])
    for source, folder in (("other", "out"), ("raw", "raw")):
        with pytest.raises(DataError, match="holds other files; choose another --output_dir"):
            main([str(tmp_path / source), "--output_dir", str(tmp_path / folder)])


def test_the_result_is_checked_and_packed_as_any_other_data(tmp_path, capsys):
    write_set(tmp_path / "raw")
    folder = tmp_path / "out"
    main([str(tmp_path / "raw"), "--output_dir", str(folder)])
    lists = [str(folder / f"{split}_list.txt") for split in ("train", "val")]
    assert check([str(folder), "--lists", *lists, "--num_workers", "1"]) == 0
    for split, path in zip(("train", "val"), lists, strict=True):
        command = [
            "--data_path",
            str(folder),
            "--split",
            split,
            "--list",
            path,
            "--output_dir",
            str(tmp_path / "shards"),
        ]
        assert pack.main([*command, "--num_workers", "1"]) == 0
    assert len(open_dataset(str(tmp_path / "shards"), "val", None, 10)) == COUNTS["t10k"]


def test_emnist_is_transposed_and_its_letters_begin_at_1(tmp_path, capsys):
    raw = tmp_path / "gzip"
    arrays = write_set(raw, "emnist-letters-", first=1, classes=11)
    write_set(raw, "emnist-digits-")
    with pytest.raises(DataError, match="2 data sets; choose one by --set: emnist-digits, emnist-letters"):
        open_source(raw)
    with pytest.raises(DataError, match=r"--set emnist-leters; did you mean emnist-letters\?"):
        open_source(raw, name_of_set="emnist-leters")
    (raw / "emnist-letters-mapping.txt").write_text("".join(f"{i} {64 + i} {96 + i}\n" for i in range(1, 12)))
    main([str(raw), "--set", "emnist-letters", "--output_dir", str(tmp_path / "out")])
    notes = capsys.readouterr().out
    assert "begin at 1" in notes and "--no_transpose" in notes
    images, labels = arrays["train"]
    found = read(tmp_path / "out", "train")
    assert [label for _, label in found] == (labels.astype(int) - 1).tolist()
    assert np.array_equal(found[4][0], images[4].T)
    names = read_class_names(tmp_path / "out" / "label_list.txt")
    assert names[:2] == ["Aa", "Bb"] and len(names) == 11
    folders = open_dataset(str(tmp_path / "out"), "train", None, 11)
    classes = choose_classes(folders, label_list=str(tmp_path / "out" / "label_list.txt"))
    assert classes.folders[10] == "10" and classes.folders[1] == "01" and classes.names[10] == "Kk"
    assert np.array_equal(next(iter(open_source(raw, name_of_set="emnist-letters").images["train"].rows())), images[0])
    assert not open_source(raw, name_of_set="emnist-letters", transpose=False).is_transposed


def test_labels_from_1_without_a_mapping_file(tmp_path):
    write_set(tmp_path / "raw", "emnist-letters-", first=1, classes=3)
    source = open_source(tmp_path / "raw")
    assert source.names == ("0", "1", "2") and source.labels["train"].tolist()[:4] == [0, 1, 2, 0]
    assert any("begin at 1" in note for note in source.notes)


def test_given_names_decide_whether_labels_begin_at_1():
    """A part of MNIST without its zeros has labels from 1, and its tenth name is that of the nine."""
    digits, missing = NAMES["mnist"], Path("none.txt")
    assert _first_label_and_names(np.array([1, 2, 9]), missing, digits) == (0, digits, "")
    first, names, note = _first_label_and_names(np.array([1, 2, 3]), missing, ("a", "b", "c"))
    assert (first, names) == (1, ("a", "b", "c")) and "begin at 1" in note


def test_the_package_of_debian(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(idx, "DEBIAN_FOLDER", tmp_path / "missing")
    with pytest.raises(MissingDependencyError, match="apt-get install dataset-fashion-mnist"):
        open_source(FASHION_MNIST)
    write_set(tmp_path / "share")
    monkeypatch.setattr(idx, "DEBIAN_FOLDER", tmp_path / "share")
    assert open_source(FASHION_MNIST).names[9] == "Ankle boot"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "ends inside item 22 of 23; copy or download"),
        (lambda data: data[:10], "ends inside the header"),
        (lambda data: data + b"\0", "has bytes behind the 23 items of its header"),
        (lambda data: b"<htm" + data[4:], "is no IDX file: it begins with 3c 68 74 6d"),
        (lambda data: data[:2] + b"\x0d" + data[3:], "holds float32; only IDX files of unsigned bytes"),
        (lambda data: data[:3] + b"\1" + data[4:], "has 1 dimensions; expected a file of images"),
        (lambda data: data[:4] + b"\0\0\0\0" + data[8:], "promises 0 x 7 x 5 values, so nothing"),
        (lambda data: data[:4] + b"\xff\xff\xff\xff" + data[8:], "promises 4,294,967,295 x 7 x 5 values; the limit"),
        (lambda data: data[:8] + b"\0\1\0\0" + data[12:], "promises 23 x 65,536 x 5 values; the limit"),
        (lambda data: data[:4] + b"\0\0\0\x16" + data[8:-35], "23 labels, but .* has 22 images"),
        (lambda data: b"", "ends inside the header"),
    ],
)
@pytest.mark.parametrize("is_packed", [True, False])
def test_damaged_and_crafted_files_are_refused(tmp_path, change, message, is_packed):
    write_set(tmp_path / "raw", is_packed=is_packed)
    path = tmp_path / "raw" / f"train-images-idx3-ubyte{'.gz' * is_packed}"
    data = change(gzip.decompress(path.read_bytes()) if is_packed else path.read_bytes())
    path.write_bytes(gzip.compress(data) if is_packed else data)
    with pytest.raises(DataError, match=message) as caught:
        main([str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out")])
    assert caught.value.exit_code == 3 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-9], "the file is cut short"),
        (lambda data: data[:-3], "the file is cut short"),
        (lambda data: data + b"more", "bytes behind the end"),
        (lambda data: data + data, "bytes behind the end"),
        (lambda data: data[:-8] + bytes(4) + data[-4:], "incorrect data check"),
        (lambda data: data[:30] + bytes([data[30] ^ 16]) + data[31:], "damaged gzip data|ends inside|bytes behind"),
    ],
)
def test_damaged_gzip(tmp_path, change, message):
    write_set(tmp_path / "raw")
    path = tmp_path / "raw" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "raw")


def test_what_a_small_file_may_cost(tmp_path):
    """Zeros that are 200 MB when they are decompressed, and a header with a name of 8 MB: refused in little memory."""
    path, header = tmp_path / "x", struct.pack(">HBB3I", 0, 8, 3, 10, 28, 28)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = squeeze.compress(header) + b"".join(squeeze.compress(bytes(2**20)) for _ in range(200)) + squeeze.flush()
    named = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 2**23
    tracemalloc.start()
    for data in (packed, named):
        path.write_bytes(data)
        with pytest.raises(DataError):
            IdxFile.of_images(path).check()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 65\n2 66\n", "without gap"),
        ("0 65\n0 66\n", "mapping.txt:2: label 0 a second time"),
        ("0 65\n1 65\n", "two labels have the same letters"),
        ("0 7\n", "mapping.txt:1: .* cannot be shown"),
        ("0 99999999\n", "expected '<label> <code point> ...'"),
        ("0 1114112\n", "cannot be shown"),
        ("a b\n", "expected '<label> <code point> ...'"),
        ("0 65\n1 66\n", "label 2 of image 2, but the 2 classes have the labels 0 to 1"),
    ],
)
def test_wrong_mapping_files(tmp_path, text, message):
    write_set(tmp_path / "raw", "emnist-balanced-", classes=3)
    (tmp_path / "raw" / "emnist-balanced-mapping.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "raw")


def test_messages_name_the_next_step(tmp_path, capsys, monkeypatch):
    write_set(tmp_path / "fashion_raw")
    (tmp_path / "empty").mkdir()
    (tmp_path / "names.txt").write_text("a\nb\n")
    for source, extra, message in (
        ("fashion_rwa", (), "did you mean"),
        ("empty", (), "no IDX files; expected train-images-idx3-ubyte.gz"),
        ("fashion_raw", ("--class_names", "fashion_mnist"), "did you mean fashion-mnist?"),
        ("fashion_raw", ("--class_names", str(tmp_path / "names.txt")), "2 classes have the labels 0 to 1"),
    ):
        command = [str(tmp_path / source), "--output_dir", str(tmp_path / "out"), *extra]
        with pytest.raises(SystemExit) as caught:
            monkeypatch.setattr("sys.argv", ["idx", *command])
            run(main)
        assert caught.value.code == 3 and message in capsys.readouterr().err
    (tmp_path / "fashion_raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="the file of the labels of t10k or test is missing"):
        open_source(tmp_path / "fashion_raw")


def test_the_commands_of_the_page():
    lines = [line for line in commands("docs/data.md") if "datasets.idx" in line]
    assert len(lines) == 2
    for line in lines:
        idx.create_parser().parse_args(line.split()[3:])
