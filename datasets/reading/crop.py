"""The two squares that are cut out of an image, by Pillow: a rectangle of it, for training, or the middle of it."""

from typing import NamedTuple

from PIL import Image

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}

# A picture 1 pixel wide and 4,000 high becomes 256 x 1,024,000: beyond this size only the crop is computed.
MAX_RESIZED_PIXELS = 64_000_000


class Crop(NamedTuple):
    """A rectangle of an image, and how it is resized."""

    left: int
    top: int
    width: int
    height: int
    interpolation: str


def cut(image: Image.Image, crop: Crop, side: int) -> Image.Image:
    """The rectangle resized to a square; cropped first, so that nothing outside it is blended in."""
    inside = image.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
    return inside.resize((side, side), RESAMPLING[crop.interpolation])


class Middle(NamedTuple):
    """A square in the middle of an image that is resized to `width` x `height` first."""

    width: int
    height: int
    side: int
    interpolation: str

    @property
    def left(self) -> int:
        return round((self.width - self.side) / 2)

    @property
    def top(self) -> int:
        return round((self.height - self.side) / 2)


def cut_middle(image: Image.Image, middle: Middle) -> Image.Image:
    """The square, resized first as the references do."""
    resampling = RESAMPLING[middle.interpolation]
    box = (middle.left, middle.top, middle.left + middle.side, middle.top + middle.side)
    if middle.width * middle.height <= MAX_RESIZED_PIXELS:
        return image.resize((middle.width, middle.height), resampling).crop(box)
    across, down = image.width / middle.width, image.height / middle.height
    source = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    return image.resize((middle.side, middle.side), resampling, box=source)
