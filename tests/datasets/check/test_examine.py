"""Facts of image files, also of unusual and unreadable ones, by any number of processes."""

import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from common.errors import BadImage
from datasets.check import examine as module
from datasets.check.examine import FACTS, LOST, examine, examine_all
from tests.datasets.fake_images import encode_image, fake_image, write_fake_images

EXAMINE_CHUNK = module._examine_chunk


def test_any_number_of_processes_reports_the_same(folder, monkeypatch, check):
    monkeypatch.setattr("datasets.check.examine.CHUNK", 1)
    (folder / "train/a/1.png").write_bytes(b"x")
    shutil.rmtree(folder / "val")
    alone, together = check(folder), check(folder, "--num_workers=2")
    assert alone == together and alone[0] == 3


def test_facts_of_unusual_files(tmp_path):
    facts = np.zeros(2, FACTS)
    exif = Image.Exif()
    exif[0x0112] = 77
    (tmp_path / "a.JPG").write_bytes(encode_image(fake_image(), "JPEG", exif=exif))
    examine(str(tmp_path / "a.JPG"), facts[0])
    assert facts[0]["orientation"] == 1 and facts[0]["extension"] == b"jpg" and len(facts[0]["pixels"]) == 16
    with pytest.raises(BadImage):
        examine(str(tmp_path), facts[1])
    assert facts[1]["num_bytes"] == -1


def test_the_checksum_of_pixels_depends_on_the_sides(tmp_path):
    facts, pixels = np.zeros(2, FACTS), np.asarray(fake_image(48, 40))
    for number, shape in enumerate([(40, 48, 3), (48, 40, 3)]):
        Image.fromarray(pixels.reshape(shape)).save(tmp_path / "a.png")
        examine(str(tmp_path / "a.png"), facts[number])
    assert facts["pixels"][0] != facts["pixels"][1]


def crash_at_two(paths):
    """Examine a chunk, or die at the image 2.png."""
    if any(path.endswith("/2.png") for path in paths):
        os.kill(os.getpid(), signal.SIGSEGV)
    return EXAMINE_CHUNK(paths)


def test_an_image_at_which_a_decoder_crashes_is_named_and_the_others_are_examined(tmp_path, monkeypatch):
    images = write_fake_images(tmp_path, 4)
    expected, _ = examine_all(images, num_workers=0, title="")
    monkeypatch.setattr(module, "CHUNK", 3)
    monkeypatch.setattr(module, "_examine_chunk", crash_at_two)
    facts, reasons = examine_all(images, num_workers=1, title="")
    assert reasons == {2: LOST}
    np.testing.assert_array_equal(np.delete(facts, 2), np.delete(expected, 2))
