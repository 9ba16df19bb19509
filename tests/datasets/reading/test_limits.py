"""Limits of image files: decided from the header, the same in every backend, with a message that names the limit."""

import random

import numpy as np
import pytest
from PIL import Image

from common.errors import BadImage
from datasets.check.examine import FACTS, examine
from datasets.pack import Encoding
from datasets.reading import headers, jpeg, limits
from datasets.reading.backends import open_image
from datasets.reading.decode import decode
from datasets.reading.jpeg import read_header, read_ordinary_header
from datasets.reading.limits import COSTS, Header, check_costs, costs
from tests.datasets import hostile
from tests.datasets.corpus import IMAGE, JPEG, PNG
from tests.datasets.fake_images import encode_image, fake_image
from tests.datasets.hostile import KINDS, chunk, mutant, segment

PROGRESSIVE_START, SCANS = hostile.progressive(500, 375)


def png_of(*parts: bytes) -> bytes:
    return PNG[:33] + b"".join(parts) + PNG[33:]


def jpeg_of(*parts: bytes) -> bytes:
    return JPEG[:2] + b"".join(parts) + JPEG[2:]


def gif_of(part: bytes) -> bytes:
    return hostile.gif(random.Random(0), b"")[:19] + part + hostile.gif(random.Random(0), b"")[19:]


