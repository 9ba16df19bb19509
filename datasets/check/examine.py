"""Examine image files: one row of facts per file, for which the file is decoded whole."""

import hashlib
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from common.errors import BadImage

from ..near_copies import THUMBNAIL_BYTES, thumbnail_of
from ..parallel import JOB_SECONDS, parallel_map
from ..reading.decode import FORMATS, decode, orientation_of, read_bytes
from ..reading.image_list import ImageList
from ..reading.jpeg import read_ordinary_header
from ..reading.shards import ShardedImages

CHUNK = 32  # files per job: few enough that the progress bar moves often

LOST = (
    f"the decoder crashed, or did not end within {JOB_SECONDS:.0f} s; convert the image with another program, or "
    "remove it"
)

FACTS = np.dtype(
    [
        ("num_bytes", "<i8"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("format", "S8"),
        ("mode", "S8"),
        ("orientation", "<i4"),  # of EXIF; 1 is upright
        ("is_animated", "?"),
        ("is_blank", "?"),  # all pixels have one colour
        ("is_suspect", "?"),  # libjpeg-turbo, if installed, reports a fault in the data
        ("extension", "S8"),
        ("sha256", "S32"),  # of the file
        ("thumbnail", "u1", (THUMBNAIL_BYTES,)),  # near-copies have nearly the same
        ("pixels", "S16"),  # checksum of the decoded pixels: the same for copies with another name or other EXIF
    ]
)


def examine_all(
    images: ImageList | ShardedImages, *, num_workers: int, title: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Examine all images.

    Returns:
        Facts [N] of FACTS, and by index the reason why an image cannot be decoded.
    """
    starts = range(0, len(images), CHUNK)
    chunks = [[images.path(i) for i in range(start, min(start + CHUNK, len(images)))] for start in starts]
    rows, reasons = [np.zeros(0, FACTS)], {}
    how = {"num_workers": num_workers, "title": title, "without": _examine_one_by_one}
    results = parallel_map(_examine_chunk, chunks, **how)
    for start, (facts, bad) in zip(starts, results, strict=True):
        rows.append(facts)
        reasons |= {start + row: reason for row, reason in bad.items()}
    return np.concatenate(rows), reasons


def _examine_chunk(paths: Sequence[str]) -> tuple[np.ndarray, dict[int, str]]:
    facts, reasons = np.zeros(len(paths), FACTS), {}
    for row, path in enumerate(paths):
        try:
            examine(path, facts[row])
        except BadImage as error:
            reasons[row] = error.reason
    return facts, reasons


def _examine_one_by_one(paths: Sequence[str]) -> tuple[np.ndarray, dict[int, str]]:
    """Examine files of which one makes a decoder crash or hang, each in a process of its own."""
    if len(paths) == 1:
        return np.zeros(1, FACTS), {0: LOST}
    how = {"num_workers": 1, "title": "", "without": _examine_one_by_one}
    results = list(parallel_map(_examine_chunk, [[path] for path in paths], **how))
    reasons = {row: bad[0] for row, (_, bad) in enumerate(results) if bad}
    return np.concatenate([facts for facts, _ in results]), reasons


def examine(path: str, facts: np.void) -> None:
    """Fill in the facts of the file at `path`, one row of FACTS; before an error those that are known.

    Raises:
        BadImage: the file cannot be read (num_bytes is then -1) or decoded.
    """
    facts["num_bytes"] = -1
    data = bytes(read_bytes(path))
    facts["num_bytes"] = len(data)
    facts["sha256"] = hashlib.sha256(data).digest()
    facts["extension"] = path.rpartition(".")[2].lower().encode(errors="replace")[:8]
    image = decode(data, path)
    facts["thumbnail"] = thumbnail_of(image)
    facts["is_blank"] = all(low == high for low, high in image.getextrema())
    facts["pixels"] = _checksum_of_pixels(image)
    header = Image.open(io.BytesIO(data), formats=FORMATS)
    is_jpeg = header.format in ("JPEG", "MPO")  # a very large one is decoded smaller; a TIFF may be rotated
    facts["width"], facts["height"] = header.size if is_jpeg else image.size
    del image
    facts["format"], facts["mode"] = (header.format or "").encode(), header.mode.encode()
    facts["is_animated"] = getattr(header, "is_animated", False) and header.format != "MPO"
    facts["orientation"] = orientation_of(header)
    facts["is_suspect"] = read_ordinary_header(data) is not None and not _decodes_without_complaint(data)


def _checksum_of_pixels(image: Image.Image) -> bytes:
    """Checksum of size and RGB pixels, in bands that take little memory."""
    checksum, rows = hashlib.blake2b(digest_size=16, key=b"%dx%d" % image.size), max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        checksum.update(image.crop((0, top, image.width, min(top + rows, image.height))).tobytes())
    return checksum.digest()


def _decodes_without_complaint(data: bytes) -> bool:
    """Whether libjpeg-turbo finds no fault in a JPEG.

    Pillow decodes what it can of a damaged JPEG; of files that were damaged at random this check finds half of those
    that Pillow accepts.
    """
    try:
        import simplejpeg
    except ImportError:
        return True
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return False
    return True
