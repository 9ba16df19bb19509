"""What decoding an image file may cost in time and memory: decided from the header, before a decoder is called."""

from typing import NamedTuple

MAX_BYTES = 64 * 2**20  # of a file
MAX_SIDE = 65_535  # pixels; Pillow allocates a pointer for each row
MAX_PIXELS = 250_000_000  # of any file; the costs below allow so many only for a JPEG, which is decoded smaller

# Of the decoder alone, by the costs below, which are the dearest ones measured on a processor of 2.5 GHz. The promise
# of docs/reliability.md, 1 s and 200 MB for an image, leaves the rest to the conversion to RGB and to the resizing.
MAX_SECONDS = 0.7
MAX_MEGABYTES = 170

MAX_PARTS = 20_000  # chunks of PNG and WebP, blocks of GIF before its first frame: each takes microseconds in Python
MAX_SEGMENTS = 1000  # of JPEG before its first scan, chunks of PNG beside its pixels, extensions of GIF
MAX_HEADER_BYTES = 16 * 2**20  # of those segments, chunks and extensions, which Pillow keeps in memory
MAX_PHOTOSHOP_BYTES = 4 * 2**20  # of JPEG: Pillow reads their blocks of 12 bytes one by one, 9 MB in a second
MAX_JUNK_BYTES = 2**14  # fill bytes, comments of PPM: Pillow reads them one by one, 64 KiB in a second
MAX_COMPRESSED_TEXTS = 8  # zTXt, iTXt and iCCP of PNG, each of which may inflate to MAX_TEXT_BYTES
MAX_TEXT_BYTES = 4 * 2**20
MAX_TAGS = 4096  # of an IFD of TIFF or EXIF
MAX_STRIPS = 65_536  # strips or tiles of TIFF
MAX_STRIP_SCANS = 4  # of a JPEG in a strip or tile
MAX_STRIP_BYTES = 24 * 2**20  # of JPEG in strips or tiles: they are searched for frames, up to 20 ns for each byte

SCALES = (1, 2, 4, 8)  # by which libjpeg divides both sides while it decodes


class Cost(NamedTuple):
    """What a decoder takes for each pixel and each byte of a file."""

    ns_per_pixel: float
    ns_per_byte: float
    bytes_per_pixel: int = 0  # beside the image in Pillow's memory
    copies: int = 1  # of the file


COSTS = {
    "JPEG": Cost(0.5, 10),
    "progressive JPEG": Cost(0.5, 32),
    "PNG": Cost(14, 11),
    "WEBP": Cost(40, 10, bytes_per_pixel=15, copies=4),
    "GIF": Cost(10, 8),
    "TIFF": Cost(14, 4),
    "BMP": Cost(4, 1),
    "BMP with run lengths": Cost(80, 260),  # decoded in Python, as the next ones
    "PPM": Cost(4, 1),
    "plain PPM": Cost(120, 380),
    "PPM of a maximum that is neither 255 nor 65535": Cost(2000, 1),
}
NS_PER_OUTPUT_PIXEL = 4  # of a JPEG, after the scaling
NS_PER_SAMPLE_AND_SCAN = 0.7  # of a JPEG whose scans are collected before the pixels are computed

# By Pillow's mode: its image, and the RGB image that is made of it while the first one still exists.
BYTES_PER_PIXEL = {"RGB": 4, "L": 5, "P": 5, "1": 5, "I;16": 12, "I;16B": 12, "I": 16, "F": 8}
BYTES_PER_OTHER_PIXEL = 8  # RGBA, CMYK, LA, PA, YCbCr, LAB
BYTES_TURNED = 4


class Header(NamedTuple):
    """What a header says of the costs, beside size and mode."""

    decoder: str  # key of COSTS
    extra_bytes: int = 0  # memory for what is kept of the header, or for collected coefficients
    extra_ns: float = 0
    may_turn: bool = False  # whether there is metadata that may say how the image is to be rotated


def check_size(width: int, height: int) -> None:
    """Refuse an image that no decoder could decode within the limits.

    Raises:
        ValueError: a side or the number of pixels is above the limit.
    """
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels; the limit is {MAX_SIDE:,} a side and {MAX_PIXELS:,} in all")


def check_costs(header: Header, size: tuple[int, int], mode: str, num_bytes: int, *, is_turned: bool = False) -> int:
    """Choose the scale at which an image is decoded: 1, or for a JPEG that is too large 2, 4 or 8.

    Args:
        header: of the file.
        size: (width, height) in pixels.
        mode: Pillow's name of the kind of pixels.
        num_bytes: length of the file, twice where its bytes are copied for the decoder.
        is_turned: whether the decoded image is rotated, for which there are two of it.

    Raises:
        ValueError: at no scale the image can be decoded within MAX_SECONDS and MAX_MEGABYTES; the message says what it
            would take and what to do.
    """
    check_size(*size)
    for scale in SCALES if "JPEG" in header.decoder else (1,):
        seconds, megabytes = costs(header, size[0] * size[1], mode, num_bytes, scale)
        megabytes += is_turned * BYTES_TURNED * size[0] * size[1] / scale**2 / 1e6
        if seconds <= MAX_SECONDS and megabytes <= MAX_MEGABYTES:
            return scale
    too_much = f"{megabytes:.0f} MB of memory; the limit is {MAX_MEGABYTES} MB"
    if seconds > MAX_SECONDS:
        too_much = f"{seconds:.1f} s; the limit is {MAX_SECONDS} s"
    raise ValueError(
        f"to decode {size[0]} x {size[1]} pixels of mode {mode} ({header.decoder}) in {num_bytes / 2**20:.1f} MB would "
        f"take about {too_much}{_possible_pixels(header, mode, num_bytes)}; shrink the image or save it as baseline "
        "JPEG, for example with magick mogrify -resize 4000x4000 -format jpg"
    )


def _possible_pixels(header: Header, mode: str, num_bytes: int) -> str:
    """How many pixels would be possible in a file of this kind and length, in words; "" if there are no such."""
    fixed = costs(header, 0, mode, num_bytes, 1)
    per_megapixel = [both - alone for both, alone in zip(costs(header, 10**6, mode, num_bytes, 1), fixed, strict=True)]
    rooms = zip((MAX_SECONDS, MAX_MEGABYTES), fixed, per_megapixel, strict=True)
    megapixels = min((most - alone) / each for most, alone, each in rooms)
    if "JPEG" in header.decoder or megapixels < 1:
        return ""
    return f", for which such a file may have about {int(megapixels)} megapixels"


def costs(header: Header, num_pixels: int, mode: str, num_bytes: int, scale: int) -> tuple[float, float]:
    """Estimate seconds and megabytes for decoding an image.

    Args:
        header: of the file.
        num_pixels: of the image in the file.
        mode: Pillow's name of the kind of pixels.
        num_bytes: length of the file.
        scale: by which both sides are divided.
    """
    decoder, num_output = COSTS[header.decoder], num_pixels / scale**2
    ns = decoder.ns_per_pixel * num_pixels + decoder.ns_per_byte * num_bytes + header.extra_ns
    if "JPEG" in header.decoder:
        ns += NS_PER_OUTPUT_PIXEL * num_output
    num_bytes = decoder.copies * num_bytes + header.extra_bytes + decoder.bytes_per_pixel * num_pixels
    return ns / 1e9, (num_bytes + BYTES_PER_PIXEL.get(mode, BYTES_PER_OTHER_PIXEL) * num_output) / 1e6
