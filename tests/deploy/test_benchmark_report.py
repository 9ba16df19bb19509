"""The benchmark report has the sections of AutoLog in their order and correct numbers."""

import sys
import types

import pytest

from deploy.benchmark_report import BenchmarkReport, Conditions, StageTimer, report_lines

CONDITIONS = Conditions(
    model_name="PeleeNet",
    engine="Paddle Inference on CPU",
    device="cpu",
    precision="fp32",
    batch_size=2,
    input_size=32,
    num_images=3,
    ir_optim=True,
    tensorrt=False,
    onednn=True,
    memory_optim=False,
    num_threads=1,
)


@pytest.fixture
def times():
    times = StageTimer()
    times.batches = [[0.001, 0.010, 0.0001], [0.003, 0.030, 0.0003]]
    return times


def test_sections_and_their_order(times):
    lines = report_lines(CONDITIONS, times)
    titles = [line.strip("- ") for line in lines if line.startswith("-----")]
    assert titles == ["Env info", "Paddle info", "Conf info", "Model info", "Data info", "Perf info"]
    assert lines[0] == "" and lines[1] == "---------------------- Env info ----------------------"
    keys = [line.split(":")[0].strip() for line in lines]
    expected = [
        "OS_version", "CUDA_version", "CUDNN_version", "drivier_version", "paddle_version", "paddle_commit",
        "log_api_version", "runtime_device", "ir_optim", "enable_memory_optim", "enable_tensorrt", "enable_mkldnn",
        "cpu_math_library_num_threads", "model_name", "precision", "batch_size", "input_shape", "data_num",
        "cpu_rss(MB)", "total time spent(s)",
    ]  # fmt: skip
    positions = [keys.index(key) for key in expected]
    assert positions == sorted(positions)


def test_numbers(times):
    lines = report_lines(CONDITIONS, times)
    assert " data_num: 2" in lines and " enable_mkldnn: True" in lines and " enable_memory_optim: False" in lines
    assert " total time spent(s): 0.0444" in lines
    assert " preprocess_time(ms): 2.0000, inference_time(ms): 20.0000, postprocess_time(ms): 0.2000" in lines
    assert " inference_time(ms) p50: 20.0000, p90: 28.0000, p99: 29.8000, per image: 13.3333" in lines
    assert lines[-1] == " throughput(images/s): 67.5676"


def test_a_stage_lasts_since_the_stamp_before(monkeypatch):
    """The time between two batches belongs to no stage."""
    clock = iter([100.0, 101.0, 103.0, 107.0, 200.0, 200.5, 200.75, 200.875])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    times = StageTimer()
    for _ in range(2):
        times.start()
        times.stamp()
        times.stamp()
        times.end(stamp=True)
    assert times.batches == [[1.0, 2.0, 4.0], [0.5, 0.25, 0.125]]


def test_auto_log_prints_too_if_installed_and_does_not_end_the_process(times, monkeypatch, capsys):
    class AutoLogger:
        def __init__(self, **arguments):
            self.arguments, self.times = arguments, StageTimer()

        def report(self):
            print("AutoLog's own report of", self.arguments["model_name"], self.arguments["time_keys"])
            sys.exit(0)

    monkeypatch.setitem(sys.modules, "auto_log", types.SimpleNamespace(AutoLogger=AutoLogger))
    report = BenchmarkReport(CONDITIONS, save_path="log.txt")
    assert len(report.timers) == 2
    for clock in report.timers:
        clock.start()
        clock.stamp()
        clock.stamp()
        clock.end(stamp=True)
    report.print()
    out = capsys.readouterr().out
    assert "AutoLog's own report of PeleeNet ['preprocess_time', 'inference_time', 'postprocess_time']" in out
    assert "root INFO:  throughput(images/s): " in out
