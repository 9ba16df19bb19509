"""report.html shows all numbers, escapes every name, and loads nothing from elsewhere."""

import html.parser
import re

import pytest

from engine.report import intervals
from engine.report.calibration import calibrate
from engine.report.intervals import Estimate
from engine.report.measures import measure
from engine.report.page import Content, interval, percent, render
from engine.report.suspects import find_suspects
from tests.engine.report.samples import FakePictures, from_predictions, make_results

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000 1f15c4890000000d49444154789c6360000002000005"
    "0001e221bc330000000049454e44ae426082".replace(" ", "")
)
ATTACK = '<script>alert(1)</script>" onerror="x'


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 2)


def make_page(results, **changes) -> str:
    num = len(results.labels)
    fields = {
        "title": "Evaluation of best.pd",
        "subtitle": "peleenet",
        "results": results,
        "measures": measure(results),
        "pictures": FakePictures(),
        "figures": {"confusions": PNG, "reliability": PNG},
        "calibration": None,
        "suspects": find_suspects(results, [f"{i}.png" for i in range(num)]),
        "train_pictures": FakePictures(),
        "notes": (),
        "no_suspects": "",
        "files": {"report.html": "this page"},
        "settings": {"Flags": [("resume", "'best.pd'")]},
    }
    return render(Content(**{**fields, **changes}))


class Reader(html.parser.HTMLParser):
    """Collects tags, attributes and texts."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.texts.append(" ".join(data.split()))


def test_every_text_from_outside_is_escaped():
    names = tuple(f"{ATTACK} {i}" for i in range(3))
    results = make_results(40, 3, unreadable=[3], names=names)
    page = make_page(
        results,
        title=ATTACK,
        subtitle=ATTACK,
        notes=(ATTACK,),
        settings={"Flags": [(ATTACK, ATTACK)]},
        pictures=FakePictures([f"{ATTACK}{i}.png" for i in range(40)], bad=[3]),
        train_pictures=FakePictures([ATTACK] * 40),
        calibration=calibrate(results),
    )
    reader = Reader(page)
    assert "script" not in reader.tags and "onerror" not in dict(reader.attributes)
    assert ATTACK in reader.texts
    assert not [value for name, value in reader.attributes if name in ("href", "src") and value[:1] not in "#d"]
    no_suspects = Reader(make_page(results, suspects=None, no_suspects=ATTACK))
    assert "script" not in no_suspects.tags and ATTACK in no_suspects.texts


def test_the_page_loads_nothing_and_may_not():
    page = make_page(make_results(40, 3))
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!data:image/|#)", page) and "@import" not in page and "url(" not in page
    assert "://" not in page


def test_hidden_characters_of_names_are_shown_as_escapes():
    page = make_page(make_results(40, 3, names=("\u202egpj.exe", "a\x1b[31m", "b\udcff")))
    page.encode("utf-8")
    assert "\\u202egpj.exe" in page and "\\x1b[31m" in page and "b\\udcff" in page
    assert "\u202e" not in page


def test_the_sentences_at_the_top():
    page = " ".join(Reader(make_page(from_predictions([0, 0, 1, 1], [0, 1, 1, 1], 2, ("cat", "dog")))).texts)
    assert re.search(r"3 of 4 pictures are classified correctly \(75.0 %\)", page)
    assert re.search(r"recognised pictures is cat : 1 of 2, and it is most often taken for dog \(1\)", page)
    assert "Top- " not in page and "Top-1 accuracy" in page  # two classes have no top-k
    right = " ".join(Reader(make_page(from_predictions([0, 1], [0, 1], 2))).texts)
    assert "All 2 pictures are classified correctly." in right
    assert "There is no wrong picture to show." in right and "No class was taken for another one." in right
    assert "The model agrees with the label of all 2 training pictures." in right


def test_many_suspects_mean_that_the_model_has_not_learned_its_pictures():
    def page(num_wrong):
        results = from_predictions([0] * 10 + [1] * 10, [1] * num_wrong + [0] * (10 - num_wrong) + [1] * 10, 2)
        return " ".join(Reader(make_page(results)).texts)

    assert "takes 25 % of its training pictures for another class: it has not learned them" in page(5)
    assert "it has not learned them" not in page(4)


@pytest.mark.parametrize(("num_classes", "per_class"), [(2, 6), (60, 6), (120, 3), (400, 1)])
def test_every_class_has_sample_pictures(num_classes, per_class):
    results = make_results(num_classes * 6, num_classes, strength=30)
    page = make_page(results, suspects=None)
    samples = page.split('id="samples"')[1]
    assert samples.count("<img") == num_classes * per_class
    assert all(f">class {label}<" in samples for label in range(num_classes))


def test_the_temperature_is_judged_by_held_out_pictures():
    results = make_results(300, 3)
    calibration = calibrate(results)
    page = " ".join(Reader(make_page(results, calibration=calibration)).texts)
    assert f"Temperature {calibration.temperature:.3f}" in page
    assert percent(calibration.error_held_out, 2) in page and percent(calibration.error_before, 2) in page


@pytest.mark.parametrize(
    ("share", "digits", "text"), [(1, 1, "100.0 %"), (0.9999, 1, "99.9 %"), (0.9999, 2, "99.99 %"), (0.999, 0, "99 %")]
)
def test_a_share_below_1_is_never_shown_as_100_percent(share, digits, text):
    assert percent(share, digits) == text


def test_the_range_of_a_number():
    assert interval(Estimate(0.5, 0.25, 0.75)) == "25.0 to 75.0 %"
    assert interval(Estimate(2.0, 1.5, 2.5), False) == "1.500 to 2.500"
    assert interval(Estimate(1.0)) == ""


@pytest.mark.parametrize(("num_classes", "fits"), [(2, True), (12, True), (13, False)])
def test_a_matrix_of_twelve_classes_fits_a_telephone(num_classes, fits):
    """A wider one keeps a size at which its numbers can be read, and scrolls."""
    page = make_page(make_results(60, num_classes))
    assert ("min-width: 0px" in page) == fits
    assert ("max-width: none" in page) == (not fits)
