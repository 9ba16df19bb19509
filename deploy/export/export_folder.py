"""Write an exported folder: write every program to a folder inside it, compare each with the eager model, exchange."""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.errors import DiskError, ParityError, UsageError
from common.printable import print_safely

from ..card import CARD_NAME, Card, FileRecord, Program, file_record, write_card
from ..engine_base import BATCH_1_PROGRAM, require_utf8
from ..engines import EngineOptions, create_engine
from ..exchange import exchange, new_export
from ..operator_allowlist import check_exported_operators
from ..self_check import write_self_check
from .onnx_export import write_onnx
from .paddlex import (
    CONFIG_NAME,
    LABELS_NAME,
    check_paddlex_program,
    remark_on_name,
    why_not_paddlex,
    write_paddlex_config,
    write_pipeline,
)
from .parity import check_parity
from .quantize import Quantization, compare_int8, write_int8
from .triton import check_repository, place_repository, write_repository

FULL_DISK_BYTES = 2**16  # a full disk may report this much free space
# Writes the program model.* of the network into a folder; `with_softmax=True`: inference.*, the network followed by a
# softmax; `batch_size=1`: a program for that batch size only.
SaveProgram = Callable[..., object]
PACKAGES = ("paddlepaddle", "numpy", "pillow", "paddle2onnx", "onnx", "onnxruntime", "openvino")


class Source(NamedTuple):
    """What the programs are made of."""

    save_program: SaveProgram
    card: Card
    quantization: Quantization | None


def export_folder(
    folder: str | Path,
    formats: Sequence[str],
    card: Card,
    save_program: SaveProgram,
    images: Sequence[Image.Image],
    expected_logits: np.ndarray,
    quantization: Quantization | None = None,
    paddlex_name: str = "",
) -> Card:
    """Write the programs of a network and their card, or nothing if a program disagrees with the eager model.

    The new export replaces an older one in one step, see `deploy.exchange`.

    Args:
        folder: made if it does not exist. Files of an older export that are not written again are removed.
        formats: names in `WRITERS`, "paddlex" and "triton". "onnx-int8" and "triton" also write "onnx".
        card: model, preprocessing and class names; programs, files and versions are filled in.
        save_program: writes the network in a form of Paddle.
        images: RGB images on which the programs are compared; the first one is kept for the self-check.
        expected_logits: [B, C], of `images` by the eager model.
        quantization: images for "onnx-int8".
        paddlex_name: name of the model for PaddleX, which refuses those that it does not know; "": the model's own.

    Returns:
        The card that was written.

    Raises:
        DiskError: the folder cannot be made, or the disk is full.
        ExportedModelError: the network has operators that the allowlist lacks, or cannot be written in a format.
        MissingDependencyError: a package for one of the `formats` is not installed.
        ParityError: a program disagrees with the eager model, or INT8 loses too much accuracy.
        UsageError: "paddlex" for images that are fitted as PaddleX cannot, or a folder `triton` that is none of ours.
    """
    folder = Path(folder)
    require_utf8(folder)
    formats = {*formats, "onnx"} if {"onnx-int8", "triton"} & {*formats} else set(formats)
    if "triton" in formats:
        check_repository(folder)
    reason = why_not_paddlex(card)
    if reason and "paddlex" in formats:
        raise UsageError(f"--format paddlex: {reason}, or leave paddlex out")
    with new_export(folder) as work, _full_disk_errors(folder):
        source = Source(save_program, card, quantization)
        programs = {name: write(work, source) for name, write in WRITERS.items() if name in formats}
        card = replace(card, programs=programs, files=_file_records(work), versions=_versions(), created=_now())
        write_card(work, card)
        check_exported_operators([work / program.files[0] for program in programs.values()])
        for name in (name for name in programs if name in PARITY_ENGINES):
            check_parity(work / programs[name].files[0], images, expected_logits, engine=PARITY_ENGINES[name])
        if "onnx-int8" in programs:
            lines, metrics = compare_int8(work, *quantization)
            print_safely("\n".join(lines))
            card = replace(card, metrics=card.metrics | metrics)
        if "paddlex" in formats:
            save_program(work, with_softmax=True)
            check_paddlex_program(work, card, images, expected_logits)
        if reason:
            print_safely(f"note: {CONFIG_NAME} and {LABELS_NAME} are not written: {reason}", sys.stderr)
        else:
            write_paddlex_config(work, card, paddlex_name)
        if "paddlex" in formats:
            write_pipeline(work, card, paddlex_name)
            if remark := remark_on_name(card, paddlex_name):
                print_safely(f"warning: {remark}", sys.stderr)
        write_self_check(work, images[0], expected_logits[0])
        card = replace(card, files=_file_records(work))
        write_card(work, card)
        if "triton" in formats:
            write_repository(work, card)
        place_repository(work, folder)
        exchange(work, folder)
    return card


