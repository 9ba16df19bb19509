"""The fonts of the machine: which characters a font has, and which font draws a text so that nothing is a box."""

import os

import pytest

from common import fonts

pytest.importorskip("fontTools", reason="comes with matplotlib of requirements-demo.txt")
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib import TTFont
from fontTools.ttLib.tables._g_l_y_f import Glyph


def write_font(path, text, *, with_shapes=True):
    """Write a font with the characters of `text`, each of an empty shape."""
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in text)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"u{ord(letter):04X}" for letter in text})
    builder.setupGlyf({name: Glyph() for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (500, 0)))
    builder.setupHorizontalHeader()
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.font.save(path)
    if not with_shapes:  # as in a font of coloured pictures
        path.write_bytes(path.read_bytes().replace(b"glyf", b"CBDT"))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder of fonts; the fonts found before and after the test are forgotten."""
    monkeypatch.setattr(fonts, "_font_folders", lambda: [str(tmp_path)])
    fonts.list_fonts.cache_clear()
    yield tmp_path
    fonts.list_fonts.cache_clear()


def test_the_characters_of_a_font_are_those_that_fonttools_reads(folder):
    """In both forms of the table: the second is that of characters above U+FFFF."""
    for name, text in (("small", "abcxyzé三"), ("large", "abc三猫\U0001f600\U00020000")):
        path = write_font(folder / f"{name}.ttf", text)
        font = fonts.FontFile(str(path))
        known = TTFont(path).getBestCmap()
        assert [code for code in range(33, 0x20010) if not chr(code).isspace() and font._glyph(code)] == sorted(known)


def test_a_text_is_drawn_by_the_first_font_that_has_all_of_it(folder):
    write_font(folder / "b" / "Plain-Regular.ttf", "abc")
    write_font(folder / "a" / "Plain-BoldItalic.ttf", "abc三")
    assert os.path.basename(fonts.find_font("a b").path) == "Plain-Regular.ttf"
    assert os.path.basename(fonts.find_font("a 三").path) == "Plain-BoldItalic.ttf"
    assert fonts.find_font("é") is None


def test_a_text_that_no_font_has_whole_is_divided(folder):
    write_font(folder / "latin.ttf", "abc")
    write_font(folder / "chinese.ttf", "三猫")
    runs = fonts.split_by_font("ab 三猫c")
    assert [(run, os.path.basename(font.path)) for run, font in runs] == [
        ("ab ", "latin.ttf"),
        ("三猫", "chinese.ttf"),
        ("c", "latin.ttf"),
    ]
    assert fonts.split_by_font("ab\U0001f600") is None, "it would be a box"
    assert fonts.split_by_font("ab\U0010fffd") is None


def test_files_that_draw_nothing_are_passed_over(folder):
    write_font(folder / "colours.ttf", "abc", with_shapes=False)
    write_font(folder / "AdobeBlank.ttf", "abc")
    (folder / "damaged.ttf").write_bytes(write_font(folder / "whole.ttf", "xyz").read_bytes()[:200])
    (folder / "empty.otf").write_bytes(b"")
    (folder / "readme.txt").write_text("abc")
    assert fonts.find_font("abc") is None
    assert os.path.basename(fonts.find_font("xyz").path) == "whole.ttf"
    assert not any("Blank" in font.path for font in fonts.list_fonts())


def test_a_damaged_font_is_no_traceback(folder):
    whole = write_font(folder / "whole.ttf", "ab").read_bytes()
    for end in range(0, len(whole), 7):
        (folder / "cut.ttf").write_bytes(whole[:end])
        fonts.FontFile(str(folder / "cut.ttf")).has("a")
    (folder / "no_cmap.ttf").write_bytes(whole.replace(b"cmap", b"xxxx"))
    assert not fonts.FontFile(str(folder / "no_cmap.ttf")).has("a")


def test_a_font_of_a_collection(folder):
    from fontTools.ttLib import TTCollection

    collection = TTCollection()
    for name, text in (("one", "ab"), ("two", "cd")):
        collection.fonts.append(TTFont(write_font(folder / f"{name}.ttf", text)))
    collection.save(folder / "both.ttc")
    assert fonts.FontFile(str(folder / "both.ttc"), 1).has("cd")
    assert not fonts.FontFile(str(folder / "both.ttc"), 1).has("ab")
