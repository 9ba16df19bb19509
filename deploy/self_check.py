"""The self-check of an exported folder: an image and its logits at the export, compared when a program is loaded."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import BadImage, ExportedModelError
from common.json_text import MAX_BYTES, parse_json
from common.regular_files import read_regular
from datasets.reading.decode import read_image

from .card import EXPORT_AGAIN

SELF_CHECK_IMAGE, SELF_CHECK_LOGITS = "check.png", "check.json"
# Of the largest logit. Runtimes and CPUs differ by 2e-6; a mean that is wrong by 0.005 changes the logits by 1e-3.
RELATIVE_TOLERANCE = 1e-4


def write_self_check(folder: Path, image: Image.Image, logits: np.ndarray) -> None:
    """Write `image` and its `logits` [C] by the eager model into `folder`."""
    image.save(folder / SELF_CHECK_IMAGE)
    (folder / SELF_CHECK_LOGITS).write_text(json.dumps({"logits": logits.tolist()}), encoding="utf-8")


def read_self_check(folder: Path) -> tuple[Image.Image, np.ndarray]:
    """Read the RGB image and its logits [C]. The checksums of both files are verified by the caller.

    Raises:
        ExportedModelError: one of the files does not hold what it should.
    """
    path = folder / SELF_CHECK_LOGITS
    try:
        logits = np.array(parse_json(read_regular(path, MAX_BYTES))["logits"], np.float32)
        return read_image(folder / SELF_CHECK_IMAGE), logits
    except OSError as error:
        raise ExportedModelError(f"{path}: cannot be read: {error.strerror or error}; {EXPORT_AGAIN}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ExportedModelError(f"{path}: does not hold logits: {error!r}; {EXPORT_AGAIN}") from None
    except BadImage as error:
        raise ExportedModelError(f"{error}; {EXPORT_AGAIN}") from None


def check_logits(program: Path, logits: np.ndarray, expected: np.ndarray) -> None:
    """Compare the `logits` [C] of the self-check image by `program` with those `expected` from the export.

    Raises:
        ExportedModelError: they differ in number, or by more than RELATIVE_TOLERANCE of the largest logit.
    """
    if logits.shape != expected.shape:
        raise ExportedModelError(
            f"{program}: gives {len(logits)} classes, {SELF_CHECK_LOGITS} holds {expected.size}; {EXPORT_AGAIN}"
        )
    difference, largest = np.abs(logits - expected).max(), np.abs(expected).max()
    if not difference <= RELATIVE_TOLERANCE * largest:
        raise ExportedModelError(
            f"{program}: gives other logits for {SELF_CHECK_IMAGE} than at the export (they differ by "
            f"{difference:.1e}, the largest is {largest:.1e}): the card or the runtime has changed; copy the whole "
            f"folder again or {EXPORT_AGAIN}"
        )
