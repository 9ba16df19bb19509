"""The step benchmark: contenders in rotation, ratios within a round, kinds of layers, and real contenders at work."""

import json

import numpy as np
import pytest

from benchmarks import step
from benchmarks.layer_kinds import OTHER, OUTSIDE, kind_of, sum_by_kind
from benchmarks.rotation import rotated, start_contender
from benchmarks.step_contenders import BARE, CONTENDERS, FROM_FILES, OURS, PYTORCH, Job, Round
from common.errors import ProjectError

JOB = Job("mobilenet_v3_small", 32, 2, 1, "")


def rounds_of(*seconds: float) -> list[Round]:
    return [Round(one, one / 4, 100.0) for one in seconds]


def test_ratios_are_of_the_same_round():
    rounds = {OURS: rounds_of(1.0, 4.0, 2.0), BARE: rounds_of(1.0, 2.0, 2.0), FROM_FILES: rounds_of(3.0, 4.0, 2.0)}
    ratios = {(ratio.of, ratio.to): ratio.median for ratio in step.compare(JOB, rounds)}
    assert ratios == {(OURS, BARE): 1.0, (FROM_FILES, OURS): 1.0}  # of 1, 2, 1 and of 3, 1, 1
    [ours, *_] = step.summarize(JOB, rounds, num_steps=5)
    assert ours.median_ms == 2.0 * 1000 / (5 * 2) and ours.waiting_percent == 25 and ours.peak_mb == 100


def test_the_order_rotates():
    assert [rotated(["a", "b", "c"], number)[0] for number in (-1, 0, 1, 2, 3)] == ["c", "a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [("conv2d", "convolution"), ("depthwise_conv2d_grad", "convolution"), ("batch_norm_grad", "batch norm"),
     ("relu_grad", "activation"), ("pool2d", "pooling"), ("max_pool2d_with_index", "pooling"),
     ("concat_grad", "concatenation"), ("matmul_grad", "matrix product"), ("momentum", "optimizer"),
     ("softmax", OTHER)],
)  # fmt: skip
def test_kinds_of_kernels(kernel, kind):
    assert kind_of(kernel) == kind


def test_kernels_are_summed_up_and_the_rest_is_outside():
    events = [
        {"name": "conv2d kernel launch[3.000 ms]", "dur": 3000.0},
        {"name": "conv2d_grad kernel launch[4.000 ms]", "dur": 4000.0},
        {"name": "conv2d dygraph[9.000 ms]", "dur": 9000.0},
        {"name": "relu kernel launch[1.000 ms]", "dur": 1000.0},
        {"ph": "M"},
    ]
    assert sum_by_kind(events, 10.0) == {"convolution": 7.0, OUTSIDE: 2.0, "activation": 1.0}


def fail(pipe):
    raise SystemExit(3)


def test_a_contender_that_ends_is_named(capfd):
    with pytest.raises(ProjectError, match="the process of it ended"), start_contender("it", fail):
        pass


@pytest.mark.parametrize("name", [OURS, BARE, pytest.param(PYTORCH, marks=[pytest.mark.torch, pytest.mark.slow])])
def test_a_contender_trains(name):
    steps = CONTENDERS[name](JOB)
    assert steps(2) == 0.0 and steps(1) == 0.0


def test_the_contender_on_files_counts_its_waiting(tmp_path):
    step.draw_pictures(tmp_path / "train", 8)
    steps = CONTENDERS[FROM_FILES](JOB._replace(folder=str(tmp_path)))
    assert steps(2) > 0.0


def test_the_program_prints_and_records(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step, "NUM_PICTURES", 8)
    monkeypatch.setattr(step, "measure", lambda *arguments: {OURS: rounds_of(1, 2), BARE: rounds_of(1, 1)})
    monkeypatch.setattr(
        step,
        "measure_layer_kinds",
        lambda job: step.LayerKinds(job.model, job.side, job.num_threads, 10.0, {"pooling": 9.0}),
    )
    file = tmp_path / "results.jsonl"
    step.main(["--models=peleenet", "--sides=64", "--num_threads=1", f"--results={file}"])
    out = capsys.readouterr().out
    assert "peleenet, 64 pixels, batch 16, 1 thread" in out and "ours / bare Paddle: 1.500" in out
    assert "pooling 90 %" in out
    line = json.loads(file.read_text())
    assert line["benchmark"] == "step" and len(line["results"]) == 2
    assert np.isclose(line["ratios"][0]["median"], 1.5) and line["layer_kinds"][0]["side"] == 64
