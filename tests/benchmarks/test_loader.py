"""Holds the loader benchmark to its words on a handful of pictures: every contender reads all, results are kept."""

from types import SimpleNamespace

import pytest
from PIL import Image

from benchmarks import loader
from benchmarks.loader import OURS, contenders, lay_out, measure, plot, print_table
from benchmarks.loader_peers import PEERS

pytestmark = pytest.mark.filterwarnings("ignore")  # of the peers' libraries
COUNT, BATCH = 24, 4


@pytest.fixture
def job(tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")
    (tmp_path / "source").mkdir()
    for i in range(3):
        Image.new("RGB", (80, 60), (90 * i, 10, 10)).save(tmp_path / "source" / f"{i}.jpg")
    monkeypatch.setattr(loader, "SIDE", 16)
    monkeypatch.setattr(loader, "SHARDS", {"as_is": [], "jpeg": ["--short_side=40"], "raw": ["--short_side=40"]})
    return lay_out(str(tmp_path / "source"), tmp_path / "laid out", COUNT, BATCH)


def test_every_contender_reads_every_image(job):
    for name, begin in contenders(job, num_workers=0).items():
        for _ in range(2):
            assert sum(len(batch[1]) for batch in begin()) == COUNT, name


def test_turns_table_and_plot(job, tmp_path, capsys, monkeypatch):
    found = contenders(job, num_workers=0)
    assert set(OURS) <= set(found) <= {*OURS, *PEERS} and "PeleeNet-paddle's" in found
    results = measure(found, 0, SimpleNamespace(num_rounds=2))
    assert [result.contender for result in results] == list(found)
    assert all(0 < result.lowest <= result.images_per_second <= result.highest for result in results)
    print_table(results, 0)
    assert "PeleeNet-paddle's" in capsys.readouterr().out
    plot(results, tmp_path / "loader.png")
    assert (tmp_path / "loader.png").stat().st_size > 1000
