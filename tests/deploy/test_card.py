"""The card is read back as written; every error names the file or the field, and the next step."""

import dataclasses
import os
import shutil

import pytest
import yaml

from common.errors import ExportedModelError
from datasets.preprocess import Preprocess
from deploy.card import Card, add_checksum_line, read_card, write_card


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "exported")


def edit(folder, change):
    path = folder / "card.yaml"
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(fields)
    path.write_bytes(add_checksum_line(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).encode()))


def test_round_trip(folder, source):
    card = read_card(folder)
    assert card.class_names == ("zero", "one, uno", "two: zwei", "三")
    assert card.preprocess == source.card.preprocess
    assert card.metrics == {"best_top1_percent": 98.5}
    assert set(card.files) == {path.name for path in folder.iterdir()} - {"card.yaml"}
    assert {"model.json", "model.pdmodel", "model.pdiparams"} < set(card.files)
    assert "model.pdiparams.info" not in card.files  # a pickle
    assert card.programs["pdmodel"].files == ("model.pdmodel", "model.pdiparams")
    assert {"python", "paddlepaddle", "numpy"} <= set(card.versions)
    write_card(folder, card)
    assert read_card(folder) == card


REQUIRED = yaml.safe_load(
    "[model, architecture, num_classes, preprocess, class_names, programs, files, output, format]"
)


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named(folder, field):
    edit(folder, lambda fields: fields.pop(field))
    with pytest.raises(ExportedModelError, match=rf"card.yaml: field {field} is missing; export"):
        read_card(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(num_classes="four"), "field num_classes: expected int, got 'four'"),
        (lambda f: f.update(num_classes=True), "field num_classes: expected int, got True"),
        (lambda f: f.update(num_classes=5), "4 names for num_classes 5"),
        (lambda f: f.update(colour="blue"), "unknown field colour"),
        (lambda f: f.update(format=2), "format 2, this version reads 1"),
        (lambda f: f.update(output="probabilities"), "expected 'logits', got 'probabilities'"),
        (lambda f: f["preprocess"].pop("mean"), "preprocess.mean is missing"),
        (lambda f: f["preprocess"].update(std=[1, 0, 1]), "preprocess.std"),
        (lambda f: f["programs"]["paddle"].pop("files"), "field programs.paddle.files is missing"),
        (lambda f: f["files"]["model.json"].pop("sha256"), "field files.model.json.sha256 is missing"),
        (lambda f: f["programs"]["paddle"].update(files=[]), "programs.paddle: expected a name and a list of files"),
        (
            lambda f: f["programs"].update({1: f["programs"].pop("paddle")}),
            "programs.1: expected a name and a list",
        ),
        (
            lambda f: f["preprocess"].update(input_size=5000, resize_size=5000, crop_pct=1),
            "input_size: expected at most 4096",
        ),
        (lambda f: f["preprocess"].update(fit="pad"), "preprocess.fit: expected one of crop, squash, letterbox"),
        (lambda f: f["preprocess"].update(fit="squash"), "preprocess.crop_pct: expected 1 with fit squash"),
        (
            lambda f: f["preprocess"].update(crop_pct=0.9),
            "preprocess.crop_pct: expected input_size / resize_size, 32 / 36",
        ),
        (lambda f: f["preprocess"].update(crop_pct=0), "preprocess.crop_pct: expected a number above 0 and at most 1"),
        (lambda f: f.update(temperature=0), "temperature: expected a finite number above 0, got 0"),
        (lambda f: f.update(temperature=-1.5), "temperature: expected a finite number above 0, got -1.5"),
        (lambda f: f.update(temperature=float("nan")), "temperature: expected a finite number above 0, got nan"),
        (lambda f: f.update(temperature=float("inf")), "temperature: expected a finite number above 0, got inf"),
        (lambda f: f.update(temperature="1.5"), "field temperature: expected float, got '1.5'"),
        (lambda f: f.update(temperature=True), "field temperature: expected float, got True"),
        (lambda f: f.update(temperature=None), "field temperature: expected float, got None"),
        (
            lambda f: f["files"].update({"../a": f["files"].pop("model.json")}),
            "files.../a: expected the name of a file in",
        ),
    ],
)
def test_a_wrong_field_is_named(folder, change, message):
    edit(folder, change)
    with pytest.raises(ExportedModelError) as error:
        read_card(folder)
    assert message in str(error.value)
    assert error.value.exit_code == 4


