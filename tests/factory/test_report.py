"""What of a report depends on the rank and on the preprocessing."""

from types import SimpleNamespace

import pytest
from PIL import Image

from configs.schema import LoaderConfig
from datasets.reading.image_list import ImageList
from engine import evaluate, metrics
from engine.report import results
from factory import report


class ReportBegins(Exception):
    """Ends an evaluation where its report would begin."""


@pytest.mark.parametrize("rank", [0, 1])
def test_only_rank_0_makes_a_report(monkeypatch, rank):
    def begin(*_):
        raise ReportBegins

    places = {
        report: ("model_to_evaluate", "eval_loader", "log_accuracy"),
        evaluate: ("evaluate_samples", "log_scores"),
        metrics: ("score",),
    }
    for module, names in places.items():
        for name in names:
            monkeypatch.setattr(module, name, lambda *_, **__: None)
    monkeypatch.setattr(report, "_images_for_suspects", lambda *_: (None, ""))
    monkeypatch.setattr(results, "results_of", begin)
    config = SimpleNamespace(report=SimpleNamespace(tta="none"), loader=None, device=None)
    trained = SimpleNamespace(classes=SimpleNamespace(names=None))
    run = SimpleNamespace(ranks=SimpleNamespace(rank=rank))
    arguments = (config, trained, ImageList("", [b"a.jpg"], [0]), [], run)
    if rank:
        report.evaluate_and_report(*arguments)
    else:
        with pytest.raises(ReportBegins):
            report.evaluate_and_report(*arguments)


def test_a_training_image_that_cannot_be_read_does_not_end_the_report(monkeypatch):
    loaders = []
    monkeypatch.setattr(report, "eval_loader", lambda *arguments: loaders.append(arguments[2]))
    monkeypatch.setattr(evaluate, "evaluate_samples", lambda *_, **__: SimpleNamespace(logits=None))
    images = ImageList("", [b"a.jpg"] * 300, [0] * 300)
    config = SimpleNamespace(loader=LoaderConfig(), report=None)
    assert report._find_suspects(config, None, images, None, None) is None
    assert (loaders[0].on_bad_image, loaders[0].max_bad_images) == ("skip", 300)


@pytest.mark.parametrize(("orientation", "size"), [("apply", (50, 100)), ("ignore", (100, 50))])
def test_a_picture_of_the_report_is_rotated_as_the_model_sees_it(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (160, 80)).save(tmp_path / "a.jpg", exif=exif)
    pictures = report.ReportPictures(ImageList(tmp_path, [b"a.jpg"], [0]), orientation)
    assert pictures.thumbnail(0, 100).size == size
