"""What the data doctor wants to know of an image file: one row of facts, found by decoding it whole."""

import hashlib
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from common.errors import BadImage

from ..parallel import parallel_map
from ..reading.decode import FORMATS, decode, orientation_of, read_bytes
from ..reading.image_list import ImageList
from ..reading.jpeg_header import read_ordinary_header
from ..reading.shards import ShardedImages

CHUNK = 32  # files a job: small enough for a lively progress bar

FACTS = np.dtype(
    [
        ("num_bytes", "<i8"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("format", "S8"),
        ("mode", "S8"),
        ("orientation", "<i4"),  # of EXIF; 1 is upright
        ("is_animated", "?"),
        ("is_blank", "?"),  # one colour all over
        ("is_suspect", "?"),  # libjpeg-turbo complains of the data, where it is installed
        ("extension", "S8"),
        ("sha256", "S32"),  # of the file
        ("pixels", "S16"),  # a checksum of the decoded picture: that of copies under other names, with other EXIF
    ]
)


def examine_all(
    images: ImageList | ShardedImages, *, num_workers: int, title: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Facts of all images, [N] of FACTS, and why those that cannot be decoded cannot, by index."""
    starts = range(0, len(images), CHUNK)
    chunks = [[images.path(i) for i in range(start, min(start + CHUNK, len(images)))] for start in starts]
    rows, reasons = [np.zeros(0, FACTS)], {}
    for start, (facts, bad) in zip(
        starts, parallel_map(_examine, chunks, num_workers=num_workers, title=title), strict=True
    ):
        rows.append(facts)
        reasons |= {start + row: reason for row, reason in bad.items()}
    return np.concatenate(rows), reasons


def _examine(paths: Sequence[str]) -> tuple[np.ndarray, dict[int, str]]:
    facts, reasons = np.zeros(len(paths), FACTS), {}
    for row, path in enumerate(paths):
        try:
            examine(path, facts[row])
        except BadImage as error:
            reasons[row] = error.reason
    return facts, reasons


def examine(path: str, facts: np.void) -> None:
    """Fill in the facts of the file at `path`, as far as they can be found. Raises BadImage."""
    facts["num_bytes"] = -1
    data = bytes(read_bytes(path))
    facts["num_bytes"] = len(data)
    facts["sha256"] = hashlib.sha256(data).digest()
    facts["extension"] = path.rpartition(".")[2].lower().encode(errors="replace")[:8]
    image = decode(data, path)
    pixels = np.asarray(image)
    facts["width"], facts["height"] = image.size
    facts["is_blank"] = bool((pixels == pixels[0, 0]).all())
    facts["pixels"] = hashlib.blake2b(pixels, digest_size=16, key=b"%dx%d" % image.size).digest()
    header = Image.open(io.BytesIO(data), formats=FORMATS)
    facts["format"], facts["mode"] = (header.format or "").encode(), header.mode.encode()
    facts["is_animated"] = getattr(header, "is_animated", False) and header.format != "MPO"
    facts["orientation"] = orientation_of(header)
    facts["is_suspect"] = read_ordinary_header(data) is not None and not _decodes_without_complaint(data)


def _decodes_without_complaint(data: bytes) -> bool:
    """Pillow shows what it can of a damaged JPEG; of files damaged at random this finds half of what Pillow takes."""
    try:
        import simplejpeg
    except ImportError:
        return True
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return False
    return True
