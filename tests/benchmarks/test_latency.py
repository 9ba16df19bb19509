"""The latency benchmark rotates the engines, keeps the results, and shows them in a table and a plot."""

import json

import pytest

from benchmarks.latency import CONTENDERS, SIDE, measure, plot, print_table, start_engine
from benchmarks.record import record
from datasets.preprocess import Preprocess
from deploy.card import Card
from deploy.engines import EagerEngine
from deploy.export.export_folder import export_folder
from deploy.export.parity import parity_images
from deploy.predictor import Predictor


class Fake:
    """An engine process with fixed times; it notes the order of the measurements."""

    def __init__(self, name, order, milliseconds):
        self.name, self.order, self.milliseconds = name, order, milliseconds

    def measure_round(self, batch_size):
        self.order.append(self.name)
        return [batch_size * one for one in self.milliseconds]


def test_the_order_of_the_engines_and_the_statistics():
    order = []
    engines = {name: Fake(name, order, (1.0, 2.0, 6.0)) for name in ("paddle", "onnxruntime", "openvino")}
    paddle, *_ = measure("m", engines, batch_size=4, num_threads=1, num_rounds=3)
    assert order[3:] == "paddle onnxruntime openvino onnxruntime openvino paddle openvino paddle onnxruntime".split()
    assert (paddle.median_ms, paddle.num_batches) == (2.0, 9)
    assert paddle.quarter_ms <= paddle.median_ms <= paddle.three_quarter_ms


def test_a_program_of_batch_size_1_is_not_measured_on_larger_batches():
    engines = {name: Fake(name, [], (1.0,)) for name in CONTENDERS}
    assert len(measure("m", engines, 1, 1, 1)) == len(measure("m", engines, 8, 1, 1)) + 1 == len(CONTENDERS)


def test_table_plot_and_record(tmp_path, capsys):
    engines = {"paddle": Fake("paddle", [], (3.0,)), "onnxruntime": Fake("onnxruntime", [], (2.0,))}
    results = measure("m", engines, 1, 1, 2)
    print_table(results)
    table = capsys.readouterr().out
    assert table.index("onnxruntime") < table.index("paddle") and "x1.50" in table
    plot(results, tmp_path / "latency.png")
    assert (tmp_path / "latency.png").stat().st_size > 1000
    for number in (1, 2):
        record("latency", tmp_path / "results.jsonl", number=number)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [1, 2] and lines[0]["processor"]


@pytest.mark.deploy
def test_an_engine_process_runs_a_real_engine_and_is_stopped_between_measurements(tmp_path):
    from export_model import program_writer
    from models import create_model

    model = create_model("peleenet", block_config=[1, 1, 1, 1], num_classes=4)
    model.eval()
    card = Card("peleenet", "PeleeNet", 4, Preprocess(input_size=SIDE), class_names=None)
    eager, images = Predictor(EagerEngine(model), card), parity_images()
    writer = program_writer(model, SIDE)
    export_folder(tmp_path, ("paddle", "onnx"), card, writer, images, eager.logits(eager.preprocess(images)))
    with start_engine("onnxruntime", tmp_path, 1) as process:
        assert len(process.measure_round(2)) == 3 and all(milliseconds > 0 for milliseconds in process.measure_round(1))
        with open(f"/proc/{process.process.pid}/stat") as file:
            assert file.read().split()[2] == "T"
    assert not process.process.is_alive()
