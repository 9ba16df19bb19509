"""The two crops of an image, by Pillow: a rectangle for training, and the centre for evaluation."""

from typing import NamedTuple

from PIL import Image

from ..constants import INTERPOLATIONS
from ..preprocess import CenterCrop

RESAMPLING = {name: Image.Resampling[name.upper()] for name in INTERPOLATIONS}

# An image of 1 x 4,000 pixels is resized to 256 x 1,024,000: above this number of pixels only the crop is computed.
MAX_RESIZED_PIXELS = 64_000_000


class Crop(NamedTuple):
    """A rectangle of an image in pixels, and how it is resized."""

    left: int
    top: int
    width: int
    height: int
    interpolation: str


def crop_and_resize(image: Image.Image, crop: Crop, side: int) -> Image.Image:
    """Resize a rectangle to a square; the image is cropped first, so that no pixel outside is blended in."""
    inside = image.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
    return inside.resize((side, side), RESAMPLING[crop.interpolation])


def center_crop(image: Image.Image, center: CenterCrop) -> Image.Image:
    """Cut out the centre; the image is resized first, as in the references."""
    resampling = RESAMPLING[center.interpolation]
    box = (center.left, center.top, center.left + center.side, center.top + center.side)
    if center.width * center.height <= MAX_RESIZED_PIXELS:
        return image.resize((center.width, center.height), resampling).crop(box)
    across, down = image.width / center.width, image.height / center.height
    source = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    return image.resize((center.side, center.side), resampling, box=source)
