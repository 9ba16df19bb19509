"""Small random images for the tests of datasets: smooth enough for JPEG, different for each seed."""

import io
import os
import signal
import time

import numpy as np
from PIL import Image

from datasets.loading.sample import EvalSampleMaker
from datasets.reading.image_list import ImageList


def fake_image(width: int = 48, height: int = 36, seed: int = 0) -> Image.Image:
    """A random RGB image without sharp edges."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode_image(image: Image.Image, kind: str, **options) -> bytes:
    """The content of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_fake_images(folder, count: int) -> ImageList:
    """Write `count` PNG files of different sizes, as lines of a list `l.txt` with the labels 0 to 3."""
    names = []
    for i in range(count):
        names.append(f"{i}.png")
        fake_image(40 + i % 7, 34 + i % 5, seed=i).save(folder / names[-1])
    labels = [i % 4 for i in range(count)]
    return ImageList(folder, list(map(os.fsencode, names)), labels, list_file="l.txt", line_numbers=range(1, count + 1))


class FaultySamples(EvalSampleMaker):
    """A fault of the code, in a module that a worker process can import."""

    def make(self, path, epoch, index):
        return 1 // 0


class DeadlySamples(EvalSampleMaker):
    """A decoder that kills its process, or hangs, at a file with such a content; once, or each time."""

    def make(self, path, epoch, index):
        with open(path, "rb") as file:
            fault = file.read(40)
        if fault == b"once":
            with open(path, "wb") as file:
                file.write(encode_image(fake_image(40, 34), "PNG"))
        if fault in (b"once", b"crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == b"hang":
            time.sleep(3600)
        return super().make(path, epoch, index)
