"""From an image file or a decoded image to the pixels that `Preprocess` defines."""

import os

import numpy as np
from PIL import Image

from ..preprocess import Preprocess
from .backends import open_file
from .crop import center_crop


def read_pixels(path: str | os.PathLike, preprocess: Preprocess) -> np.ndarray:
    """Decode, resize and crop the file at `path` by the image backend of `preprocess`: [S, S, 3] uint8.

    Raises:
        BadImage: the file cannot be read or decoded.
    """
    image = open_file(os.fspath(path), preprocess.exif_orientation, preprocess.image_backend)
    return np.asarray(image.center_crop(preprocess.center_crop(image.size)))


def crop_pixels(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """Resize and crop a decoded RGB image by Pillow: [S, S, 3] uint8."""
    return np.asarray(center_crop(image, preprocess.center_crop(image.size)))


def image_to_input(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """Resize, crop and normalise a decoded RGB image by Pillow: the input of a model, [3, S, S] float32."""
    return preprocess.normalize(crop_pixels(image, preprocess))
