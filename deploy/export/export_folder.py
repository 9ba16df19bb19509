"""Write an exported folder: every program is written aside, run by a real engine, and moved in only if it agrees."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.errors import DiskError, ParityError, ProjectError
from datasets.reading.pixels import image_to_input

from ..card import CARD_NAME, Card, FileRecord, Program, file_record, read_card, write_card
from ..engines import SINGLE, EngineOptions, create_engine, require_utf8
from ..predictor import Predictor
from ..self_check import write_self_check
from ..topk import softmax
from .onnx_export import write_onnx
from .paddlex import write_paddlex_config
from .quantize import Calibration, Validation, compare_int8, write_int8

TOLERANCE = 1e-5  # of probabilities, and of logits relative to the largest one
ALMOST_NOTHING = 2**16  # bytes that a disk may say it has when it takes no more
SANE_LOGIT = 10  # beyond it the tolerance of probabilities grows with the logits, see _allowed
# writes model.* of the network into a folder; asked with_softmax, inference.* of the network followed by a softmax;
# for batches of any size, or only of batch_size
SaveProgram = Callable[..., object]


class Source(NamedTuple):
    """What the programs are made of."""

    save_program: SaveProgram
    card: Card
    calibration: Calibration | None


def export_folder(
    folder: str | Path,
    formats: Sequence[str],
    card: Card,
    save_program: SaveProgram,
    images: Sequence[Image.Image],
    expected_logits: np.ndarray,
    calibration: Calibration | None = None,
    validation: Validation | None = None,
) -> Card:
    """Write the programs called `formats`, and a card made of `card`, into `folder`; returns that card.

    `expected_logits` [B, C] are what the eager model says of the RGB `images`, the first of which is kept with its
    logits for later checks. Nothing in `folder` changes unless every program says the same.

    "onnx-int8" needs `calibration` and comes with "onnx"; it is held to `validation`, where given, not to TOLERANCE.

    Raises:
        ParityError: a program disagrees beyond TOLERANCE, or INT8 loses too much; nothing is kept.
        DiskError: there can be no such folder, or no space is left in it.
    """
    folder = Path(folder)
    require_utf8(folder)
    formats = {*formats, "onnx"} if "onnx-int8" in formats else set(formats)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = tempfile.TemporaryDirectory(prefix=".export-", dir=folder)
    except OSError as error:
        raise DiskError(f"cannot write into {folder}: {error.strerror or error}") from None
    with aside, _naming_a_full_disk(folder):
        work = Path(aside.name)
        source = Source(save_program, card, calibration)
        programs = {name: write(work, source) for name, write in WRITERS.items() if name in formats}
        card = replace(card, programs=programs, files=_records(work), versions=_versions(), created=_now())
        write_card(work, card)
        for name, program in programs.items():
            if name != "onnx-int8":
                check_parity(work / program.files[0], images, expected_logits, engine=CHECKED_BY[name])
        if "onnx-int8" in programs:
            lines, metrics = compare_int8(work, calibration, validation)
            print(*lines, sep="\n")
            card = replace(card, metrics=card.metrics | metrics)
        if "paddlex" in formats:
            _write_paddlex(work, source, images, expected_logits)
        write_paddlex_config(work, card)
        write_self_check(work, images[0], expected_logits[0])
        card = replace(card, files=_records(work))
        write_card(work, card)
        _move_in(work, folder, card)
    return card


@contextlib.contextmanager
def _naming_a_full_disk(folder: Path):
    """Paddle cuts a program short without a word where the disk is full, and an engine then calls it damaged."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free < ALMOST_NOTHING:
            raise DiskError(f"cannot write into {folder}: no space is left; what was there is untouched") from error
        raise


def check_parity(
    model_path: Path, images: Sequence[Image.Image], expected_logits: np.ndarray, *, engine: str = "paddle"
) -> float:
    """Largest difference between `expected_logits` and what the program, fed as its card says, makes of `images`.

    Raises:
        ParityError: beyond TOLERANCE in a probability, or in a logit relative to the largest.
    """
    predictor = Predictor(model_path, engine=engine)
    logits = predictor.logits(predictor.arrays(images))
    by_probability = np.abs(softmax(logits) - softmax(expected_logits)).max()
    by_logit = np.abs(logits - expected_logits).max() / np.abs(expected_logits).max()
    if not (by_probability <= _allowed(expected_logits) and by_logit <= TOLERANCE):
        raise ParityError(
            f"{model_path.name} disagrees with the eager model: probabilities differ by {by_probability:.1e}, logits "
            f"by {by_logit:.1e} of the largest (allowed {TOLERANCE:.0e}); it was removed. "
            f"Compare the preprocessing in {CARD_NAME} with that of the checkpoint"
        )
    return float(by_probability)


