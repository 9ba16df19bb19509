"""The loader benchmark on three images: every contender reads all of them, and results become a table and a plot."""

from types import SimpleNamespace

import pytest
from PIL import Image

from benchmarks import loader
from benchmarks.loader import OURS, contenders, measure, plot, print_table, write_sources
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
    return write_sources(str(tmp_path / "source"), tmp_path / "sources", COUNT, BATCH)


def test_every_contender_reads_every_image(job):
    for name, start_epoch in contenders(job, num_workers=0).items():
        for _ in range(2):
            assert sum(len(batch[1]) for batch in start_epoch()) == COUNT, name


def test_rounds_table_and_plot(job, tmp_path, capsys):
    epochs = contenders(job, num_workers=0)
    assert set(OURS) <= set(epochs) <= {*OURS, *PEERS} and "PeleeNet-paddle's" in epochs
    results = measure(epochs, 0, SimpleNamespace(num_rounds=2))
    assert [result.contender for result in results] == list(epochs)
    assert all(0 < result.lowest <= result.images_per_second <= result.highest for result in results)
    print_table(results, 0)
    assert "PeleeNet-paddle's" in capsys.readouterr().out
    plot(results, tmp_path / "loader.png")
    assert (tmp_path / "loader.png").stat().st_size > 1000