@contextmanager
def _full_disk_errors(folder: Path) -> Iterator[None]:
    """Turn any error into a DiskError if the disk is full: Paddle then cuts a program short without an error."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free < FULL_DISK_BYTES:
            raise DiskError(
                f"cannot write into {folder}: no space is left on the disk; files of an older export are untouched"
            ) from error
        raise


def _write_paddle(work: Path, source: Source) -> Program:
    source.save_program(work)
    return _paddle_program(work, "model.json")


def _write_pdmodel(work: Path, source: Source) -> Program:
    return _write_old_form(work, source, "model.pdmodel")


def _write_batch_1(work: Path, source: Source) -> Program:
    """Write the program with a fixed batch size of 1: OpenVINO is faster if it knows all shapes."""
    return _write_old_form(work, source, "model_b1.pdmodel", batch_size=1)


def _write_old_form(work: Path, source: Source, name: str, *, batch_size: int | None = None) -> Program:
    """Write a .pdmodel. It shares model.pdiparams with model.json: both forms store the same bytes."""
    from paddle.pir_utils import DygraphOldIrGuard

    old = work / "pdmodel"
    old.mkdir()
    with DygraphOldIrGuard():  # the same as FLAGS_enable_pir_api=0 before Paddle is imported
        source.save_program(old, batch_size=batch_size)
    (old / "model.pdiparams.info").unlink()  # a pickle, which only paddle.jit.load reads
    for path in old.iterdir():
        target = work / (name if path.suffix == ".pdmodel" else path.name)
        if target.exists() and file_record(target) != file_record(path):
            raise ParityError(
                f"{path.name} differs between {name} and an earlier program; export them into two folders"
            )
        os.replace(path, target)
    old.rmdir()
    return _paddle_program(work, name)


def _write_onnx(work: Path, source: Source) -> Program:
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        source.save_program(Path(temporary))
        return write_onnx(Path(temporary) / "model.json", work / "model.onnx", source.card)


def _write_int8(work: Path, source: Source) -> Program:
    return write_int8(work / "model.onnx", work / "model_int8.onnx", source.card, source.quantization.calibration)


def _paddle_program(work: Path, program: str) -> Program:
    files = (program, "model.pdiparams")
    engine = create_engine("paddle", [work / file for file in files], EngineOptions())
    return Program(files, engine.input_name, engine.output_name)


# A writer puts one program into the folder `work`. "onnx-int8" reads the file of "onnx", so "onnx" comes first.
WRITERS: dict[str, Callable[[Path, Source], Program]] = {
    "paddle": _write_paddle,
    "pdmodel": _write_pdmodel,
    BATCH_1_PROGRAM: _write_batch_1,
    "onnx": _write_onnx,
    "onnx-int8": _write_int8,
}
PARITY_ENGINES = {"paddle": "paddle", "pdmodel": "paddle", BATCH_1_PROGRAM: "paddle", "onnx": "onnxruntime"}


def _file_records(work: Path) -> dict[str, FileRecord]:
    return {path.name: file_record(path) for path in sorted(work.iterdir()) if path.name != CARD_NAME}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")  # tells two exports apart


def _versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that can change the logits."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
