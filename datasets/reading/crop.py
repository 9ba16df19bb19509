"""The two crops of an image, by Pillow: a rectangle for training, and the centre or the whole for evaluation."""

from typing import NamedTuple

from PIL import Image

from ..constants import INTERPOLATIONS
from ..preprocess import CenterCrop, Colour, letterbox

RESAMPLING = {name: Image.Resampling[name.upper()] for name in INTERPOLATIONS}

# An image of 1 x 4,000 pixels is resized to 256 x 1,024,000: above this number of pixels only the crop is computed.
MAX_RESIZED_PIXELS = 20_000_000
MAX_COPIED_PIXELS = 4_000_000  # a rectangle is copied; a larger one in bands of this many pixels


class Crop(NamedTuple):
    """A rectangle of an image in pixels, and how it becomes a square: stretched, or in its shape (letterbox)."""

    left: int
    top: int
    width: int
    height: int
    interpolation: str
    fit: str = "crop"
    fill: Colour = (0, 0, 0)  # of the border of a letterbox

    def letterbox(self, side: int) -> CenterCrop | None:
        """Where the rectangle lies in the square; None if it is stretched to the whole square."""
        if self.fit != "letterbox":
            return None
        return letterbox((self.width, self.height), side, self.interpolation, self.fill)


def crop_and_resize(image: Image.Image, crop: Crop, side: int) -> Image.Image:
    """Resize a rectangle to a square; the image is cropped first, so that no pixel outside is blended in."""
    boxed = crop.letterbox(side)
    if crop.width * crop.height <= MAX_COPIED_PIXELS:
        inside = image.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
        return center_crop(inside, boxed) if boxed else inside.resize((side, side), RESAMPLING[crop.interpolation])
    if boxed is None:
        return _resize_in_bands(image, crop, (side, side))
    square = Image.new("RGB", (side, side), boxed.fill)
    square.paste(_resize_in_bands(image, crop, (boxed.width, boxed.height)), (-boxed.left, -boxed.top))
    return square


def _resize_in_bands(image: Image.Image, crop: Crop, size: tuple[int, int]) -> Image.Image:
    """Resize a rectangle without a copy of it.

    Pillow resizes one direction after the other, so the first may be resized in bands: the result is the same. Pillow
    13 begins with the direction that loses more pixels.
    """
    resampling, right, bottom = RESAMPLING[crop.interpolation], crop.left + crop.width, crop.top + crop.height
    width, height = size
    if crop.height > height and crop.height - height > 2 * (crop.width - width):
        narrow = Image.new(image.mode, (crop.width, height))
        step = max(1, MAX_COPIED_PIXELS // crop.height)
        for left in range(crop.left, right, step):
            band = image.crop((left, crop.top, min(left + step, right), bottom))
            narrow.paste(band.resize((band.width, height), resampling), (left - crop.left, 0))
    else:
        narrow = Image.new(image.mode, (width, crop.height))
        step = max(1, MAX_COPIED_PIXELS // crop.width)
        for top in range(crop.top, bottom, step):
            band = image.crop((crop.left, top, right, min(top + step, bottom)))
            narrow.paste(band.resize((width, band.height), resampling), (0, top - crop.top))
    return narrow.resize(size, resampling)


def center_crop(image: Image.Image, center: CenterCrop) -> Image.Image:
    """Cut out the centre; the image is resized first, as in the references. A smaller image gets a border."""
    resampling = RESAMPLING[center.interpolation]
    if center.width < center.side or center.height < center.side:
        square = Image.new("RGB", (center.side, center.side), center.fill)
        square.paste(image.resize((center.width, center.height), resampling), (-center.left, -center.top))
        return square
    box = (center.left, center.top, center.left + center.side, center.top + center.side)
    if center.width * center.height <= MAX_RESIZED_PIXELS:
        return image.resize((center.width, center.height), resampling).crop(box)
    across, down = image.width / center.width, image.height / center.height
    source = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    return image.resize((center.side, center.side), resampling, box=source)
