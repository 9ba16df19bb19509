"""The parity gate: nothing is written unless every program agrees with the eager model."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from common.errors import DiskError, ExportedModelError, ParityError
from configs.schema import EXPORT_FORMATS
from datasets.preprocess import Preprocess
from datasets.reading.pixels import image_to_input
from deploy.card import add_checksum_line, read_card, write_card
from deploy.export import export_folder
from deploy.export.parity import TOLERANCE, allowed_difference, check_parity, parity_images
from deploy.predictor import Predictor, open_predictor
from export_model import program_writer
from tests.deploy.conftest import Source


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "exported")


def test_both_paddle_programs_share_one_file_of_weights(exported):
    card = read_card(exported)
    assert card.programs["paddle"].files[1] == card.programs["pdmodel"].files[1] == "model.pdiparams"
    assert not list(exported.glob(".*")), "a temporary folder is left"


@pytest.mark.parametrize("program", ["model.json", "model.pdmodel"])
def test_the_difference_is_returned(exported, source, program):
    assert check_parity(exported / program, source.images, source.logits) <= 1e-5


PLANTED = [{"mean": (0.485, 0.456, 0.41)}, {"std": (0.229, 0.224, 0.23)}, {"interpolation": "bilinear"}]


def plant(folder, card, change):
    return write_card(folder, replace(card, preprocess=replace(card.preprocess, **change)))


@pytest.mark.parametrize("change", PLANTED)
def test_a_wrong_constant_in_the_card_is_found_at_the_export(tmp_path, source, monkeypatch, change):
    monkeypatch.setattr(export_folder, "write_card", lambda folder, card: plant(folder, card, change))
    with pytest.raises(ParityError, match=r"model.json disagrees with the eager model.*Compare the preprocessing"):
        source.export(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", PLANTED)
def test_a_constant_changed_after_the_export_is_found_when_the_folder_is_loaded(folder, change):
    plant(folder, read_card(folder), change)
    with pytest.raises(ExportedModelError, match=r"gives other logits for check.png than at the export"):
        open_predictor(folder)


@pytest.mark.parametrize("format", ["paddle", "pdmodel"])
def test_a_wrong_program_is_removed_and_an_older_export_stays(folder, source, format):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def save_perturbed(folder, **options):
        bias = source.model.classifier.bias
        kept = bias.numpy()
        bias.set_value(kept + np.array([0, 1e-3, 0, 0], np.float32))
        try:
            program_writer(source.model, source.card.preprocess.input_size)(folder, **options)
        finally:
            bias.set_value(kept)

    with pytest.raises(ParityError) as error:
        source.export(folder, (format,), save_program=save_perturbed)
    assert error.value.exit_code == 6
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_program_truncated_by_a_full_disk_is_a_disk_error(tmp_path, source, monkeypatch):
    def cut_short(folder, **_):
        (folder / "model.json").write_text('{"base_code": "cut')
        (folder / "model.pdiparams").write_bytes(b"")

    with pytest.raises(ExportedModelError, match="cannot load it"):
        source.export(tmp_path, save_program=cut_short)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(DiskError, match="no space is left") as caught:
        source.export(tmp_path, save_program=cut_short)
    assert caught.value.exit_code == 74 and not list(tmp_path.iterdir())


def test_the_tolerance_grows_with_the_logits(exported, source, monkeypatch):
    """float32 holds logits of 5,000 to 0.005, which changes a probability of 0.5 by 1e-3."""
    expected = np.array([[5000, 5000, 0, -5000]], np.float32)
    for shift, agrees in ((0.005, True), (0.1, False)):
        logits = expected + np.array([shift, 0, 0, 0], np.float32)
        monkeypatch.setattr(Predictor, "logits", lambda self, batch, logits=logits: logits)
        if agrees:
            assert 1e-3 < check_parity(exported / "model.json", source.images[:1], expected) < 2e-3
        else:
            with pytest.raises(ParityError):
                check_parity(exported / "model.json", source.images[:1], expected)
    assert allowed_difference(np.array([[0.1, -0.2]])) == allowed_difference(np.array([[9.0]])) == TOLERANCE


@pytest.mark.parametrize(
    ("expected", "shift"),
    [
        ([[1, 2, 3, 4]], [1, 1, 1, 1]),  # the same probabilities, other logits
        ([[100, 100, 0, -100]], [0.0009, 0, 0, 0]),  # logits within 1e-5 of the largest, probabilities 2e-4 apart
    ],
)
def test_logits_and_probabilities_are_each_held_to_the_tolerance(exported, source, monkeypatch, expected, shift):
    expected = np.array(expected, np.float32)
    monkeypatch.setattr(Predictor, "logits", lambda self, batch: expected + np.array(shift, np.float32))
    with pytest.raises(ParityError, match=r"model.json disagrees with the eager model"):
        check_parity(exported / "model.json", source.images[:1], expected)


def test_an_export_that_is_interrupted_among_its_files_answers(folder, source, monkeypatch):
    """The card is exchanged first; until all files are in their places, they are read where they were made."""
    replace_file, exchanged, other = os.replace, [], Source(seed=1)

    def interrupted_at_the_third(old, new):
        if Path(new).parent == folder:
            if len(exchanged) == 2:
                raise InterruptedError("interrupted")
            exchanged.append(Path(new).name)
        replace_file(old, new)

    with monkeypatch.context() as patch, pytest.raises(DiskError, match="interrupted"):
        patch.setattr("os.replace", interrupted_at_the_third)
        other.export(folder, ("paddle", "pdmodel"))
    assert exchanged[0] == "card.yaml"
    for program in (folder, folder / "model.json", folder / "model.pdmodel"):
        predictor = open_predictor(program)
        np.testing.assert_allclose(predictor.logits(predictor.preprocess(source.images)), other.logits, atol=1e-4)


def test_programs_of_an_older_export_are_removed(folder, source):
    (folder / "mine.txt").write_text("kept")
    card = source.export(folder, ("paddle",))
    assert "model.pdmodel" not in {path.name for path in folder.iterdir()}
    assert {path.name for path in folder.iterdir()} == {*card.files, "card.yaml", "mine.txt"}


def test_nan_disagrees(exported, source):
    with pytest.raises(ParityError):
        check_parity(exported / "model.json", source.images, np.full_like(source.logits, np.nan))


def test_weights_of_another_model_are_refused(folder, tmp_path):
    other = (folder / "model.pdiparams").read_bytes()
    (folder / "model.pdiparams").write_bytes(other[:-4] + b"\0\0\0\0")
    with pytest.raises(ExportedModelError, match="of another model"):
        open_predictor(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda card: card["preprocess"].update(input_size=48, resize_size=54),
            "gives other logits for check.png than at the export",
        ),
        (lambda card: card.update(num_classes=3, class_names=None), "gives 4 classes, card.yaml says 3"),
    ],
)
def test_a_card_of_another_model_is_refused(folder, change, message):
    card = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))
    change(card)
    (folder / "card.yaml").write_bytes(add_checksum_line(yaml.safe_dump(card).encode()))
    with pytest.raises(ExportedModelError, match=message):
        open_predictor(folder)


def test_the_parity_images_are_fixed_and_changed_by_every_step_of_preprocessing():
    first, second = parity_images(), parity_images()
    assert [image.tobytes() for image in first] == [image.tobytes() for image in second]
    for changed in ({"resize_size": 34}, {"interpolation": "bilinear"}, {"mean": (0.4, 0.4, 0.4)}):
        normal, other = Preprocess(input_size=32), Preprocess(**{"input_size": 32, **changed})
        for image in first:
            assert np.abs(image_to_input(image, normal) - image_to_input(image, other)).max() > 0.01


def test_the_flag_and_the_table_name_the_same_formats():
    assert set(EXPORT_FORMATS) == {*export_folder.WRITERS, "paddlex", "triton"}
