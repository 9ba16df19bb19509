"""--save_images: each picture with the names and scores of its classes drawn below it."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from common.files import atomic_write, disk_errors
from common.printable import print_safely
from datasets.reading.decode import read_image

from .caption import add_caption, can_draw, fit_for_display, one_line, rows_of
from .file_names import OutputNames

MADE_HERE = b"picture with predictions"  # comment in the JPEG files that this module writes
QUALITY = 90  # of JPEG
MAX_SHOWN = 5


class AnnotatedImages:
    """Writes an annotated JPEG below a folder for every picture that was predicted."""

    def __init__(
        self,
        folder: str | os.PathLike,
        inputs: Iterable[str | os.PathLike],
        class_names: Sequence[str] | None,
        exif_orientation: str = "ignore",
    ):
        """Say which class names cannot be drawn on this machine.

        Args:
            folder: is created; only files that an earlier run wrote are replaced in it.
            inputs: files and folders that the user named.
            class_names: of the model; None if its classes have no names.
            exif_orientation: as the network sees the pictures: "ignore", or "apply".
        """
        self._names = OutputNames(folder, inputs)
        self._exif_orientation = exif_orientation
        self._folder = folder
        self.num_written = 0
        warn_of_names_without_font(class_names or ())

    def write(self, predictions: Iterable[dict]) -> None:
        """Draw the pictures of `predictions`; those that could not be read have none.

        Raises:
            BadImage: a picture cannot be read any more.
            DiskError: a file cannot be written.
        """
        for prediction in predictions:
            if "error" in prediction:
                continue
            image = read_image(prediction["file_name"], self._exif_orientation)
            save_picture(annotate(image, prediction), prediction["file_name"], self._names)
            self.num_written += 1

    def summary(self) -> str:
        """One sentence on what was written."""
        return f"annotated pictures in {self._folder}: {self.num_written}"


def annotate(image: Image.Image, prediction: dict) -> Image.Image:
    """Return an RGB image, in a size for the screen, above the most probable classes of its prediction."""
    return add_caption(fit_for_display(image), rows_of(prediction))


def save_picture(picture: Image.Image, input_name: str, names: OutputNames) -> Path:
    """Write a picture that was made of the input image `input_name` as JPEG; return its path.

    Raises:
        DiskError: the file cannot be written.
    """
    path = names.path_of(input_name, ".jpg", may_replace=was_made_here)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            picture.save(file, "JPEG", quality=QUALITY, comment=MADE_HERE)
    return path


def was_made_here(path: Path) -> bool:
    """Whether a file is a picture that `save_picture` wrote, which a later run replaces."""
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            return not path.is_symlink() and image.info.get("comment") == MADE_HERE
    except Exception:  # any other file, or a damaged one
        return False


def warn_of_names_without_font(class_names: Sequence[str]) -> None:
    """Print on stderr which classes are drawn by their numbers, because no font has their characters."""
    missing = [f"{name} (class {label})" for label, name in enumerate(class_names) if not can_draw(one_line(name))]
    if missing:
        shown = ", ".join(missing[:MAX_SHOWN]) + (f" and {len(missing) - MAX_SHOWN} more" * (len(missing) > MAX_SHOWN))
        print_safely(
            f"warning: no font on this machine has all characters of {shown}; in pictures such classes are called by "
            "their numbers. Install a font for the script, for example the package fonts-noto",
            sys.stderr,
        )
