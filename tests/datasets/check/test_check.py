"""Check of a data set: every planted fault is reported, with a fix, and the clean lists can be trained on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from common.errors import DataError, DiskError
from datasets.check import report
from datasets.check.__main__ import main
from datasets.check.findings import KINDS, Split, _of_classes
from datasets.class_names import read_class_names
from datasets.pack import main as pack
from datasets.reading.dataset import open_dataset
from datasets.reading.decode import read_image
from datasets.reading.image_folder import scan_image_folder
from datasets.reading.image_list import read_image_list
from tests.datasets.fake_images import encode_image, fake_image

ROOT = Path(__file__).parents[3]
PER_CLASS = 11


def png(width: int, height: int, seed: int) -> bytes:
    return encode_image(fake_image(width, height, seed), "PNG")


def rotated_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode_image(fake_image(64, 48, 900), "JPEG", exif=exif)


def suspect() -> bytes:
    """A JPEG with one changed byte, which Pillow decodes nevertheless."""
    data = bytearray(encode_image(fake_image(64, 48, 10), "JPEG", quality=95))
    data[data.index(b"\xff\xda") + 40] ^= 0xFF
    return bytes(data)


# kind: (split, planted files as path -> content, None for a missing file, label, expected number of findings)
PLANTED = {
    "missing": ("train", {"gone.png": None}, 0, 1),
    "empty": ("train", {"empty.png": b""}, 1, 1),
    "unreadable": (
        "val",
        {"cut.png": png(64, 48, 1)[:900], "page.jpg": b"<html></html>"},
        0,
        2,
    ),
    "two_labels": (
        "train",
        {"two_a.png": png(64, 48, 2)},
        0,
        2,
    ),  # the fixture plants the second file
    "copies": ("val", {f"copy_{i}.png": png(64, 48, 3) for i in "ab"}, 1, 1),
    "tiny": ("train", {"tiny.png": png(31, 64, 4)}, 0, 1),
    "ribbon": ("train", {"ribbon.png": png(300, 60, 5)}, 0, 1),
    "blank": ("train", {"blank.png": encode_image(Image.new("RGB", (64, 48), "white"), "PNG")}, 0, 1),
    "turned": ("train", {"turned.jpg": rotated_by_exif()}, 0, 1),
    "odd_mode": ("train", {"cmyk.jpg": encode_image(fake_image(64, 48, 6).convert("CMYK"), "JPEG")}, 0, 1),
    "suspect": ("train", {"suspect.jpg": suspect()}, 0, 1),
    "extension": ("train", {"jpeg.png": encode_image(fake_image(64, 48, 7), "JPEG")}, 0, 1),
    "animated": (
        "train",
        {"two.gif": encode_image(fake_image(64, 48, 8), "GIF", save_all=True, append_images=[fake_image(64, 48, 9)])},
        0,
        1,
    ),
}
# kind: (split, expected number of findings), for faults of the lists themselves
IN_LISTS = {
    "faulty_line": ("train", 2),
    "label_range": ("train", 2),
    "listed_twice": ("train", 1),
    "train_in_val": ("train", 1),
    "untrained_class": ("val", 1),
    "unscored_class": ("train", 1),
    "imbalance": ("train", 1),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder with lists and all faults at once, its report, and the exit code."""
    pytest.importorskip("simplejpeg")
    root = tmp_path_factory.mktemp("planted")
    lines = {"train": [], "val": []}

    def plant(split, name, content, label):
        (root / split).mkdir(exist_ok=True)
        if content is not None:
            (root / split / name).write_bytes(content)
        lines[split].append(f"{split}/{name} {label}")

    for split in lines:
        for label in (0, 1):
            for i in range(PER_CLASS):
                seed = 1000 * label + 10 * i + (5 if split == "val" else 0)
                plant(split, f"{label}_{i}.png", png(64, 48, 10_000 + seed), label)
    for split, files, label, _ in PLANTED.values():
        for name, content in files.items():
            plant(split, name, content, label)
    plant("train", "two_b.png", PLANTED["two_labels"][1]["two_a.png"], 1)
    plant("train", "only_train.png", png(64, 48, 20), 2)
    plant("val", "only_val.png", png(64, 48, 21), 3)
    plant("train", "leak.png", png(64, 48, 22), 0)
    plant("val", "leaked.bmp", encode_image(fake_image(64, 48, 22), "BMP"), 0)  # the same pixels in another format
    lines["train"] += [lines["train"][0], "no_label", "train/x.png one", "train/1_1.png 4", "train/1_2.png -1"]
    for split, text in lines.items():
        (root / f"{split}_list.txt").write_text("\n".join(text) + "\n")
    report = root / "report"
    lists = [str(root / f"{split}_list.txt") for split in lines]
    flags = [
        "--nb_classes=4",
        "--num_workers=0",
        "--output_dir",
        str(report),
        "--write_clean_lists",
        str(root / "clean"),
    ]
    code = main([str(root), "--lists", *lists, *flags])
    return root, json.loads((report / "check.json").read_text()), code


