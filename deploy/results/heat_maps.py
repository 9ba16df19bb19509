"""--explain: each picture beside itself with the places coloured that raised the score of its class."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

from datasets.preprocess import Preprocess
from datasets.reading.decode import read_image
from datasets.reading.pixels import read_pixels

from .annotated import save_picture
from .caption import INK, PAPER, add_caption, fit_for_display, rows_of
from .file_names import OutputNames

GAP = 8  # between the two pictures, in pixels
MAX_RATIO = 4  # of a long picture, of which the network saw a square
UNSEEN = 0.35  # brightness of what lies outside the square that the network sees
# Colours of a map from 0 to 1: "inferno" of matplotlib, of which brightness alone tells the order, too.
COLOURS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)


class Maps(Protocol):
    """Computes maps [B, h, w] from 0 to 1 of preprocessed images [B, 3, S, S] and labels [B]: `engine.layer_cam`."""

    def maps(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray: ...


class ExplainedImages:
    """Writes, below a folder, each predicted picture beside the map of its most probable class."""

    def __init__(self, folder: str, inputs: Iterable[str], maps: Maps, preprocess: Preprocess):
        """Explain the predictions of a model.

        Args:
            folder: is created; only files that an earlier run wrote are replaced in it.
            inputs: files and folders that the user named.
            maps: of the model that made the predictions.
            preprocess: how the model is fed.
        """
        self._folder, self._names = folder, OutputNames(folder, inputs)
        self._maps, self._preprocess = maps, preprocess
        self._num_written = 0

    def write(self, predictions: Iterable[dict]) -> None:
        """Draw the pictures of `predictions`; those that could not be read, or have no class, have none.

        Raises:
            BadImage: a picture cannot be read any more.
            DiskError: a file cannot be written.
        """
        for prediction in predictions:
            if not prediction["class_ids"]:
                continue
            path = prediction["file_name"]
            pixels = self._preprocess.normalize(read_pixels(path, self._preprocess))
            [heat] = self._maps.maps(pixels[None], np.array(prediction["class_ids"][:1]))
            image = read_image(path, self._preprocess.exif_orientation)
            box = self._preprocess.center_crop(image.size).box(image.size)
            save_picture(explain(image, prediction, heat, box), path, self._names)
            self._num_written += 1

    def summary(self) -> str:
        """One sentence on what was written."""
        return f"explained pictures, whose bright places raised the score, in {self._folder}: {self._num_written}"


def explain(
    image: Image.Image, prediction: dict, heat: np.ndarray, box: tuple[float, float, float, float]
) -> Image.Image:
    """Put an image beside itself with a map on it, above the most probable classes.

    Args:
        image: RGB, of any size.
        prediction: of the image.
        heat: [h, w] float32 from 0 to 1, of the square that the network saw.
        box: this square in pixels of the image: left, top, right, bottom.
    """
    image, box = cut_to_ratio(image, box)
    shown = fit_for_display(image)
    scale = shown.width / image.width, shown.height / image.height
    box = tuple(side * scale[place % 2] for place, side in enumerate(box))
    coloured = colour_by_map(shown, heat, box)
    if shown.width > 1.5 * shown.height:  # a wide picture: one above the other
        pair = Image.new("RGB", (shown.width, 2 * shown.height + GAP), PAPER)
        pair.paste(coloured, (0, shown.height + GAP))
    else:
        pair = Image.new("RGB", (2 * shown.width + GAP, shown.height), PAPER)
        pair.paste(coloured, (shown.width + GAP, 0))
    pair.paste(shown, (0, 0))
    return add_caption(pair, rows_of(prediction))


def cut_to_ratio(image: Image.Image, box: tuple[float, float, float, float]) -> tuple[Image.Image, tuple]:
    """The part of a long image around `box`, MAX_RATIO times as long as wide, and the box in it.

    An image of 20 x 6000 pixels, of which the network saw 20 x 20, would be a line. Where it saw more, all is kept.
    """
    along = int(image.height > image.width)  # the side that is long: 0 across, 1 down
    length = MAX_RATIO * min(image.size)
    if image.size[along] <= length or box[along + 2] - box[along] > length:
        return image, box
    middle = (box[along] + box[along + 2]) / 2
    start = round(min(max(middle - length / 2, 0), image.size[along] - length))
    part = (0, start, image.width, start + length) if along else (start, 0, start + length, image.height)
    return image.crop(part), tuple(side - start * (place % 2 == along) for place, side in enumerate(box))


def colour_by_map(image: Image.Image, heat: np.ndarray, box: tuple[float, float, float, float]) -> Image.Image:
    """Colour an RGB image by a map of the square `box`, and darken what lies outside, which the network did not see.

    Args:
        image: of any size.
        heat: [h, w] float32 from 0 to 1.
        box: left, top, right, bottom in pixels of the image; may reach beyond the image.
    """
    left, top, right, bottom = (round(side) for side in box)
    size = max(right - left, 1), max(bottom - top, 1)
    plane = Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)
    whole, seen = Image.new("F", image.size), Image.new("1", image.size)
    whole.paste(plane, (left, top))
    seen.paste(1, (left, top, right, bottom))
    strength, is_seen = np.clip(np.asarray(whole), 0, 1)[..., None], np.asarray(seen)[..., None]
    pixels = np.asarray(image, np.float32)
    grey = 0.5 * pixels.mean(axis=2, keepdims=True) + 0.3 * pixels  # colours of the picture do not compete
    opacity = 0.75 * strength**0.8
    mixed = np.where(is_seen, grey * (1 - opacity) + _colours(strength) * opacity, UNSEEN * grey)
    result = Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
    if not is_seen.all():
        ImageDraw.Draw(result).rectangle((left, top, right - 1, bottom - 1), outline=INK)
    return result


def _colours(strength: np.ndarray) -> np.ndarray:
    places = np.linspace(0, 1, len(COLOURS))
    return np.concatenate([np.interp(strength, places, COLOURS[:, channel]) for channel in range(3)], axis=2)
