"""Drawn JPEG files of the size of ImageNet's photographs, for benchmarks that need no data."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (500, 375)
NUM_CLASSES = 4


def draw_pictures(folder: Path, count: int) -> None:
    """Draw `count` JPEG files of SIZE pixels, smooth with noise, in class folders below `folder`."""
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize(SIZE)
        pixels = np.asarray(coarse) + rng.integers(-12, 13, (SIZE[1], SIZE[0], 3))
        path = folder / str(index % NUM_CLASSES) / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