def findings_of(report, kind, split):
    return [one for one in report["findings"] if (one["kind"], one["split"]) == (kind, split)]


@pytest.mark.parametrize("kind", PLANTED | IN_LISTS)
def test_planted_faults_are_reported(planted, kind):
    split, count = IN_LISTS.get(kind) or (PLANTED[kind][0], PLANTED[kind][3])
    (finding,) = findings_of(planted[1], kind, split)
    assert finding["count"] == count and len(finding["examples"]) == count
    assert finding["severity"] == KINDS[kind].severity and finding["fix"] == KINDS[kind].fix
    for name in PLANTED.get(kind, (split, {}, 0, 0))[1]:
        if kind not in ("copies",):
            assert any(f"/{name} (" in example and "_list.txt:" in example for example in finding["examples"]), name


def test_nothing_else_is_reported(planted):
    kinds = {(one["kind"], one["split"]) for one in planted[1]["findings"]}
    expected = {(kind, row[0]) for kind, row in (PLANTED | IN_LISTS).items()}
    assert kinds - expected == {("imbalance", "val")}  # the class of a single image, which train does not have
    assert expected <= kinds and planted[2] == 3


def test_report_counts(planted):
    train = planted[1]["splits"]["train"]
    assert train["classes"] == 3 and train["images_per_class"]["2"] == 1
    assert train["images"] == train["decodable"] + 2  # one missing, one empty
    assert train["formats"]["GIF"] == 1 and train["short_side_percentiles"]["0"] == 31
    assert read_image(planted[0] / "report" / "check.png").width > 500


def test_clean_lists_hold_what_is_good(planted):
    root = planted[0]
    clean = {split: read_image_list(root / "clean" / f"{split}_list.txt", root, 4) for split in ("train", "val")}
    names = {split: [Path(images.path(i)).name for i in range(len(images))] for split, images in clean.items()}
    gone = {"gone.png", "empty.png", "two_a.png", "two_b.png", "leak.png"}
    assert not gone & set(names["train"]) and len(set(names["train"])) == len(names["train"])
    assert "leaked.bmp" in names["val"] and not {"cut.png", "page.jpg"} & set(names["val"])
    for images in clean.values():
        for i in range(len(images)):
            read_image(images.path(i))
    lists = [str(root / "clean" / f"{split}_list.txt") for split in ("train", "val")]
    main([str(root), "--lists", *lists, "--num_workers=0", "--output_dir", str(root / "again")])
    findings = json.loads((root / "again" / "check.json").read_text())["findings"]
    assert [one["kind"] for one in findings if one["severity"] == "error"] == ["untrained_class"]


