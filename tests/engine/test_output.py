"""Exported programs, plots, and the choice of a device."""

import builtins
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from common.errors import MissingDependencyError, ProjectError
from engine.distributed import choose_device, synchronize_batch_norm
from engine.export import export_program
from engine.progress.plots import plot_curves, plot_predictions
from tests.engine.tiny import images_and_labels, tiny_net

ROOT = Path(__file__).parents[2]


def test_an_exported_program_gives_the_same_logits(tmp_path):
    model = tiny_net()
    for old in ("model.pdmodel", "model.pdiparams.info"):
        (tmp_path / old).write_text("of an earlier export")
    files = export_program(model, 8, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(files) == [tmp_path / "model.json", tmp_path / "model.pdiparams"]
    assert model.training
    images = paddle.to_tensor(images_and_labels(5)[0])
    program = paddle.jit.load(str(tmp_path / "model"))
    program.eval()
    model.eval()
    np.testing.assert_allclose(program(images).numpy(), model(images).numpy(), atol=1e-6)
    model.train()
    model(images).sum().backward()  # the model can still be trained
    assert model[0].weight.grad is not None


class Branching(paddle.nn.Layer):
    """Doubles its values where their sum is positive."""

    def __init__(self):
        super().__init__()
        self.scale = self.create_parameter([1])

    def forward(self, values):
        if values.sum() > 0:
            values = values * 2
        return values.mean([2, 3]) * self.scale


def test_a_branch_on_values_is_a_branch_of_the_program(tmp_path):
    model = Branching()
    for _ in range(2):  # the first export leaves nothing in the way of the second
        export_program(model, 8, tmp_path)
        program = paddle.jit.load(str(tmp_path / "model"))
        for images in (paddle.ones([1, 3, 8, 8]), -paddle.ones([1, 3, 8, 8])):
            np.testing.assert_allclose(program(images).numpy(), model(images).numpy())


def test_ctrl_c_is_delayed_until_the_program_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(paddle.jit, "save", lambda *_, **__: signal.raise_signal(signal.SIGINT) or written.append(1))
    written, handler = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        export_program(tiny_net(), 8, tmp_path)
    assert written and signal.getsignal(signal.SIGINT) is handler


def test_the_older_format_by_a_flag(tmp_path):
    code = "from tests.engine.tiny import tiny_net; from engine.export import export_program; import sys; \
            print([path.name for path in export_program(tiny_net(), 8, sys.argv[1], 'inference')])"
    environment = {"FLAGS_enable_pir_api": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    names = ["inference.pdmodel", "inference.pdiparams", "inference.pdiparams.info"]
    assert done.stdout.strip() == str(names), done.stderr


def test_plots(tmp_path):
    log = tmp_path / "log.txt"
    epochs = [{"epoch": e, "train_loss": 2 / (e + 1), "test_loss": 1, "test_acc1": 10 * e} for e in range(3)]
    log.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    curves = plot_curves(log, tmp_path / "curves.png")
    images = [Image.new("RGB", (20, 10), (i, 0, 0)) for i in range(7)]
    sheet = plot_predictions(images, ["a cat"] * 7, tmp_path / "sheet.png", is_correct=[True] * 7, columns=3)
    for file in (curves, sheet):
        with Image.open(file) as image:
            assert len(np.unique(np.asarray(image))) > 10  # not blank


@pytest.mark.parametrize(("top5", "is_drawn"), [((100, 100), False), ((99, 100), True)])
def test_top_5_is_no_curve_where_there_are_no_more_classes(tmp_path, monkeypatch, top5, is_drawn):
    """A line at 100 % says nothing, and presses the other one into half of the panel."""
    epochs = [{"epoch": e, "test_acc1": 50, "test_acc5": value} for e, value in enumerate(top5)]
    (tmp_path / "log.txt").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    from matplotlib.axes import Axes

    drawn, real = [], Axes.plot

    def plot(axes, *points, label, **style):
        drawn.append(label)
        return real(axes, *points, label=label, **style)

    monkeypatch.setattr(Axes, "plot", plot)
    plot_curves(tmp_path / "log.txt", tmp_path / "curves.png")
    assert drawn == ["top 1"] + ["top 5"] * is_drawn


def test_an_empty_log_is_no_plot(tmp_path):
    (tmp_path / "log.txt").write_text("")
    with pytest.raises(ProjectError, match=r"log\.txt holds no epoch"):
        plot_curves(tmp_path / "log.txt", tmp_path / "curves.png")


def test_a_missing_package_names_its_command(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_matplotlib(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(MissingDependencyError, match="pip install matplotlib") as caught:
        plot_curves(tmp_path / "log.txt", tmp_path / "curves.png")
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    ("name", "message"),
    [("gpu", "CPU build; use --device cpu"), ("gpu:1", "requirements-gpu")],
)
def test_devices_that_do_not_exist(name, message):
    if paddle.is_compiled_with_cuda():
        pytest.skip("this Paddle has GPUs")
    with pytest.raises(MissingDependencyError, match=message) as caught:
        choose_device(name)
    assert caught.value.exit_code == 7
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(MissingDependencyError, match="--sync_bn needs GPUs"):
        synchronize_batch_norm(tiny_net())


@pytest.fixture
def paddle_with_gpus(monkeypatch):
    """Simulate a GPU build of Paddle; the function that is returned sets the number of GPUs."""

    def build(num_gpus):
        chosen = []
        monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
        monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: num_gpus)
        monkeypatch.setattr(paddle, "set_device", chosen.append)
        monkeypatch.setattr(paddle, "get_device", lambda: {"gpu": "gpu:0"}.get(chosen[-1], chosen[-1]))

    return build


@pytest.mark.parametrize(
    ("num_gpus", "name", "device"),
    [
        (1, "gpu:0", "gpu:0"),
        (2, "gpu:0", "gpu:0"),
        (2, "gpu:1", "gpu:1"),
        (12, "gpu:11", "gpu:11"),
        (2, "gpu", "gpu:0"),
        (2, "auto", "gpu:0"),
        (0, "auto", "cpu"),
        (2, "cpu", "cpu"),
        (0, "cpu", "cpu"),
    ],
)
def test_devices_of_a_gpu_build(paddle_with_gpus, num_gpus, name, device):
    paddle_with_gpus(num_gpus)
    assert choose_device(name) == device


@pytest.mark.parametrize(
    ("num_gpus", "name"), [(0, "gpu"), (0, "gpu:0"), (1, "gpu:1"), (2, "gpu:2"), (2, "gpu:9"), (11, "gpu:11")]
)
def test_a_gpu_that_a_gpu_build_does_not_see(paddle_with_gpus, num_gpus, name):
    paddle_with_gpus(num_gpus)
    with pytest.raises(MissingDependencyError, match=rf"--device {name}: Paddle sees {num_gpus} GPUs") as caught:
        choose_device(name)
    assert caught.value.exit_code == 7
