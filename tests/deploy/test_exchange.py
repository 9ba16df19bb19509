"""Exchange of exports: killed at any call the old or the new one answers whole, and readers never mix the two."""

import os
import shutil
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from common import files
from common.errors import DiskError, ExportedModelError
from datasets.preprocess import Preprocess
from deploy import exchange as exchange_module
from deploy.card import Card, Program, file_record, folder_of_files, read_card, write_card
from deploy.exchange import MAX_ATTEMPTS, exchange, new_export, read_whole
from deploy.exported_program import find_program
from deploy.predictor import open_predictor

PROGRAM = Program(("model.onnx", "weights.bin"), "images", "logits")
CREATED = count()
CALLS = [(os, "link"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (os, "fsync"), (shutil, "rmtree")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """A flush to the disk takes milliseconds and changes nothing that a process sees."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def fill(work: Path, number: int, extra: str = "") -> None:
    """Put a pretended export whose files all hold `number` into `work`."""
    names = (*PROGRAM.files, *([extra] if extra else []))
    for name in names:
        (work / name).write_text(f"{name} {number}")
    card = Card("peleenet", f"number {number}", 4, Preprocess(input_size=32), None, {"onnx": PROGRAM})
    records = {name: file_record(work / name) for name in names}
    write_card(work, Card(**{**vars(card), "files": records, "created": f"{next(CREATED)} of {os.getpid()}"}))


def export(folder: Path, number: int, extra: str = "") -> None:
    with new_export(folder) as work:
        fill(work, number, extra)
        exchange(work, folder)


def read(folder: Path) -> int:
    """The number that the card and all files of an export hold."""
    source = folder_of_files(folder)
    card = read_card(source)
    texts = [(source / name).read_text() for name in card.files]
    numbers = {int(text.split()[-1]) for text in (*texts, card.architecture)}
    assert len(numbers) == 1, f"mixed: {texts}, {card.architecture}"
    return numbers.pop()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_export(folder: Path, number: int, extra: str, at: int) -> bool:
    """Export in a process that ends at call `at` of those that change the folder; returns whether it came so far."""
    if pid := os.fork():
        return os.waitpid(pid, 0)[1] != 0
    calls = count()

    def counted(function):
        def call(*arguments, **options):
            if next(calls) == at:
                os._exit(1)
            return function(*arguments, **options)

        return call

    try:
        for module, name in CALLS:
            setattr(module, name, counted(getattr(module, name)))
        export(folder, number, extra)
        os._exit(0)
    except BaseException:
        os._exit(2)


@pytest.mark.parametrize("has_links", [True, False], ids=["links", "copies"])
def test_a_kill_at_any_call_leaves_one_whole_export_and_the_next_one_cleans_up(tmp_path, monkeypatch, has_links):
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    answers = []
    for at in count(step=1 if has_links else 5):
        folder = tmp_path / str(at)
        export(folder, 1, extra="only_old.bin")
        (folder / "notes.txt").write_text("of the user")
        is_killed = killed_export(folder, 2, "only_new.bin", at)
        answers.append(read_whole(folder, lambda folder=folder: read(folder)))
        # a program and its weights, named one by one
        program = folder / "model.onnx"
        found = read_whole(program, lambda program=program: files_of(program))
        assert {text.split()[-1] for text in found} == {str(answers[-1])}
        export(folder, 3)
        assert read(folder) == 3 and folder_of_files(folder) == folder
        assert names(folder) == ["card.yaml", "model.onnx", "notes.txt", "weights.bin"]
        if not is_killed:
            break
    assert at > 10 and answers == sorted(answers) and {*answers} == {1, 2}


def files_of(program: Path) -> list[str]:
    from deploy.engines import EngineOptions

    found = find_program(program, None, "onnxruntime", EngineOptions(), None, trust_program=True)
    return [path.read_text() for path in found.files]


def test_the_program_of_an_export_without_a_card_is_not_joined_with_new_weights(tmp_path):
    for name in PROGRAM.files:
        (tmp_path / name).write_text(f"{name} 0")
    assert killed_export(tmp_path, 2, "", at=9)
    assert not (tmp_path / "card.yaml").exists() or read(tmp_path) == 2


def test_a_new_export_that_fails_leaves_the_old_one(tmp_path):
    export(tmp_path, 1)
    with pytest.raises(ValueError, match="fails"), new_export(tmp_path):
        raise ValueError("fails")
    assert read(tmp_path) == 1 and len(names(tmp_path)) == 3


def test_a_disk_that_is_full_after_the_one_step_leaves_the_new_export_to_be_read(tmp_path, monkeypatch):
    export(tmp_path, 1)
    placed = []

    def full(work, name, folder, place=exchange_module._place):
        placed.append(name)
        if len(placed) == 2:
            raise OSError("no space left")
        place(work, name, folder)

    monkeypatch.setattr(exchange_module, "_place", full)
    with pytest.raises(DiskError, match="cannot write into"):
        export(tmp_path, 2)
    monkeypatch.undo()
    assert read(tmp_path) == 2 and folder_of_files(tmp_path) != tmp_path
    export(tmp_path, 3)
    assert read(tmp_path) == 3 and len(names(tmp_path)) == 3


def test_the_work_of_an_export_that_still_runs_stays(tmp_path):
    with new_export(tmp_path) as work:
        export(tmp_path, 1)
        fill(work, 2)
        exchange(work, tmp_path)
    assert read(tmp_path) == 2 and len(names(tmp_path)) == 3


@pytest.mark.parametrize("made_by", ["a folder of an earlier version", "an exchange whose files were removed"])
def test_leftovers_are_removed_by_the_next_export(tmp_path, made_by):
    export(tmp_path, 1)
    leftover = tmp_path / ".export-0abc"
    leftover.mkdir()
    (leftover / "model.onnx.part").write_text("")
    if made_by.startswith("an exchange"):
        shutil.copy(tmp_path / "card.yaml", leftover)
        with pytest.raises(ExportedModelError, match=r"model.onnx: missing"):
            read(tmp_path)
    export(tmp_path, 2)
    assert read(tmp_path) == 2 and len(names(tmp_path)) == 3


def test_without_locks_an_export_works_and_leftovers_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    (tmp_path / ".export-0abc").mkdir()
    export(tmp_path, 1)
    export(tmp_path, 2)
    assert read(tmp_path) == 2 and ".export-0abc" in names(tmp_path)


@pytest.mark.parametrize("when", range(4))
def test_an_export_that_is_replaced_while_it_is_read_is_read_again(tmp_path, when):
    """An exchange after each of the steps of a reader: card, first file, second file, all files."""
    export(tmp_path, 1)
    calls = []

    def read_slowly():
        calls.append(0)

        def step(number):
            if number == when and len(calls) == 1:
                export(tmp_path, 2)

        source = folder_of_files(tmp_path)
        card = read_card(source, verify=False)
        step(0)
        texts = []
        for number, name in enumerate(PROGRAM.files, start=1):
            texts.append((source / name).read_text())
            step(number)
        step(3)
        return [card.architecture, *texts]

    assert {text.split()[-1] for text in read_whole(tmp_path, read_slowly)} == {"2"} and len(calls) == 2


def test_a_reader_gives_up_with_the_word_to_try_again(tmp_path):
    export(tmp_path, 0)
    numbers = count(1)
    with pytest.raises(ExportedModelError, match=r"replaced by another export during each of 5 attempts.*try again"):
        read_whole(tmp_path, lambda: export(tmp_path, next(numbers)))
    assert next(numbers) == MAX_ATTEMPTS + 1


def test_an_error_of_an_export_that_nobody_replaces_is_raised_at_once(tmp_path):
    export(tmp_path, 1)
    (tmp_path / "weights.bin").write_text("damaged")
    calls = []
    with pytest.raises(ExportedModelError, match=r"weights.bin: 7 bytes"):
        read_whole(tmp_path, lambda: (calls.append(0), read(tmp_path)))
    assert len(calls) == 1


def test_the_predictor_reads_an_exchange_that_was_killed(exported, source, tmp_path):
    """The state after the one step: the new card beside the old files, which are of another network."""
    folder = shutil.copytree(exported, tmp_path / "exported")
    work = shutil.copytree(exported, folder / ".export-0abc")
    for name in ("model.json", "model.pdmodel", "model.pdiparams"):
        (folder / name).write_bytes(b"of another export")
    shutil.copy(work / "card.yaml", folder)
    for path in (folder, folder / "model.json", folder / "model.pdmodel"):
        predictor = open_predictor(path)
        np.testing.assert_allclose(predictor.logits(predictor.preprocess(source.images)), source.logits, atol=1e-4)


def test_a_removal_that_is_killed_after_its_first_file_leaves_the_export_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: (path / "weights.bin").unlink(missing_ok=True))
    export(tmp_path, 1)
    assert folder_of_files(tmp_path) == tmp_path and read(tmp_path) == 1


def test_the_files_are_on_the_disk_before_the_card_names_them(tmp_path, monkeypatch):
    written, place = [], exchange_module._place
    monkeypatch.setattr(exchange_module, "fsync_file", lambda path: written.append(path.name))

    def noted(work, name, folder):
        if name == "card.yaml":
            assert {*written} >= {*PROGRAM.files, "card.yaml"}
            written.append("placed")
        place(work, name, folder)

    monkeypatch.setattr(exchange_module, "_place", noted)
    export(tmp_path, 1)
    assert "placed" in written


def test_two_exports_change_a_folder_one_after_the_other(tmp_path, monkeypatch):
    """While another process holds the lock of the folder, nothing is exchanged."""

    def busy(descriptor):
        raise TimeoutError

    with new_export(tmp_path) as work:
        fill(work, 1)
        monkeypatch.setattr(exchange_module, "wait_for_lock", busy)
        with pytest.raises((TimeoutError, DiskError)):
            exchange(work, tmp_path)
        assert not (tmp_path / "card.yaml").exists()