def test_clean_lists_keep_the_names_of_the_folders(folder, check):
    check(folder, "--write_clean_lists", folder / "clean")
    names = sorted(path.name for path in (folder / "train").iterdir())
    assert read_class_names(folder / "clean" / "label_list.txt") == names


def test_clean_lists_train(planted, tmp_path):
    root = planted[0]
    command = "main.py --model mobilenet_v3_small_x0_35 --input_size 32 --nb_classes 4 --epochs 1 --batch_size 8"
    flags = ["--data_path", root, "--cls_label_path_train", root / "clean/train_list.txt"]
    flags += ["--cls_label_path_val", root / "clean/val_list.txt", "--num_workers", "0"]
    done = subprocess.run(
        [sys.executable, *command.split(), *map(str, flags)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    num_images = len(read_image_list(root / "clean/val_list.txt", root, 4))
    assert f"Accuracy of the network on the {num_images} test images: " in done.stdout
    assert "Max accuracy: " in done.stdout


# ------------------------------------------------------------------------------------------------------ class folders


def test_good_folder(folder, check):
    code, report = check(folder)
    assert (code, report["findings"]) == (0, [])


@pytest.mark.parametrize("kind", PLANTED)
def test_only_errors_change_the_exit_code(folder, kind, check):
    """A script that stops at exit code 3 continues with a data set that has only warnings."""
    split, files, label, _ = PLANTED[kind]
    if kind == "suspect":
        pytest.importorskip("simplejpeg")
    for name, content in files.items():
        path = folder / split / "ab"[label] / name
        if content is None:
            path.symlink_to("nowhere")
        else:
            path.write_bytes(content)
    if kind == "two_labels":
        shutil.copy(folder / "train/a/two_a.png", folder / "train/b/two_b.png")
    code, report = check(folder)
    assert [one["kind"] for one in report["findings"]] == [kind]
    assert code == (3 if kind in ("missing", "empty", "unreadable", "two_labels") else 0)


def test_folders_of_classes(folder, check):
    (folder / "val" / "b").rename(folder / "val" / "c")
    (folder / "train" / "empty").mkdir()
    code, report = check(folder)
    examples = {(one["kind"], one["split"]): one["examples"] for one in report["findings"]}
    assert code == 3 and examples == {
        ("empty_class", "train"): [str(folder / "train" / "empty")],
        ("untrained_class", "val"): ["class c"],
        ("unscored_class", "train"): ["class b", "class empty"],
    }


def test_labels_beyond_are_left_out_of_clean_lists(folder, check):
    code, report = check(folder, "--nb_classes=1", "--write_clean_lists", folder / "clean")
    counts = {(one["kind"], one["split"], one["count"]) for one in report["findings"]}
    assert code == 3 and counts == {("label_range", "train", 2), ("label_range", "val", 2)}
    assert len(read_image_list(folder / "clean" / "train_list.txt", folder, 1)) == 2


def test_clean_lists_never_replace_the_lists(tmp_path, capsys):
    (tmp_path / "train_list.txt").write_text("gone.jpg 0")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "--lists", str(tmp_path / "train_list.txt"), "--write_clean_lists", str(tmp_path / ".")])
    assert "could replace --lists; name another folder" in capsys.readouterr().err


def test_a_split_without_an_image(tmp_path, check):
    (tmp_path / "train").mkdir()
    fake_image().save(tmp_path / "train" / "in_no_class.png")
    code, report = check(tmp_path)
    assert code == 3 and [one["kind"] for one in report["findings"]] == ["no_image"]


def test_an_at_sign_in_the_path_is_no_shard(folder, check):
    at = folder / "me@host"
    at.mkdir()
    (folder / "train").rename(at / "train")
    fake_image(48, 40, seed=99).save(at / "train/a/png.jpg", "PNG")
    assert [one["kind"] for one in check(at)[1]["findings"]] == ["extension"]


