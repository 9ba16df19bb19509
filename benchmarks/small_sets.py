"""Small data sets to fine-tune on: digits, drawn textures, patches of photographs; and Fashion-MNIST to train first."""

import gzip
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import MissingDependencyError

SIDE = 56  # of the pictures in pixels: evaluation at 48 crops 48 of 55, as 224 of 256
FASHION = Path("/usr/share/datasets/fashion-mnist")  # of the Debian package dataset-fashion-mnist
PHOTOGRAPHS = ("brick", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "ihc")  # of scikit-image
TEXTURES = ("stripes", "checks", "dots", "rings", "waves", "blobs")

Sample = tuple[np.ndarray, str]  # pixels uint8 [H, W] or [H, W, 3], class


def write_set(root: Path, name: str, per_class: dict[str, int], *, rare: dict[str, int] | None = None) -> Path:
    """Write a set as train/ and val/ with one folder per class, once; the pictures are the same at every call.

    Args:
        root: folder of all sets.
        name: key of SETS.
        per_class: number of pictures of each class, for "train" and "val".
        rare: other numbers of training pictures, by class.
    """
    folder = root / name
    if (folder / "done").exists():
        return folder
    for split, number in per_class.items():
        left: dict[str, int] = {}
        for pixels, label in SETS[name](split):
            wanted = (rare or {}).get(label, number) if split == "train" else number
            count = left[label] = left.get(label, 0) + 1
            if count <= wanted:
                path = folder / split / label / f"{count:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB").save(path)
    (folder / "done").touch()
    return folder


def fashion(split: str) -> Iterator[Sample]:
    """Fashion-MNIST (Xiao et al., 2017): clothes of 28 x 28 pixels, 10 classes.

    Raises:
        MissingDependencyError: the Debian package is not installed.
    """
    if not FASHION.exists():
        raise MissingDependencyError(f"{FASHION}: no such folder; apt-get install dataset-fashion-mnist")
    part = "train" if split == "train" else "t10k"
    with gzip.open(FASHION / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FASHION / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    yield from zip(pixels, labels.astype(str).tolist(), strict=True)


def digits(split: str) -> Iterator[Sample]:
    """The handwritten digits of scikit-learn: 8 x 8 pixels; the last 900 of 1,797 are for validation.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingDependencyError("scikit-learn is not installed; pip install -r requirements-demo.txt") from None
    data = load_digits()
    part = slice(0, -900) if split == "train" else slice(-900, None)
    pixels = np.clip(data.images[part] * 16, 0, 255).astype(np.uint8)
    yield from zip(pixels, data.target[part].astype(str).tolist(), strict=True)


def textures(split: str) -> Iterator[Sample]:
    """Six drawn patterns without end, each with its own scale, direction, two colours, light from one side, noise."""
    rng = np.random.default_rng(0 if split == "train" else 1)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    for number in range(600):
        name = TEXTURES[number % len(TEXTURES)]
        angle, frequency, shift = rng.uniform(0, np.pi), rng.uniform(3, 8), rng.uniform(-0.3, 0.3, 2)
        u = (x + shift[0]) * np.cos(angle) + (y + shift[1]) * np.sin(angle)
        v = (y + shift[1]) * np.cos(angle) - (x + shift[0]) * np.sin(angle)
        u, v = u * 2 * np.pi * frequency, v * 2 * np.pi * frequency
        pattern = {
            "stripes": lambda u, v: np.sin(u),
            "checks": lambda u, v: np.sign(np.sin(u) * np.sin(v)),
            "dots": lambda u, v: np.where(np.cos(u) + np.cos(v) > 0.9, 1.0, -1.0),
            "rings": lambda u, v: np.sin(np.hypot(u, v)),
            "waves": lambda u, v: np.sin(u + 1.5 * np.sin(v / 2)),
            "blobs": lambda u, v: np.sin(u) + np.sin(0.7 * v + 1.3 * np.sin(u / 3)) * np.cos(0.4 * u),
        }[name](u, v)
        dark, bright = rng.uniform(0, 255, (2, 3))
        share = (np.clip(pattern, -1, 1) / 2 + 0.5)[..., None]
        picture = dark * (1 - share) + bright * share
        picture *= (1 + rng.uniform(-0.6, 0.6) * x + rng.uniform(-0.6, 0.6) * y)[..., None]
        picture += rng.normal(0, rng.uniform(5, 40), picture.shape)
        yield np.clip(picture, 0, 255).astype(np.uint8), name


def photos(split: str) -> Iterator[Sample]:
    """Grey patches of eight pictures of scikit-image, of random size; the right third of each is for validation.

    Raises:
        MissingDependencyError: scikit-image is not installed.
    """
    package = importlib.util.find_spec("skimage")  # its files are read without importing it, which needs scipy
    if package is None:
        raise MissingDependencyError("scikit-image is not installed; pip install --no-deps scikit-image")
    files = {path.stem: path for path in (Path(package.origin).parent / "data").iterdir()}
    pictures = {name: np.asarray(Image.open(files[name]).convert("L")) for name in PHOTOGRAPHS}
    rng = np.random.default_rng(2 if split == "train" else 3)
    for number in range(800):
        name = PHOTOGRAPHS[number % len(PHOTOGRAPHS)]
        picture, side = pictures[name], int(rng.integers(60, 110))
        border = picture.shape[1] * 2 // 3
        start, stop = (0, border - side) if split == "train" else (border, picture.shape[1] - side)
        left, top = int(rng.integers(start, stop + 1)), int(rng.integers(0, picture.shape[0] - side + 1))
        patch = picture[top : top + side, left : left + side].astype(float)
        patch = (patch - patch.mean()) * rng.uniform(0.5, 1.3) + rng.uniform(90, 165)
        yield np.clip(patch, 0, 255).astype(np.uint8), name


SETS: dict[str, Callable[[str], Iterator[Sample]]] = {
    "fashion": fashion,
    "digits": digits,
    "textures": textures,
    "photos": photos,
}
