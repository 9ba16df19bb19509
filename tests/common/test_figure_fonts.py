"""Names in the figures of matplotlib: families that have the characters, and words for characters that none has."""

import pytest

from common import figure_fonts
from common.errors import MissingDependencyError
from common.figure_fonts import DEFAULT_FAMILY, FigureFonts, find_figure_fonts
from common.fonts import find_font

pytest.importorskip("matplotlib")


def test_latin_cyrillic_greek_hebrew_and_arabic_need_the_default_family_alone():
    fonts = find_figure_fonts(["abc é", "кошка", "γάτα", "חתול", "قطة"])
    assert fonts == FigureFonts((DEFAULT_FAMILY,))


@pytest.mark.skipif(find_font("猫") is None, reason="this machine has no Chinese font")
def test_a_chinese_font_of_the_machine_is_found():
    fonts = find_figure_fonts(["猫 cat"])
    assert len(fonts.families) == 2 and not fonts.missing
    assert fonts.drawable("猫 cat") == "猫 cat"


def test_what_no_font_has_is_named(monkeypatch):
    monkeypatch.setattr(figure_fonts, "list_fonts", lambda: [])
    fonts = find_figure_fonts(["猫 \U0001f98a abc"])
    assert fonts.missing >= {"猫", "\U0001f98a", "a"}  # without any font
    assert FigureFonts((), frozenset("猫\U0001f98a")).drawable("猫 \U0001f98a a") == "\\u732b [fox face] a"


def test_characters_without_a_shape():
    fonts = find_figure_fonts(["a\nb\udcff\u202e\u200d\ufe0f\U000e0041"])
    assert not fonts.missing
    assert fonts.drawable("a\nb\udcff\u202e\u200d\ufe0f") == "a\\nb\\udcff"


def test_a_font_that_matplotlib_cannot_draw_with_is_left_out(monkeypatch, tmp_path):
    class Broken:
        path = str(tmp_path / "broken.ttf")
        has = staticmethod(lambda text: True)

    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(figure_fonts, "list_fonts", lambda: [Broken])
    assert find_figure_fonts(["猫"]) == FigureFonts((DEFAULT_FAMILY,), frozenset("猫"))


def test_matplotlib_is_named_if_it_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"requirements-report\.txt"):
        find_figure_fonts(["a"])


def test_a_font_that_matplotlib_does_not_know_is_added(monkeypatch):
    from matplotlib import font_manager

    path, added = font_manager.findfont(DEFAULT_FAMILY), []
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    monkeypatch.setattr(font_manager.fontManager, "addfont", added.append)
    assert figure_fonts._family_of(path) == DEFAULT_FAMILY and added == [path]