def test_shards(folder, check):
    for split in ("train", "val"):
        assert pack([f"--data_path={folder}", f"--split={split}", f"--output_dir={folder / 'packed'}"]) == 0
    code, report = check(folder / "packed")
    with pytest.raises(DataError, match="shards have no list"):
        check(folder / "packed", "--write_clean_lists", folder / "clean")
    assert code == 0
    assert report["findings"] == [] and report["splits"]["train"]["decodable"] == 4
    assert len(open_dataset(folder / "packed", "val", None, 2)) == len(scan_image_folder(folder / "val")) == 4


def test_neither_folder_nor_list(tmp_path):
    with pytest.raises(
        DataError, match="expected one folder of pictures per class, or train/ and val/ with one each, got none"
    ):
        main([str(tmp_path)])
    with pytest.raises(DataError, match=r"no\.txt: No such file"):
        main([str(tmp_path), "--lists", str(tmp_path / "no.txt")])


@pytest.mark.parametrize("flag", ["--output_dir", "--write_clean_lists", "--write_manifest"])
def test_a_file_that_cannot_be_written_is_an_error_of_the_disk(folder, flag):
    (folder / "file").touch()
    target = folder / "file" / "manifest.txt" if flag == "--write_manifest" else folder / "file"
    with pytest.raises(DiskError, match=r"cannot write .*file"):
        main([str(folder), "--num_workers=0", flag, str(target)])


# --- a plain folder -------------------------------------------------------------------------------------------------


def test_a_plain_folder_is_checked_as_one_split_with_all_its_faults(tmp_path, check, monkeypatch):
    monkeypatch.setattr("datasets.check.__main__.draw_report", lambda *arguments: None)
    files = {f"{name}/{i}.png": png(64, 48, seed + i) for seed, name in ((0, "трава"), (10, "石头")) for i in range(3)}
    files |= {"трава/cut.png": png(64, 48, 20)[:900], "石头/empty.jpg": b"", "石头/line\nbreak.png": png(64, 48, 21)}
    files |= {"трава/copy.png": files["трава/0.png"], "石头/DSC_1.PNG": files["трава/1.png"], ".git/1.png": b"0"}
    files |= {"石头/small.jpg": encode_image(fake_image(64, 48, 10).resize((32, 24)), "JPEG")}
    for name, content in files.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(content)
    (tmp_path / "own/new folder").mkdir()
    code, report = check(tmp_path / "own", "--write_clean_lists", tmp_path / "clean")
    assert code == 3 and list(report["splits"]) == ["all"]
    found = {finding["kind"]: finding["count"] for finding in report["findings"]}
    wanted = {"empty": 1, "unreadable": 1, "unlistable": 1, "two_labels": 2, "copies": 1, "near_copies": 1}
    assert {kind: found.get(kind) for kind in wanted} == wanted
    examples = {finding["kind"]: " ".join(finding["examples"]) for finding in report["findings"]}
    assert "石头/DSC_1.PNG" in examples["two_labels"] and "трава/1.png" in examples["two_labels"]
    assert "石头/0.png" in examples["near_copies"] and "石头/small.jpg" in examples["near_copies"]
    assert len(read_image_list(tmp_path / "clean/all_list.txt", tmp_path / "own")) == 7


def test_a_report_among_the_classes_is_refused(tmp_path, capsys):
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(png(64, 48, 1))
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "--output_dir", str(tmp_path / "check")])
    assert f"lies in {tmp_path}, where each folder is a class" in capsys.readouterr().err
    assert not (tmp_path / "check").exists()


@pytest.mark.parametrize("flag", ["--num_workers=-1", "--nb_classes=0"])
def test_a_number_that_cannot_be_is_refused(tmp_path, flag, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), flag])
    assert "expected a whole number of at least" in capsys.readouterr().err