REFUSED = {
    "scans": (
        PROGRESSIVE_START + SCANS[0] + SCANS[5] * 6000 + b"".join(SCANS[1:]) + b"\xff\xd9",
        r"would take about \d+\.\d s; the limit is 0.7 s; shrink the image",
    ),
    "segments": (jpeg_of(*[segment(0xFE)] * 1001), "more than 1001 segments"),
    "long segments": (jpeg_of(*[segment(0xFE, bytes(65_000))] * 260), "17 MB|16 MB"),
    "fill bytes": (jpeg_of(b"\xff" * 70_000), "more than 16,384 bytes between the parts of a JPEG"),
    "fill bytes after the scan": (JPEG[:-2] + b"\xff" * 70_000 + b"\xff\xd9", "more than 16,384 bytes between"),
    "no marker after them": (JPEG[:2] + b"\xff" * 70_000, "more than 16,384 bytes between the parts of a JPEG"),
    "arithmetic": (JPEG.replace(b"\xff\xc0", b"\xff\xc9"), "rare kind SOF9; save it as a baseline JPEG"),
    "tags of EXIF": (
        jpeg_of(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + hostile.tags(random.Random(0), 5000, 4))),
        "directory of 5000 tags; the limit is 4096",
    ),
    "chunks": (png_of(*[chunk(b"abCd")] * 1001), "more than 1000 pieces"),
    "pixel chunks": (PNG[:-12] + chunk(b"IDAT") * 20_001 + PNG[-12:], "more than 20,000 parts, the limit"),
    "texts": (png_of(*[chunk(b"zTXt", b"k\0\0")] * 9), "more than 8 compressed texts"),
    "extensions": (gif_of(b"!\xfe\1a\0" * 1001), "more than 1000 pieces"),
    "bytes between blocks": (gif_of(b"a" * 1_100_000), "16 MB of metadata in a GIF file"),
    "short blocks": (gif_of(b"!\xfe" + b"\1a" * 20_001 + b"\0"), "short blocks"),
    "WebP chunks": (
        hostile.webp((b"VP8L", b"/" + bytes(9)), *[(b"abcd", b"")] * 1001),
        "more than 1000 pieces",
    ),
    "compression": (
        hostile.tiff(random.Random(0), hostile.tiff_fields(4, 4, 50000, 48), bytes(48)),
        "TIFF of compression 50000",
    ),
    "shared strips": (
        hostile.tiff_strips(random.Random(0), 8, bytes(1000)),
        "strips of the TIFF are together longer than the file",
    ),
    "JPEG strips": (
        hostile.tiff(random.Random(0), hostile.tiff_fields(4, 4, 7, 2**25), bytes(2**25)),
        "JPEG strips of more than 24 MB, the limit",
    ),
    "comments of PPM": (b"P6\n" + b"#x\n" * 30_000 + b"1 1\n255\nabc", "a PPM header of more than 16384 bytes"),
    "Photoshop's data": (
        hostile.JPEG[:2] + 80 * hostile.segment(0xED, b"Photoshop 3.0\0" + bytes(60_000)) + hostile.JPEG[2:],
        "a JPEG of more than 4 MB of Photoshop's data, the limit",
    ),
    "text of PPM": (b"P2\n1500 1500\n255\n" + b"7 " * 2_250_000, r"\(plain PPM\)"),
    "maximum of PPM": (b"P6\n700 700\n100\n" + bytes(3 * 490_000), "neither 255 nor 65535"),
    "runs of BMP": (hostile.bmp(random.Random(0), 8, 1, b"\1\5" * 2_000_000, 2000), "BMP with run lengths"),
    "a side": (hostile.png(65_536, 1, 8, 0), "65536 x 1 pixels; the limit is 65,535 a side"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_costly_file_is_refused_with_a_message_that_names_the_limit(name):
    data, reason = REFUSED[name]
    for form in (data, memoryview(data)):
        with pytest.raises(BadImage, match=reason):
            decode(form, "x.jpg")
    for backend in ("pil", "turbo"):
        with pytest.raises(BadImage, match=reason):
            open_image(data, "x.jpg", "ignore", backend)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_refused_or_decoded(monkeypatch, kind):
    """The long form, with files of up to 60 MB and measured, is promise D6."""
    monkeypatch.setattr(hostile, "amount", lambda rng, most: max(1, int(min(most, 40_000) * rng.uniform(0.1, 1))))
    for seed in range(2):
        try:
            image = decode(mutant(kind, seed), "x", "apply")
        except BadImage:
            continue
        assert image.mode == "RGB"


# ------------------------------------------------------------------------------------------- photographs


@pytest.mark.parametrize(
    ("decoder", "megapixels", "mode", "megabytes", "scale"),
    [
        ("JPEG", 24, "RGB", 15, 1),
        ("JPEG", 36, "RGB", 20, 1),
        ("JPEG", 50, "RGB", 30, 2),
        ("JPEG", 100, "RGB", 50, 2),
        ("JPEG", 200, "RGB", 40, 4),
        ("JPEG", 24, "CMYK", 15, 2),
        ("PNG", 24, "RGB", 25, 1),
        ("TIFF", 24, "RGB", 60, 1),
        ("BMP", 20, "RGB", 60, 1),
        ("WEBP", 8, "RGB", 4, 1),
    ],
)
def test_photographs_of_cameras_are_decoded(decoder, megapixels, mode, megabytes, scale):
    size = (round((megapixels * 1e6 * 4 / 3) ** 0.5), round((megapixels * 1e6 * 3 / 4) ** 0.5))
    assert check_costs(Header(decoder), size, mode, megabytes * 10**6) == scale


@pytest.mark.parametrize(
    ("decoder", "megapixels", "mode", "possible"),
    [("PNG", 51, "RGB", 42), ("WEBP", 16, "RGB", 8), ("PNG", 36, "L", 33)],
)
def test_others_of_many_pixels_are_refused(decoder, megapixels, mode, possible):
    advice = (
        f", for which such a file may have about {possible} megapixels; shrink the image or save it as baseline JPEG"
    )
    with pytest.raises(ValueError, match=f"the limit is .*{advice}, for example"):
        check_costs(Header(decoder), (1000 * megapixels, 1000), mode, 10**6)
    assert check_costs(Header(decoder), (1000 * possible, 1000), mode, 10**6) == 1


def test_a_rotated_image_needs_twice_the_memory():
    assert check_costs(Header("JPEG"), (6000, 4000), "RGB", 10**7) == 1
    assert check_costs(Header("JPEG"), (6000, 4000), "RGB", 10**7, is_turned=True) == 2


def test_costs_are_no_more_than_the_limits_of_the_promise():
    for decoder in COSTS:
        seconds, megabytes = costs(Header(decoder), 1000, "RGB", 1000, 1)
        assert 0 < seconds < limits.MAX_SECONDS < 1 and 0 < megabytes < limits.MAX_MEGABYTES < 200


@pytest.fixture
def little_memory(monkeypatch):
    """Memory for 40,000 pixels, so that small images stand for large ones."""
    monkeypatch.setattr(limits, "MAX_MEGABYTES", 0.2)


def test_a_very_large_jpeg_is_decoded_smaller_and_alike_in_all_backends(little_memory):
    data = encode_image(fake_image(401, 300), "JPEG", quality=90)
    expected = Image.open(hostile.io.BytesIO(data))
    expected.draft(None, (200, 150))
    pixels = np.asarray(decode(data, "x"))
    assert pixels.shape == (150, 201, 3)
    np.testing.assert_array_equal(pixels, np.asarray(expected.convert("RGB")))
    assert read_ordinary_header(data) is None
    for backend in ("pil", "turbo", "cv2"):
        assert open_image(data, "x", "ignore", backend).size == (201, 150)


def test_the_check_names_the_size_in_the_file_and_packing_does_not_shrink_in_silence(little_memory, tmp_path):
    path = tmp_path / "large.jpg"
    path.write_bytes(encode_image(fake_image(401, 300), "JPEG", quality=90))
    facts = np.zeros(1, FACTS)
    examine(str(path), facts[0])
    assert (facts["width"][0], facts["height"][0]) == (401, 300)
    with pytest.raises(BadImage, match="401 x 300 pixels are decoded only smaller; give a --short_side"):
        Encoding("raw").encode(str(path))
    assert Encoding("raw", short_side=100).encode(str(path))[0] == ".ppm"


# ------------------------------------------------------------------------------------------- JPEG headers


@pytest.mark.parametrize(("options", "num_scans"), [({}, 1), ({"progressive": True}, 10), ({"quality": 100}, 1)])
def test_scans_are_counted(options, num_scans):
    header = read_header(encode_image(fake_image(300, 200), "JPEG", **options))
    assert (header.num_scans, header.size, header.mode) == (num_scans, (300, 200), "RGB")
    assert (header.num_samples > 0) == (num_scans > 1)


@pytest.mark.parametrize("num_bytes", [16_383, 16_384])
def test_fill_bytes_up_to_the_limit_are_skipped(num_bytes):
    data = jpeg_of(b"\xff" * num_bytes)
    assert read_header(data).size == (60, 40)
    np.testing.assert_array_equal(np.asarray(decode(data, "x")), np.asarray(decode(JPEG, "x")))


def test_metadata_of_a_photograph_are_no_reason_to_refuse():
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    many = [segment(0xE2, b"ICC_PROFILE\0" + bytes([i, 200]) + bytes(60_000)) for i in range(1, 201)]
    data = encode_image(IMAGE, "JPEG", quality=95, exif=exif, comment=b"x" * 60_000)
    data = data[:2] + b"".join(many) + b"\xff" * 100 + data[2:]
    np.testing.assert_array_equal(np.asarray(decode(data, "x")), np.asarray(decode(JPEG, "x")))


def test_a_forged_index_of_tiles_is_not_believed():
    tiled = jpeg.encode_tiled(fake_image(400, 300), 80)
    assert jpeg.find_tiles(tiled) is not None
    at = tiled.index(b"\xff\xc0")
    assert jpeg.find_tiles(tiled[: at + 1] + b"\xc2" + tiled[at + 2 :]) is None


# ------------------------------------------------------------------------------------------- headers of other formats


def test_a_wrong_checksum_of_any_chunk_is_damage():
    for kind in (b"IHDR", b"IDAT", b"IEND"):
        at = PNG.index(kind) - 4
        at += 8 + int.from_bytes(PNG[at : at + 4], "big")
        data = PNG[:at] + bytes(4) + PNG[at + 4 :]
        with pytest.raises(ValueError, match=f"wrong checksum of the PNG chunk {kind.decode()}"):
            headers.check_png(memoryview(data))


def test_formats_are_told_by_their_first_bytes():
    kinds = {
        kind: headers.check_header(encode_image(IMAGE, kind)) for kind in ("PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM")
    }
    assert {kind: found[0] for kind, found in kinds.items()} == {kind: kind for kind in kinds}
    assert headers.check_header(JPEG) is None and headers.check_header(b"\0\0\1\0") is None


@pytest.mark.parametrize("order", "<>")
def test_tags_are_read_in_both_byte_orders(order):
    data = hostile.tiff(random.Random(0), hostile.tiff_fields(30, 20, 1, 1800), bytes(1800), order)
    assert decode(data, "x").size == (30, 20)
    forged = hostile.tiff(random.Random(0), hostile.tiff_fields(30, 20, 50001, 1800), bytes(1800), order)
    with pytest.raises(BadImage, match="compression 50001"):
        decode(forged, "x")


def test_a_webp_is_in_memory_four_times():
    assert costs(Header("WEBP"), 0, "RGB", 1_000_000, 1)[1] == 4