def _allowed(logits: np.ndarray) -> float:
    """Difference allowed of a probability. float32 carries logits to 1e-6 of the largest; two epochs of training can
    leave them in the thousands, and then no program gives probabilities to 1e-5."""
    return TOLERANCE * max(1, np.abs(logits).max() / SANE_LOGIT)


def parity_images() -> list[Image.Image]:
    """Four fixed pictures of unlike shape, smooth with noise on top: every step of preprocessing changes them."""
    rng = np.random.default_rng(0)
    images = []
    for width, height in ((97, 131), (500, 375), (333, 500), (224, 224)):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((width, height))
        noise = rng.integers(-20, 21, (height, width, 3))
        images.append(Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)))
    return images


def _write_paddle(work: Path, source: Source) -> Program:
    source.save_program(work)
    return _paddle_program(work, "model.json")


def _write_pdmodel(work: Path, source: Source) -> Program:
    return _write_old_form(work, source, "model.pdmodel")


def _write_single(work: Path, source: Source) -> Program:
    """For one image at a time, which OpenVINO, knowing all shapes, answers faster."""
    return _write_old_form(work, source, "model_b1.pdmodel", batch_size=1)


def _write_old_form(work: Path, source: Source, name: str, *, batch_size: int | None = None) -> Program:
    """A .pdmodel, which shares model.pdiparams with model.json: both forms store the same bytes."""
    from paddle.pir_utils import DygraphOldIrGuard

    old = work / "pdmodel"
    old.mkdir()
    with DygraphOldIrGuard():  # what FLAGS_enable_pir_api=0 does before Paddle is imported
        source.save_program(old, batch_size=batch_size)
    (old / "model.pdiparams.info").unlink()  # a pickle that paddle.jit.load runs, and nothing else wants
    for path in old.iterdir():
        there = work / (name if path.suffix == ".pdmodel" else path.name)
        if there.exists() and file_record(there) != file_record(path):
            raise ParityError(f"{path.name} differs between {name} and an earlier program; export one of them alone")
        os.replace(path, there)
    old.rmdir()
    return _paddle_program(work, name)


def _write_onnx(work: Path, source: Source) -> Program:
    with tempfile.TemporaryDirectory(dir=work) as aside:
        source.save_program(Path(aside))
        return write_onnx(Path(aside) / "model.json", work / "model.onnx", source.card)


def _write_int8(work: Path, source: Source) -> Program:
    return write_int8(work / "model.onnx", work / "model_int8.onnx", source.card, source.calibration)


def _write_paddlex(work: Path, source: Source, images: Sequence[Image.Image], expected_logits: np.ndarray) -> None:
    """inference.json with its weights, for PaddleX; its output are probabilities, so it is no program of the card."""
    source.save_program(work, with_softmax=True)
    engine = create_engine("paddle", [work / "inference.json", work / "inference.pdiparams"], EngineOptions())
    probabilities = engine.run(np.stack([image_to_input(image, source.card.preprocess) for image in images]))
    difference = np.abs(probabilities - softmax(expected_logits)).max()
    if not difference <= _allowed(expected_logits):
        raise ParityError(f"inference.json disagrees with the eager model: probabilities differ by {difference:.1e}")


def _paddle_program(work: Path, program: str) -> Program:
    files = (program, "model.pdiparams")
    engine = create_engine("paddle", [work / file for file in files], EngineOptions())
    return Program(files, engine.input_name, engine.output_name)


WRITERS = {
    "paddle": _write_paddle,
    "pdmodel": _write_pdmodel,
    SINGLE: _write_single,
    "onnx": _write_onnx,
    "onnx-int8": _write_int8,
}
CHECKED_BY = {"paddle": "paddle", "pdmodel": "paddle", SINGLE: "paddle", "onnx": "onnxruntime"}


def _records(work: Path) -> dict[str, FileRecord]:
    return {path.name: file_record(path) for path in sorted(work.iterdir()) if path.name != CARD_NAME}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


PACKAGES = ("paddlepaddle", "numpy", "pillow", "paddle2onnx", "onnx", "onnxruntime", "openvino")


def _versions() -> dict[str, str]:
    """Versions of Python and of the packages that can have a part in the answers, where installed."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _move_in(work: Path, folder: Path, card: Card) -> None:
    """Put the new files in place, the card last; files that only an earlier card lists are removed with it."""
    stale = set()
    if (folder / CARD_NAME).exists():
        with contextlib.suppress(ProjectError):  # a damaged card names nothing that could be removed safely
            stale = set(read_card(folder, verify=False).files) - set(card.files)
        (folder / CARD_NAME).unlink()
    for name in card.files:
        os.replace(work / name, folder / name)
    for name in stale:
        (folder / Path(name).name).unlink(missing_ok=True)
    os.replace(work / CARD_NAME, folder / CARD_NAME)
