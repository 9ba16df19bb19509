"""Mixup and cutmix: pictures of a batch blended with, or pasted into, those of the same batch in reverse order."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.errors import DataError


class MixupDraw(NamedTuple):
    """What was drawn for a batch of B images. The partner of image i is image B - 1 - i.

    An image keeps `opacity` of itself, and nothing of itself inside its box; the rest is the partner's. `lam` is the
    share of itself in its label, which for a box is the share of the area outside.
    """

    opacity: np.ndarray  # [B] float32: lam of mixup, 1 for cutmix
    boxes: np.ndarray  # [B, 4] int64: top, bottom, left, right of cutmix; all 0 for mixup
    lam: np.ndarray  # [B] float32


@dataclass(frozen=True)
class Mixup:
    """Draws and applies mixup (Zhang et al., 2018) and cutmix (Yun et al., 2019) as PeleeNet-paddle does.

    `mode` says what has parameters of its own: the "batch", each "pair" of partners, or each "elem"ent. Labels are soft
    whenever there is a Mixer, also where nothing was mixed: of C classes, smoothing / C for the others and
    1 - smoothing + smoothing / C for the own one. `cutmix_minmax` bounds the sides of the box and makes cutmix alpha 1.
    """

    mixup_alpha: float
    cutmix_alpha: float
    cutmix_minmax: tuple[float, float] | None
    prob: float
    switch_prob: float
    mode: str
    smoothing: float
    num_classes: int

    def __post_init__(self):
        if self.mode not in ("batch", "pair", "elem"):
            raise DataError(f"mixup mode: expected batch, pair or elem, got {self.mode!r}")
        if self.cutmix_minmax is not None:
            object.__setattr__(self, "cutmix_alpha", 1.0)
        if self.mixup_alpha <= 0 and self.cutmix_alpha <= 0:
            raise DataError("a Mixer needs a mixup or a cutmix alpha above 0; use none instead")

    def check_batch_size(self, batch_size: int) -> None:
        """Raise DataError if batches of this size cannot be mixed. Only pairs need an even number: in the other modes
        the image in the middle of an odd batch is its own partner."""
        if self.mode == "pair" and batch_size % 2:
            raise DataError(f"--mixup_mode pair needs an even batch size, got {batch_size}; or use batch or elem")

    def draw(self, rng: np.random.Generator, batch_size: int, height: int, width: int) -> MixupDraw:
        """Parameters for every image of a batch."""
        self.check_batch_size(batch_size)
        rows = {"batch": 1, "pair": batch_size // 2, "elem": batch_size}[self.mode]
        drawn = [self._draw_one(rng, height, width) for _ in range(rows)]
        if self.mode == "batch":
            drawn *= batch_size
        elif self.mode == "pair":
            drawn += drawn[::-1]
        opacity, boxes, lam = zip(*drawn, strict=True)
        return MixupDraw(np.array(opacity, np.float32), np.array(boxes, np.int64), np.array(lam, np.float32))

    def _draw_one(self, rng: np.random.Generator, height: int, width: int) -> tuple:
        """(opacity, box, lam) of one image."""
        if rng.random() >= self.prob:
            return 1.0, (0, 0, 0, 0), 1.0
        both = self.mixup_alpha > 0 and self.cutmix_alpha > 0
        if rng.random() < self.switch_prob if both else self.cutmix_alpha > 0:
            box = self._draw_box(rng, height, width)
            top, bottom, left, right = box
            return 1.0, box, 1 - (bottom - top) * (right - left) / (height * width)
        lam = rng.beta(self.mixup_alpha, self.mixup_alpha)
        return lam, (0, 0, 0, 0), lam

    def _draw_box(self, rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
        if self.cutmix_minmax is not None:
            least, most = self.cutmix_minmax
            tall = int(rng.integers(int(height * least), int(height * most), endpoint=True))
            wide = int(rng.integers(int(width * least), int(width * most), endpoint=True))
            top, left = rng.integers(0, (height - tall + 1, width - wide + 1)).tolist()
            return top, top + tall, left, left + wide
        side = np.sqrt(1 - rng.beta(self.cutmix_alpha, self.cutmix_alpha))
        middle = rng.integers(0, (height, width)).tolist()
        top, bottom = _around(middle[0], int(height * side), height)
        left, right = _around(middle[1], int(width * side), width)
        return top, bottom, left, right

    def apply(self, images, labels, choice: MixupDraw):
        """Mix images [B, C, H, W] float32 and labels [B] int64, Paddle tensors or numpy arrays.

        Returns images and soft labels [B, num_classes] float32, of the kind and on the device of the images.
        """
        array = _maker(images)
        rows, columns = _inside(choice.boxes, images.shape[2], images.shape[3])
        own = array(choice.opacity[:, None, None, None]) * (1 - array(rows) * array(columns))  # [B, 1, H, W]
        images = images * own + images[::-1] * (1 - own)
        one_hot = labels[:, None] == array(np.arange(self.num_classes))
        smooth = one_hot.astype("float32") * (1 - self.smoothing) + self.smoothing / self.num_classes
        lam = array(choice.lam[:, None])
        return images, smooth * lam + smooth[::-1] * (1 - lam)


def create_mixup(mixup_alpha: float, cutmix_alpha: float, cutmix_minmax, **settings) -> Mixup | None:
    """A Mixer, or None where mixup and cutmix are both off: then there is nothing to mix and labels stay whole."""
    if mixup_alpha <= 0 and cutmix_alpha <= 0 and cutmix_minmax is None:
        return None
    return Mixup(mixup_alpha, cutmix_alpha, cutmix_minmax, **settings)


def _around(middle: int, length: int, side: int) -> tuple[int, int]:
    return max(0, middle - length // 2), min(side, middle + length // 2)


def _inside(boxes: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of rows [B, 1, H, 1] and columns [B, 1, 1, W] float32: their product is 1 inside a box and 0 outside."""
    top, bottom, left, right = boxes.T[:, :, None]
    y, x = np.arange(height), np.arange(width)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return rows[:, None, :, None].astype(np.float32), columns[:, None, None, :].astype(np.float32)


def _maker(images):
    """What turns an array into the kind of `images`."""
    if isinstance(images, np.ndarray):
        return np.asarray
    import paddle

    return paddle.to_tensor
