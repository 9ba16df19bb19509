"""The figures are drawn for any number of classes and for names in any script, without a box and without a warning."""

import io

import numpy as np
import pytest
from PIL import Image

from common import figure_fonts
from common.figure_fonts import FigureFonts
from engine.report import figures, intervals
from engine.report.figures import Mistake, draw_confusions, draw_mistakes, draw_reliability
from engine.report.measures import measure
from tests.engine.report.samples import make_results

NAMES = ("$5 bill_2 $10", "кошка", "قطة", "猫 \U0001f98a", "a\nb\udcff", "x" * 200)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 2)
    monkeypatch.setattr(figures, "DPI", 40)


def texts_of(monkeypatch, draw) -> tuple[list[str], bytes]:
    """The texts that matplotlib was given, and the PNG file."""
    from matplotlib.text import Text

    shown, set_text = [], Text.set_text

    def record(self, text):
        shown.append(str(text))
        set_text(self, text)

    monkeypatch.setattr(Text, "set_text", record)
    return shown, draw()


def test_names_of_all_scripts_are_drawn_without_a_box(monkeypatch):
    """matplotlib warns of every character that no font has, and warnings are errors in tests."""
    measures = measure(make_results(60, 6, names=NAMES))
    shown, png = texts_of(monkeypatch, lambda: draw_confusions(measures))
    assert Image.open(io.BytesIO(png)).format == "PNG"
    assert {"$5 bill_2 $10", "кошка", "قطة"} <= set(shown)
    assert "4: a\\nb\\udcff" in shown
    assert max(map(len, shown)) <= figures.NAME_WIDTH


def test_a_name_without_a_font_is_escaped_and_gets_its_number(monkeypatch):
    monkeypatch.setattr(figure_fonts, "list_fonts", lambda: [])
    measures = measure(make_results(60, 2, names=("猫", "dog")))
    shown, _ = texts_of(monkeypatch, lambda: draw_confusions(measures))
    assert "0: \\u732b" in shown and "dog" in shown


def test_two_long_names_that_look_alike_when_cut_get_their_numbers():
    names = [f"{'a' * 40} {i} {'b' * 40}" for i in range(2)]
    short = figures._short_names(names, [0, 1], FigureFonts(("DejaVu Sans",)))
    assert short[0].startswith("0: ") and short[1].startswith("1: ") and len(short[0]) <= figures.NAME_WIDTH


@pytest.mark.parametrize(("num_classes", "is_matrix"), [(2, True), (40, True), (41, False)])
def test_more_classes_than_can_be_read_are_drawn_as_pairs(num_classes, is_matrix, monkeypatch):
    measures = measure(make_results(num_classes * 3, num_classes))
    shown, _ = texts_of(monkeypatch, lambda: draw_confusions(measures))
    assert ("predicted class" in shown) == is_matrix
    assert any("→" in text for text in shown) == (not is_matrix)


def test_many_classes_without_a_confusion(monkeypatch):
    measures = measure(make_results(90, 45, strength=40))
    shown, _ = texts_of(monkeypatch, lambda: draw_confusions(measures))
    assert "No class was taken for another one." in shown


def test_the_mistakes_have_both_names_and_the_confidence(monkeypatch):
    pictures = [Image.new("RGB", size, (200, 40, 40)) for size in ((300, 100), (20, 30))]
    mistakes = [Mistake(picture, "猫", "$a$ b$", 0.876) for picture in pictures]
    shown, png = texts_of(monkeypatch, lambda: draw_mistakes(mistakes, 10))
    assert shown.count("is 猫") + shown.count("is \\u732b") == 2
    assert shown.count("taken for $a$ b$") == 2 and "confidence 88 %" in shown
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    assert ((pixels == (200, 40, 40)).all(1)).mean() > 0.1


def test_no_mistake_is_a_sentence(monkeypatch):
    shown, _ = texts_of(monkeypatch, lambda: draw_mistakes([], 1234))
    assert "No mistake: all 1,234 pictures are right." in shown


def test_the_reliability_diagram():
    png = draw_reliability(measure(make_results(60, 3)).bins)
    assert Image.open(io.BytesIO(png)).size[0] > 150


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("abc", 3, "abc"),
        ("abcdefghij", 7, "abcd…ij"),
        ("猫猫猫猫猫", 7, "猫猫…猫"),
        ("greater swiss dog", 10, "greate…dog"),
    ],
)
def test_a_name_is_cut_in_its_middle(text, width, short):
    assert figures._short(text, width) == short


def test_the_settings_of_matplotlib_are_restored():
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_reliability(measure(make_results(30, 3)).bins)
    assert {k: v for k, v in matplotlib.rcParams.items() if k != "backend"} == {
        k: v for k, v in before.items() if k != "backend"
    }


def test_no_name_is_read_as_a_formula(monkeypatch):
    from matplotlib import pyplot
    from matplotlib.text import Text

    drawn = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    names = ("$a$ b_c", "$d$")
    draw_confusions(measure(make_results(40, 2, names=names)))
    draw_mistakes([Mistake(Image.new("RGB", (9, 9)), *names, 0.5)], 10)
    many = tuple(f"$a_{i}$" for i in range(45))
    draw_confusions(measure(make_results(90, 45, names=many)))
    assert len(drawn) == 3
    for figure in drawn:
        texts = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        assert texts and not any(text.get_parse_math() for text in texts)
