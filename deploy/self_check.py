"""A picture and the logits it had at export: with them a folder proves, wherever it is loaded, that it is the same."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import BadImage, ExportedModelError
from datasets.reading.decode import read_image

from .card import EXPORT_AGAIN

PICTURE_NAME, ANSWER_NAME = "check.png", "check.json"
TOLERANCE = 1e-4  # relative to the largest logit; runtimes and CPUs differ by 2e-6, a mean off by 0.005 by 1e-3


def write_self_check(folder: Path, picture: Image.Image, logits: np.ndarray) -> None:
    """Keep `picture` and the eager model's `logits` [C] of it beside the programs."""
    picture.save(folder / PICTURE_NAME)
    (folder / ANSWER_NAME).write_text(json.dumps({"logits": logits.tolist()}), encoding="utf-8")


def read_self_check(folder: Path) -> tuple[Image.Image, np.ndarray]:
    """The picture and its logits [C]; their files are verified by the card's checksums before."""
    path = folder / ANSWER_NAME
    try:
        logits = np.array(json.loads(path.read_text(encoding="utf-8"))["logits"], np.float32)
        return read_image(folder / PICTURE_NAME), logits
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ExportedModelError(f"{path}: is no answer: {error!r}; {EXPORT_AGAIN}") from None
    except BadImage as error:
        raise ExportedModelError(f"{error}; {EXPORT_AGAIN}") from None


def check_answer(program: Path, logits: np.ndarray, expected: np.ndarray) -> None:
    """Raise ExportedModelError if `logits` [C] are not those of the export."""
    if logits.shape != expected.shape:
        raise ExportedModelError(
            f"{program}: gives {len(logits)} classes, {ANSWER_NAME} holds {expected.size}; {EXPORT_AGAIN}"
        )
    difference, largest = np.abs(logits - expected).max(), np.abs(expected).max()
    if not difference <= TOLERANCE * largest:
        raise ExportedModelError(
            f"{program}: answers {PICTURE_NAME} otherwise than at its export (logits differ by {difference:.1e}, the "
            f"largest is {largest:.1e}): the card or the runtime has changed; copy the whole folder again"
        )