@pytest.mark.parametrize(("written", "read"), [(2, 2.0), (0.75, 0.75), (1e-7, 1e-7), (3e20, 3e20)])
def test_the_temperature_is_read_as_written(folder, written, read):
    write_card(folder, dataclasses.replace(read_card(folder), temperature=written))
    assert read_card(folder).temperature == read


def test_a_card_of_before_the_temperature_has_none(folder):
    edit(folder, lambda fields: fields.pop("temperature"))
    assert read_card(folder).temperature == 1


def test_a_card_of_before_fit_and_crop_pct_means_the_published_crop(folder, source):
    edit(folder, lambda fields: [fields["preprocess"].pop(name) for name in ("fit", "crop_pct")])
    assert read_card(folder).preprocess == source.card.preprocess


def test_a_card_that_was_changed_anywhere_is_refused(folder):
    path = folder / "card.yaml"
    card = path.read_bytes()
    flipped = (card[:i] + bytes([card[i] ^ 1 << i % 8]) + card[i + 1 :] for i in range(0, len(card), 7))
    cut = (card[:i] for i in range(0, len(card), 50))
    edited = (card + b"\n", card.replace(b"zero", b"none"), card[: card.index(b"# sha256")])
    for changed in (*flipped, *cut, *edited):
        path.write_bytes(changed)
        with pytest.raises(ExportedModelError, match=r"card.yaml: (damaged, or changed|the last line)"):
            read_card(folder)


NOT_CARDS = ("", "- a\n- b", "a: [", "\x00", "[" * 2_000, "a: 2026-13-41", "a: " + "9" * 5_000, "#" * (1 << 21))


@pytest.mark.parametrize("text", [*NOT_CARDS, "format: &a [1]\nmodel: [*a, *a]"], ids=range(len(NOT_CARDS) + 1))
def test_a_file_that_is_not_a_card_is_refused(folder, text):
    (folder / "card.yaml").write_bytes(add_checksum_line(text.encode()))
    with pytest.raises(ExportedModelError, match=r"card.yaml: .*; export the model again"):
        read_card(folder)


@pytest.mark.parametrize("name", ["model.json", "model.pdmodel", "model.pdiparams"])
def test_a_flipped_bit_in_a_file_is_detected(folder, name):
    path = folder / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ExportedModelError, match=rf"{name}: sha256 .* damaged"):
        read_card(folder)
    assert read_card(folder, verify=False).num_classes == 4


def test_a_truncated_and_a_missing_file_are_detected(folder):
    path = folder / "model.pdiparams"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ExportedModelError, match=r"model.pdiparams: \d+ bytes, card.yaml says \d+"):
        read_card(folder)
    path.unlink()
    with pytest.raises(ExportedModelError, match=r"model.pdiparams: missing, but card.yaml lists it"):
        read_card(folder)


def test_no_card(tmp_path):
    with pytest.raises(ExportedModelError, match="no such card; export the model again"):
        read_card(tmp_path)


def test_a_card_is_written_whole_or_not_at_all(folder, source, monkeypatch):
    before = (folder / "card.yaml").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_card(folder, source.card)
    assert (folder / "card.yaml").read_bytes() == before


def test_a_card_is_on_the_disk_before_it_replaces_the_older_one(folder, source, monkeypatch):
    """Otherwise a power cut can leave an empty card: a rename can reach the disk before the content of the file."""
    events, fsync, replace = [], os.fsync, os.replace

    def noted_fsync(descriptor):
        fsync(descriptor)
        events.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))

    def noted_replace(source, target):
        replace(source, target)
        events.append("replaced")

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    written = write_card(folder, source.card).stat()
    assert (written.st_ino, written.st_size) in events[: events.index("replaced")]


def test_a_card_needs_one_name_per_class():
    with pytest.raises(ExportedModelError, match="2 names for num_classes 3"):
        Card("peleenet", "PeleeNet", 3, Preprocess(), ("a", "b"))
