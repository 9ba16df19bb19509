"""--save_images: names and scores below pictures of any size, mode and script, and only own files are replaced."""

import os

import numpy as np
import pytest
from PIL import Image

from common import fonts
from deploy.predictions import failed_prediction
from deploy.results import caption
from deploy.results.annotated import AnnotatedImages, annotate, was_made_here

NAMES = ["cat", "a name that is so long that it cannot stand on one line of a small picture", "三只猫"]


def prediction(path="a.png", scores=(0.9, 0.08, 0.02)):
    labels = list(range(len(scores)))
    return {"class_ids": labels, "scores": list(scores), "file_name": str(path), "label_names": NAMES[: len(scores)]}


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine without font files: Pillow brings one for ASCII."""
    caches = (fonts.list_fonts, caption.can_draw, caption._runs, caption._load_font)
    for cached in caches:
        cached.cache_clear()
    monkeypatch.setattr(fonts, "_font_folders", lambda: [])
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("size", [(1, 1), (12, 8), (300, 200), (3000, 2000), (5, 2000), (2000, 5), (360, 360)])
def test_the_picture_stays_whole_and_the_caption_is_below_it(size):
    image = Image.new("RGB", size, (200, 30, 60))
    picture = annotate(image, prediction())
    shown = caption.fit_for_display(image)
    assert 256 <= max(shown.size) <= 1280
    assert picture.width >= 360 and picture.width >= shown.width
    pixels = np.asarray(picture)
    left = (picture.width - shown.width) // 2
    assert (pixels[: shown.height, left : left + shown.width] == np.asarray(shown)).all()
    assert not (pixels[shown.height :] == (200, 30, 60)).all(axis=2).any()


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (32, 92, 178)])
def test_the_letters_are_legible_on_any_picture(colour):
    """White letters of at least 12 pixels on dark ground, whatever the picture; W3C asks for a contrast of 4.5."""
    picture = annotate(Image.new("RGB", (64, 64), colour), prediction())
    rows = np.asarray(picture, float)[caption.fit_for_display(Image.new("RGB", (64, 64))).height :]
    letters = (rows > 240).all(axis=2)
    assert np.ptp(np.nonzero(letters.any(axis=1))[0]) + 1 >= 12
    for ground in (caption.PAPER, caption.BAR):
        assert (luminance(caption.INK) + 0.05) / (luminance(ground) + 0.05) > 4.5
    for ground in (caption.PAPER, caption.FAINT_BAR):
        assert (luminance(caption.FAINT) + 0.05) / (luminance(ground) + 0.05) > 4.5


def luminance(colour):
    linear = [(c / 255 / 12.92) if c < 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_long_name_is_cut_and_its_score_is_not():
    text = caption.cut_to_width(NAMES[1], 20, 200)
    assert text.endswith("...") and len(text) > 12 and caption.text_width(text, 20) <= 200
    assert caption.text_width(NAMES[1][: len(text) + 1], 20) > 190, "as many letters as fit"


@pytest.mark.parametrize(
    ("score", "text"),
    [(0.93149, "93.1 %"), (1.0, "100.0 %"), (0.99996, "> 99.9 %"), (0.0004, "< 0.1 %"), (0.0, "0 %"), (0.5, "50.0 %")],
)
def test_percent(score, text):
    assert caption.percent(score) == text


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("cat", "cat"),
        ("two\nlines\t", "two lines"),
        ("\x1b[2J", r"\x1b[2J"),
        ("", "class 7"),
        ("\U0010fffd", "class 7"),
    ],
)
def test_names_are_drawn_on_one_line_and_never_as_boxes(name, drawn):
    assert caption.drawable_name(name, 7) == drawn


def test_without_a_font_for_a_script_the_number_is_drawn_and_said(no_fonts, tmp_path, capsys):
    assert caption.drawable_name("三只猫", 2) == "class 2" and caption.drawable_name("cat", 0) == "cat"
    annotate(Image.new("RGB", (64, 64)), prediction())
    AnnotatedImages(tmp_path, [], NAMES)
    assert "no font on this machine has all characters of 三只猫 (class 2)" in capsys.readouterr().err


def test_joined_letters_need_raqm(monkeypatch):
    caption.can_draw.cache_clear()
    monkeypatch.setattr(caption.features, "check", lambda name: False)
    assert not caption.can_draw("العربية") and caption.can_draw("cat")
    caption.can_draw.cache_clear()


def test_pictures_are_written_below_the_folder_and_only_own_ones_replaced(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    (photos / "sub").mkdir(parents=True)
    for name, mode in (("a.jpg", "CMYK"), ("a.png", "LA"), ("sub/b.png", "P"), ("grey.png", "I;16")):
        Image.new(mode, (40, 30)).save(photos / name)
    out.mkdir()
    Image.new("RGB", (9, 9)).save(out / "a.jpg")
    before = (out / "a.jpg").read_bytes()
    for _ in range(2):
        images = AnnotatedImages(out, [photos], NAMES)
        images.write([prediction(photos / name) for name in ("a.jpg", "a.png", "sub/b.png", "grey.png")])
        images.write([failed_prediction(str(photos / "bad.jpg"), "damaged")])
        names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
        assert names == ["a (2).jpg", "a.jpg", "a.png.jpg", "grey.png.jpg", "sub/b.png.jpg"]
    assert (out / "a.jpg").read_bytes() == before
    assert images.summary() == f"annotated pictures in {out}: 4"
    with Image.open(out / "sub" / "b.png.jpg") as picture:
        assert picture.size == (360, picture.height) and picture.height > 270


@pytest.mark.parametrize(("exif", "is_tall"), [("ignore", False), ("apply", True)])
def test_a_picture_is_drawn_as_the_network_sees_it(tmp_path, exif, is_tall):
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (800, 400), "red").save(tmp_path / "a.jpg", exif=tags)
    AnnotatedImages(tmp_path / "out", [tmp_path / "a.jpg"], NAMES, exif).write([prediction(tmp_path / "a.jpg", (0.5,))])
    with Image.open(tmp_path / "out" / os.fspath("a.jpg")) as picture:
        assert (picture.height > picture.width) == is_tall and "exif" not in picture.info


def test_a_link_to_an_own_picture_is_no_own_picture(tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (40, 30)).save(photo)
    AnnotatedImages(tmp_path / "out", [photo], NAMES).write([prediction(photo)])
    own, link = tmp_path / "out" / "photo.jpg", tmp_path / "link.jpg"
    link.symlink_to(own)
    assert was_made_here(own) and not was_made_here(link) and not was_made_here(photo)
