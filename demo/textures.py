"""Draw pictures of five surfaces into a plain folder of classes: "own pictures" for a first try of the five commands.

python -m demo.textures FOLDER [--new_pictures FOLDER]
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL")

import argparse
import math
import os
from pathlib import Path

import numpy as np
from PIL import Image

from common.cli import home_path, run
from common.files import disk_errors

COUNTS = {
    "brick": 110,
    "grass": 80,
    "stone": 60,
    "water": 40,
    "wood": 20,
}  # pictures per class: not balanced on purpose


def write_textures(folder: str | os.PathLike, counts: dict[str, int] = COUNTS, seed: int = 0) -> Path:
    """Write `<folder>/<class>/<class>_<number>.jpg` for every class of `counts`; the same files for the same seed.

    Raises:
        DiskError: a file cannot be written.
    """
    folder = Path(folder)
    with disk_errors(folder):
        for name, count in counts.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                draw_texture(name, [seed, i]).save(folder / name / f"{name}_{i:03d}.jpg", quality=90)
    return folder


def write_new_pictures(folder: str | os.PathLike, count: int = 10) -> Path:
    """Write `<folder>/<number>.jpg`, counted from 1: other pictures than those of `write_textures`, without classes.

    Raises:
        DiskError: a file cannot be written.
    """
    folder = Path(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            draw_texture(list(DRAW)[i % len(DRAW)], [1, i]).save(folder / f"{i + 1}.jpg", quality=90)
    return folder


def draw_texture(name: str, seed: list[int]) -> Image.Image:
    """Picture of one surface, 140 to 320 pixels wide, with its own scale, direction, colours, light and blur.

    Args:
        name: brick, grass, stone, water or wood.
        seed: whole numbers that fix every random draw, together with the name.
    """
    rng = np.random.default_rng([list(DRAW).index(name), *seed])
    width, height = (int(side) for side in rng.integers(140, 320, 2))
    angle, scale = rng.uniform(-0.35, 0.35), rng.uniform(0.75, 1.5)
    y, x = np.mgrid[:height, :width] / scale
    x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    pixels = DRAW[name](x, y, rng)  # [H, W, 3] float, about 0 to 1
    light = 1 + 0.35 * (x - x.mean()) / np.ptp(x) * rng.choice([-1, 1])
    pixels = pixels * light[..., None] * rng.uniform(0.75, 1.2) + rng.normal(0, 0.03, pixels.shape)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def _brick(x, y, rng):
    length, course = rng.uniform(34, 50), rng.uniform(14, 20)
    row = np.floor(y / course)
    along = x / length + 0.5 * (row % 2)
    joint = (y % course < 2.2) | ((along % 1) * length < 2.2)
    shade = rng.uniform(0.75, 1.15, 4096)[((np.floor(along) * 31 + row * 57) % 4096).astype(int)]
    clay = _colour(rng, [0.62, 0.3, 0.22], 0.12) * (shade + 0.15 * _noise(x, y, rng, 6))[..., None]
    return np.where(joint[..., None], _colour(rng, [0.72, 0.7, 0.66], 0.08), clay)


def _grass(x, y, rng):
    lean = x + 0.25 * y + 9 * _noise(x, y, rng, 40)
    blades = _noise(lean * 6, y * 0.6, rng, 14)
    tone = 0.5 + 0.4 * blades + 0.2 * _noise(x, y, rng, 50)
    return _blend(tone, _colour(rng, [0.1, 0.24, 0.06], 0.05), _colour(rng, [0.55, 0.68, 0.28], 0.12))


def _stone(x, y, rng):
    step = rng.uniform(20, 32)
    column, row = np.floor(x / step), np.floor(y / step)
    jitter, shades = rng.uniform(0.1, 0.9, (2, 64, 64)), rng.uniform(0.45, 1.05, (64, 64))
    nearest, second, shade = np.full(x.shape, 9.0), np.full(x.shape, 9.0), np.zeros(x.shape)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            i, j = (column + dx).astype(int) % 64, (row + dy).astype(int) % 64
            far = np.hypot(column + dx + jitter[0, i, j] - x / step, row + dy + jitter[1, i, j] - y / step)
            shade = np.where(far < nearest, shades[i, j], shade)
            second = np.minimum(second, np.maximum(far, nearest))
            nearest = np.minimum(nearest, far)
    edge = np.clip((second - nearest) * 7, 0.25, 1)
    tone = edge * (shade + 0.12 * _noise(x, y, rng, 5))
    return tone[..., None] * _colour(rng, [0.66, 0.63, 0.58], 0.1)


def _water(x, y, rng):
    waves = np.zeros(x.shape)
    for wave in rng.uniform([-0.25, 0.2, 0, 4], [0.25, 0.5, 6.28, 10], (6, 4)):
        bent = wave[3] * _noise(x, y, rng, 45)
        waves += np.sin(wave[0] * x + wave[1] * (y + bent) + wave[2])
    tone = 0.45 + 0.12 * waves + 0.5 * np.clip(waves - 2.6, 0, 1)
    return _blend(tone, _colour(rng, [0.05, 0.17, 0.24], 0.06), _colour(rng, [0.62, 0.78, 0.8], 0.12))


def _wood(x, y, rng):
    rings = np.hypot(x * 0.06 + rng.uniform(-8, 8), y + rng.uniform(-300, 300)) + 14 * _noise(x * 0.2, y, rng, 30)
    tone = 0.55 + 0.25 * np.sin(rings / rng.uniform(2.2, 4)) + 0.2 * _noise(x * 0.1, y * 2, rng, 6)
    return _blend(tone, _colour(rng, [0.3, 0.18, 0.09], 0.06), _colour(rng, [0.78, 0.6, 0.4], 0.1))


DRAW = {"brick": _brick, "grass": _grass, "stone": _stone, "water": _water, "wood": _wood}


def _noise(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, period: float) -> np.ndarray:
    """Smooth random surface of about -1 to 1: random values on a grid, interpolated."""
    grid = rng.uniform(-1, 1, (64, 64))
    column, row = np.floor(x / period), np.floor(y / period)
    u, v = x / period - column, y / period - row
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    i, j = column.astype(int) % 64, row.astype(int) % 64
    k, m = (i + 1) % 64, (j + 1) % 64
    return (1 - v) * ((1 - u) * grid[i, j] + u * grid[k, j]) + v * ((1 - u) * grid[i, m] + u * grid[k, m])


def _colour(rng: np.random.Generator, mean: list[float], spread: float) -> np.ndarray:
    return np.clip(np.array(mean) + rng.normal(0, spread) + rng.normal(0, spread / 2, 3), 0, 1)


def _blend(tone: np.ndarray, dark: np.ndarray, bright: np.ndarray) -> np.ndarray:
    return dark + np.clip(tone, 0, 1)[..., None] * (bright - dark)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.textures", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=home_path, metavar="FOLDER", help="folder to write")
    parser.add_argument("--new_pictures", type=home_path, help="folder for ten more pictures, to try a classifier with")
    flags = parser.parse_args(argv)
    folder = write_textures(flags.folder)
    print(f"wrote {folder}: {sum(COUNTS.values())} pictures in {len(COUNTS)} classes")
    if flags.new_pictures:
        print(f"wrote {write_new_pictures(flags.new_pictures)}: 10 pictures without a class")
    return 0


if __name__ == "__main__":
    run(main)