def test_the_folder_is_named_by_position_or_by_data_path(tmp_path, check, capsys):
    for i, name in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/2.png")):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        fake_image(64, 48, i).save(tmp_path / "own" / name)
    assert main([str(tmp_path / "own"), "--num_workers=0"]) == 0
    first = capsys.readouterr().out
    assert main([f"--data_path={tmp_path / 'own'}", "--num_workers=0"]) == 0
    assert capsys.readouterr().out == first
    for flags in ([], [str(tmp_path), f"--data_path={tmp_path}"]):
        with pytest.raises(SystemExit):
            main(flags)
        assert "name one folder, for example" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"did you mean .*/own, which holds a, b"):
        main([str(tmp_path)])


@pytest.mark.parametrize(("split", "label", "kind"), [("val", "a", "near_in_val"), ("train", "b", "near_two_labels")])
def test_near_copies_between_splits_and_classes_are_warnings(folder, check, split, label, kind):
    with Image.open(folder / "train/a/0.png") as image:
        image.save(folder / split / label / "again.jpg", quality=60)
    code, report = check(folder)
    assert code == 0
    [finding] = [finding for finding in report["findings"] if finding["kind"].startswith("near")]
    assert (finding["kind"], finding["count"], finding["split"]) == (kind, 1, split)


@pytest.mark.parametrize("splits", [1, 2])
def test_the_table_fits_a_terminal_of_80_columns(splits, capsys, monkeypatch):
    """With the figures of ImageNet, and with no word or number cut or broken."""
    facts = {
        "images": 1_281_167,
        "decodable": 1_281_167,
        "megabytes": 140_123.4,
        "classes": 1000,
        "images_per_class": {"0": 732, "1": 1300},
        "short_side_percentiles": {"0": 20, "100": 9331},
        "aspect_percentiles": {"0": 0.104, "100": 20.5},
    }
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(report, "summary", lambda split: facts)
    report.print_report([SimpleNamespace(name=name) for name in ("train", "val")[:splits]], [], "data")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for row in ("images", "images per class", "short side in pixels", "width / height"):
        assert any(line.split("  ")[0].strip() == row for line in lines), (row, lines)
    for text in ("1,281,167", "140,123.4", "732 - 1,300", "20 - 9331", "0.1 - 20.5"):
        assert sum(line.count(text) for line in lines) >= splits


def test_a_side_of_32_pixels_is_not_tiny(folder, check):
    fake_image(32, 40, 50).save(folder / "train/a/32.png")
    fake_image(31, 40, 51).save(folder / "train/b/31.png")
    found = [finding for finding in check(folder)[1]["findings"] if finding["kind"] == "tiny"]
    assert [(finding["split"], finding["count"]) for finding in found] == [("train", 1)]


@pytest.mark.parametrize(("num_images", "is_small"), [(10, False), (11, True)])
def test_a_class_of_a_tenth_of_the_largest_is_not_too_small(num_images, is_small):
    images = SimpleNamespace(labels=np.array([0] * num_images + [1]), class_names=None)
    finding, _ = _of_classes(Split("train", images, np.zeros(0), {}))
    assert finding.count == is_small


@pytest.mark.parametrize(
    ("split", "num_images", "is_few"), [("train", 4, True), ("train", 5, False), ("all", 4, True), ("val", 4, False)]
)
def test_classes_of_a_handful_of_images_are_said_though_all_are_equally_small(split, num_images, is_few):
    images = SimpleNamespace(labels=np.repeat([0, 1], num_images), class_names=["cup", "fork"])
    found = {finding.kind: finding for finding in _of_classes(Split(split, images, np.zeros(0), {}))}
    assert found["imbalance"].count == 0
    assert (found["few"].count if "few" in found else 0) == (2 if is_few else 0)


def test_a_clean_list_loses_only_what_is_wrong_in_its_own_split(folder, check):
    (folder / "train/a/1.png").write_bytes(b"x")
    check(folder, "--write_clean_lists", folder / "clean")
    sizes = [len(read_image_list(folder / "clean" / f"{split}_list.txt", folder)) for split in ("train", "val")]
    assert sizes == [3, 4]
