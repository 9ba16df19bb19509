"""What `Classifier.predict` is given: paths, folders, patterns, bytes, arrays, PIL images, and lists of them."""

import glob
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.errors import DataError
from datasets.preprocess import Preprocess
from datasets.reading.backends import open_image
from datasets.reading.decode import IMAGE_EXTENSIONS, to_rgb
from datasets.reading.image_folder import FolderScan, find_images
from datasets.reading.pixels import image_to_input, read_pixels

EXPECTED = "a path, a folder, a pattern such as photos/*.jpg, bytes, a PIL image, an array, or a list of them"


class Source(NamedTuple):
    """One image: a path, bytes, a PIL image or an array; and its name for the prediction."""

    image: str | bytes | Image.Image | np.ndarray
    name: str


def find_sources(images) -> tuple[list[Source], bool]:
    """Find all images that `images` means.

    Returns:
        The images in order, and whether `images` is one image itself rather than a list, a folder or a pattern.

    Raises:
        DataError: a path that does not exist, a folder or pattern without images, or an object of another type.
    """
    scan = FolderScan()
    found = list(_expand(images, scan))
    for remark in scan.remarks:
        warnings.warn(remark, stacklevel=4)
    named = [
        Source(image, image if isinstance(image, str) else f"image {place}") for place, (image, _) in enumerate(found)
    ]
    if not named:
        raise DataError(f"no images given; expected {EXPECTED}")
    return named, len(found) == 1 and found[0][1]


def read_source(source: Source, preprocess: Preprocess) -> np.ndarray:
    """Decode and preprocess one image, as infer.py does with a file: [3, S, S] float32.

    Raises:
        BadImage: the image cannot be read.
    """
    image, name = source
    if isinstance(image, str):
        return preprocess.normalize(read_pixels(image, preprocess))
    if isinstance(image, bytes):
        opened = open_image(image, name, preprocess.exif_orientation, preprocess.image_backend)
        return preprocess.normalize(np.asarray(opened.center_crop(preprocess.center_crop(opened.size))))
    return image_to_input(to_rgb(image, preprocess.exif_orientation), preprocess)


def _expand(images, scan: FolderScan) -> Iterator[tuple]:
    """Yield (image, whether `images` is this image)."""
    if isinstance(images, str | os.PathLike) and not isinstance(os.fspath(images), bytes):
        yield from _expand_path(os.path.expanduser(os.fspath(images)), scan)
    elif isinstance(images, bytes | bytearray | memoryview):
        yield bytes(images), True
    elif isinstance(images, Image.Image) or _is_one_array(images):
        yield images, True
    elif isinstance(images, Iterable) and not isinstance(images, dict) and not hasattr(images, "numpy"):
        for one in images:
            yield from ((image, False) for image, _ in _expand(one, scan))
    else:
        hint = "; a tensor becomes an array by .numpy()" if hasattr(images, "numpy") else ""
        raise DataError(f"expected {EXPECTED}, got {type(images).__name__}{hint}")


def _is_one_array(images) -> bool:
    """Whether `images` is an array of pixels, not one of paths or of many images."""
    return isinstance(images, np.ndarray) and images.dtype.kind not in "OUS" and images.ndim != 4


def _expand_path(path: str, scan: FolderScan) -> Iterator[tuple]:
    if os.path.isdir(path):
        yield from ((image, False) for image in find_images(path, scan))
    elif os.path.exists(path) or not glob.has_magic(path):
        yield find_images(path, scan)[0], True  # an error where there is nothing
    else:
        matches = sorted(glob.glob(path, recursive=True))
        files = [match for match in matches if os.path.isfile(match) and match.lower().endswith(IMAGE_EXTENSIONS)]
        if not files:
            raise DataError(f"{path}: no image has such a path; looked for {' '.join(IMAGE_EXTENSIONS)} in any case")
        yield from ((file, False) for file in files)
