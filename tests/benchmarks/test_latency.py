"""The latency benchmark rotates the engines, keeps the results, and shows them in a table and a plot."""

import json

import numpy as np
import pytest

from benchmarks.latency import BF16, CONTENDERS, SIDE, measure, openvino_alone, plot, print_table, start_engine
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


class Varying(Fake):
    """An engine process whose rounds take what `milliseconds` says, one after the other."""

    def __init__(self, milliseconds):
        super().__init__("", [], iter(milliseconds))

    def measure_round(self, batch_size):
        return [batch_size * next(self.milliseconds)]


def test_a_ratio_is_of_one_round_to_the_faster_peer_and_of_bf16_to_fp32(capsys):
    engines = {
        "onnxruntime": Varying([9, 2, 20, 2]),  # the first is not counted; the third round was disturbed
        "OpenVINO alone": Varying([9, 3, 30, 3]),
        "openvino": Varying([9, 1, 12, 1.2]),
        BF16: Varying([9, 0.5, 3, 0.3]),
    }
    results = {result.contender: result for result in measure("m", engines, batch_size=2, num_threads=1, num_rounds=3)}
    ours, bf16 = results["openvino"], results[BF16]
    assert ours.reference == "onnxruntime" and results["onnxruntime"].ratio == 1
    assert (ours.quarter_ratio, ours.ratio, ours.three_quarter_ratio) == pytest.approx((0.55, 0.6, 0.6))
    assert bf16.reference == "openvino" and bf16.ratio == pytest.approx(0.25)
    print_table(list(results.values()))
    assert "0.60 (0.55..0.60) of onnxruntime" in capsys.readouterr().out
    [alone] = measure("m", {"paddle": Fake("paddle", [], (1.0,))}, 1, 1, 1)
    assert alone.reference is None and alone.ratio is None
    print_table([alone])


@pytest.mark.deploy
def test_openvino_alone_gives_the_numbers_of_our_engine(exported_peleenet):
    from deploy.predictor import open_predictor

    images = np.random.default_rng(0).standard_normal((2, 3, SIDE, SIDE), np.float32)
    expected = open_predictor(exported_peleenet, engine="openvino").logits(images)
    logits = openvino_alone(exported_peleenet / "model.onnx", 1)(images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


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


@pytest.fixture(scope="module")
def exported_peleenet(tmp_path_factory):
    """A small PeleeNet, exported for Paddle and as ONNX."""
    tmp_path = tmp_path_factory.mktemp("exported")
    from export_model import program_writer
    from models import create_model

    model = create_model("peleenet", block_config=[1, 1, 1, 1], num_classes=4)
    model.eval()
    card = Card("peleenet", "PeleeNet", 4, Preprocess(input_size=SIDE), class_names=None)
    eager, images = Predictor(EagerEngine(model), card), parity_images()
    writer = program_writer(model, SIDE)
    export_folder(tmp_path, ("paddle", "onnx"), card, writer, images, eager.logits(eager.preprocess(images)))
    return tmp_path


@pytest.mark.deploy
def test_an_engine_process_runs_a_real_engine_and_is_stopped_between_measurements(exported_peleenet):
    with start_engine("onnxruntime", exported_peleenet, 1) as process:
        assert len(process.measure_round(2)) == 3 and all(milliseconds > 0 for milliseconds in process.measure_round(1))
        with open(f"/proc/{process.process.pid}/stat") as file:
            assert file.read().split()[2] == "T"
    assert not process.process.is_alive()
