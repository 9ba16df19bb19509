"""The folder of a report: whole when metrics.json is there, and without files of an earlier report."""

import pytest

from common.errors import DiskError
from engine.report import intervals, write
from engine.report.suspects import find_suspects
from engine.report.write import Report, write_report
from tests.engine.report.samples import FakePictures, make_results


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 2)
    for name in ("draw_confusions", "draw_reliability", "draw_mistakes"):
        monkeypatch.setattr(write, name, lambda *_: b"figure")
    monkeypatch.setattr(write, "render", lambda content: "page")


def report_of(**changes) -> Report:
    return Report("title", "subtitle", make_results(12), FakePictures(), **changes)


def test_metrics_json_is_the_last_file(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_csv", full_disk)
    with pytest.raises(DiskError):
        write_report(tmp_path, report_of())
    assert not (tmp_path / "metrics.json").exists()


def test_the_suspects_of_an_earlier_report_are_removed(tmp_path):
    results = make_results(12)
    write_report(tmp_path, report_of(suspects=find_suspects(results, [f"{i}.png" for i in range(12)])))
    assert (tmp_path / "suspects.csv").exists()
    write_report(tmp_path, report_of())
    assert not (tmp_path / "suspects.csv").exists()
