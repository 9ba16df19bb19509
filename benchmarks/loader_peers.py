"""Peers of the loader benchmark: the pipelines of PeleeNet-paddle, torchvision and PaddleClas, and decoding alone."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Epochs = Callable[[], Iterator]


@dataclass(frozen=True)
class Job:
    """Input of all contenders: a folder of class folders, its paths, batch size, side of the images in pixels."""

    folder: Path
    paths: list[str]
    batch_size: int
    side: int


class Files:
    """Map-style dataset for paddle.io and torch.utils.data: (image, label) by index.

    Args:
        paths: image files in class folders named by a number.
        make: creates an image from a path.
    """

    def __init__(self, paths: list[str], make: Callable):
        self.paths = paths
        self.make = make

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        return self.make(self.paths[index]), int(Path(self.paths[index]).parent.name)


def peleenet_paddle(job: Job, num_workers: int) -> Epochs:
    """Create the pipeline of PeleeNet-paddle: Pillow, and Paddle's transforms to float32 in the workers."""
    from paddle.vision import transforms
    from PIL import Image

    steps = transforms.Compose(
        [
            transforms.RandomResizedCrop(job.side, interpolation="bilinear"),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return _paddle_epochs(job, num_workers, lambda path: steps(Image.open(path).convert("RGB")))


def paddleclas(job: Job, num_workers: int) -> Epochs:
    """Create the pipeline of PaddleClas: OpenCV decodes, crops, resizes and flips; numpy normalises to float32."""
    import cv2

    cv2.setNumThreads(1)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    rng = np.random.default_rng(0)

    def make(path: str) -> np.ndarray:
        image = cv2.cvtColor(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        aspect = np.sqrt(rng.uniform(3 / 4, 4 / 3))
        largest = min(width / aspect, height * aspect) ** 2 / (width * height)
        side = np.sqrt(rng.uniform(0.08, 1.0) * min(1.0, largest) * width * height)
        crop_width, crop_height = min(width, int(side * aspect)), min(height, int(side / aspect))
        left, top = rng.integers(0, width - crop_width + 1), rng.integers(0, height - crop_height + 1)
        image = cv2.resize(image[top : top + crop_height, left : left + crop_width], (job.side, job.side))
        if rng.random() < 0.5:
            image = cv2.flip(image, 1)
        return ((image.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)

    return _paddle_epochs(job, num_workers, make)


def _paddle_epochs(job: Job, num_workers: int, make: Callable) -> Epochs:
    import paddle

    class Dataset(Files, paddle.io.Dataset):
        pass

    loader = paddle.io.DataLoader(
        Dataset(job.paths, make),
        batch_size=job.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        use_shared_memory=True,
    )
    return lambda: iter(loader)


def torchvision(job: Job, num_workers: int) -> Epochs:
    """Create the pipeline of torchvision: Pillow, torchvision's transforms, torch's DataLoader."""
    import torch
    from PIL import Image

    # torchvision's wheel asks for operators of a CUDA build of torch; its transforms use none of them
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # they exist already where both wheels match
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import transforms

    torch.set_num_threads(1)
    steps = transforms.Compose(
        [
            transforms.RandomResizedCrop(job.side),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader = torch.utils.data.DataLoader(
        Files(job.paths, lambda path: steps(Image.open(path).convert("RGB"))),
        batch_size=job.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,  # a lambda cannot be pickled for spawn
    )
    return lambda: iter(loader)


def decoding(job: Job, num_workers: int) -> Epochs | None:
    """Create a pass that only decodes whole files by libjpeg-turbo on one core: an upper limit."""
    import simplejpeg

    if num_workers:
        return None

    def epoch() -> Iterator:
        for start in range(0, len(job.paths), job.batch_size):
            batch = job.paths[start : start + job.batch_size]
            yield [simplejpeg.decode_jpeg(Path(path).read_bytes()) for path in batch], batch

    return epoch


PEERS = {
    "PeleeNet-paddle's": peleenet_paddle,
    "PaddleClas-style OpenCV": paddleclas,
    "torchvision": torchvision,
    "decoding alone": decoding,
}
