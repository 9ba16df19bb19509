"""Mixup and cutmix: images of a batch are blended with, or pasted into, those of the same batch in reverse order."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.errors import DataError
from configs.schema import MixConfig


class MixupDraw(NamedTuple):
    """The draws of a batch of B images; the partner of image i is image B - 1 - i.

    Outside its box an image keeps the share `opacity` of itself; the rest, and the whole box, is its partner. `lam` is
    the weight of the own label: for mixup the opacity, for cutmix the share of the area outside the box.
    """

    opacity: np.ndarray  # [B] float32: lam of mixup, 1 for cutmix
    boxes: np.ndarray  # [B, 4] int64: top, bottom, left, right of cutmix; all 0 for mixup
    lam: np.ndarray  # [B] float32


@dataclass(frozen=True)
class Mixup:
    """Draws and applies mixup (Zhang et al., 2018) and cutmix (Yun et al., 2019) as PeleeNet-paddle does.

    The mode says what draws parameters of its own: the "batch", each "pair" of partners, or each "elem"ent. Labels are
    always soft, also of images that were not mixed: of C classes, smoothing / C for each other class, and
    1 - smoothing + smoothing / C for the own class.

    Args:
        config: branch `mix` of the config.
        num_classes: number of classes C.

    Raises:
        DataError: an unknown mode, or mixup and cutmix are both off.
    """

    config: MixConfig
    num_classes: int

    def __post_init__(self):
        if self.config.mixup_mode not in ("batch", "pair", "elem"):
            raise DataError(f"--mixup_mode: expected batch, pair or elem, got {self.config.mixup_mode!r}")
        if self.config.mixup <= 0 and self.cutmix_alpha <= 0:
            raise DataError("Mixup needs an alpha of mixup or cutmix above 0; use none instead")

    @property
    def cutmix_alpha(self) -> float:
        """Alpha of cutmix; 1 if `cutmix_minmax` bounds the sides of the box."""
        return self.config.cutmix if self.config.cutmix_minmax is None else 1.0

    def check_batch_size(self, batch_size: int) -> None:
        """Check that batches of this size can be mixed.

        Only pairs need an even number: in the other modes the image in the middle of an odd batch is its own partner.

        Raises:
            DataError: the mode is "pair" and the batch size is odd.
        """
        if self.config.mixup_mode == "pair" and batch_size % 2:
            raise DataError(f"--mixup_mode pair needs an even batch size, got {batch_size}; or use batch or elem")

    def draw(self, rng: np.random.Generator, batch_size: int, height: int, width: int) -> MixupDraw:
        """Draw the parameters of every image of a batch.

        Args:
            rng: generator of the draws.
            batch_size: number of images.
            height: height of the images in pixels.
            width: width of the images in pixels.
        """
        self.check_batch_size(batch_size)
        mode = self.config.mixup_mode
        rows = {"batch": 1, "pair": batch_size // 2, "elem": batch_size}[mode]
        drawn = [self._draw_one(rng, height, width) for _ in range(rows)]
        if mode == "batch":
            drawn *= batch_size
        elif mode == "pair":
            drawn += drawn[::-1]
        opacity, boxes, lam = zip(*drawn, strict=True)
        return MixupDraw(np.array(opacity, np.float32), np.array(boxes, np.int64), np.array(lam, np.float32))

    def _draw_one(self, rng: np.random.Generator, height: int, width: int) -> tuple:
        """(opacity, box, lam) of one image."""
        alpha = self.config.mixup
        if rng.random() >= self.config.mixup_prob:
            return 1.0, (0, 0, 0, 0), 1.0
        both = alpha > 0 and self.cutmix_alpha > 0
        if rng.random() < self.config.mixup_switch_prob if both else self.cutmix_alpha > 0:
            box = self._draw_box(rng, height, width)
            top, bottom, left, right = box
            return 1.0, box, 1 - (bottom - top) * (right - left) / (height * width)
        lam = rng.beta(alpha, alpha)
        return lam, (0, 0, 0, 0), lam

    def _draw_box(self, rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
        """(top, bottom, left, right)."""
        if self.config.cutmix_minmax is not None:
            smallest, largest = self.config.cutmix_minmax
            box_height = int(rng.integers(int(height * smallest), int(height * largest), endpoint=True))
            box_width = int(rng.integers(int(width * smallest), int(width * largest), endpoint=True))
            top, left = rng.integers(0, (height - box_height + 1, width - box_width + 1)).tolist()
            return top, top + box_height, left, left + box_width
        side = np.sqrt(1 - rng.beta(self.cutmix_alpha, self.cutmix_alpha))
        center = rng.integers(0, (height, width)).tolist()
        top, bottom = _clipped_span(center[0], int(height * side), height)
        left, right = _clipped_span(center[1], int(width * side), width)
        return top, bottom, left, right

    def apply(self, images, labels, choice: MixupDraw):
        """Mix images [B, C, H, W] float32 and labels [B] int64, Paddle tensors or numpy arrays.

        Returns:
            Images, and soft labels [B, num_classes] float32, of the kind and on the device of the given images.
        """
        array = _array_maker(images)
        rows, columns = _masks(choice.boxes, images.shape[2], images.shape[3])
        own = array(choice.opacity[:, None, None, None]) * (1 - array(rows) * array(columns))  # [B, 1, H, W]
        images = images * own + images[::-1] * (1 - own)
        one_hot = labels[:, None] == array(np.arange(self.num_classes))
        smoothing = self.config.smoothing
        smooth = one_hot.astype("float32") * (1 - smoothing) + smoothing / self.num_classes
        lam = array(choice.lam[:, None])
        return images, smooth * lam + smooth[::-1] * (1 - lam)


def create_mixup(config: MixConfig, num_classes: int) -> Mixup | None:
    """Create mixup and cutmix; None if both are off: then no image is mixed, and labels stay whole numbers.

    Raises:
        DataError: an unknown --mixup_mode.
    """
    if config.mixup <= 0 and config.cutmix <= 0 and config.cutmix_minmax is None:
        return None
    return Mixup(config, num_classes)


def _clipped_span(center: int, length: int, side: int) -> tuple[int, int]:
    return max(0, center - length // 2), min(side, center + length // 2)


def _masks(boxes: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of rows [B, 1, H, 1] and columns [B, 1, 1, W] float32: their product is 1 inside a box and 0 outside."""
    top, bottom, left, right = boxes.T[:, :, None]
    y, x = np.arange(height), np.arange(width)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return rows[:, None, :, None].astype(np.float32), columns[:, None, None, :].astype(np.float32)


def _array_maker(images):
    """The function that turns a numpy array into the kind of `images`."""
    if isinstance(images, np.ndarray):
        return np.asarray
    import paddle

    return paddle.to_tensor
