"""Small data sets to fine-tune on: clothes, digits, patches of photographs; and Fashion-MNIST to train first."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import MissingDependencyError
from datasets.idx import FASHION_MNIST, open_source

SIDE = 56  # of the pictures in pixels: evaluation at 48 crops 48 of 55, as 224 of 256
PHOTOGRAPHS = ("brick", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "ihc")  # of scikit-image
CLOTHES = ("0", "2", "3", "4", "6", "9")  # four of them look alike

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
    source = open_source(FASHION_MNIST)
    yield from zip(source.images[split].rows(), source.labels[split].astype(str).tolist(), strict=True)


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


def clothes(split: str) -> Iterator[Sample]:
    """Six classes of Fashion-MNIST, other pictures than those of the first training: a set near to what was learnt.

    Raises:
        MissingDependencyError: the Debian package is not installed.
    """
    for number, (pixels, label) in enumerate(fashion(split)):
        if label in CLOTHES and number >= (8_000 if split == "train" else 1_000):
            yield pixels, label


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
    "clothes": clothes,
    "photos": photos,
}
