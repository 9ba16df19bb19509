"""A trace has one form for both frameworks and is the same after the way to the other process."""

import subprocess
import sys
from pathlib import Path

import numpy as np

import alignment.trace
from alignment.exchange import DropoutMasks, read_arrays, write_arrays
from alignment.trace import SETTINGS, Trace, plain_value

PACKAGE = Path(alignment.trace.__file__).parent


def test_a_trace_survives_the_way_to_the_other_process(tmp_path):
    rng = np.random.default_rng(0)
    trace = Trace(
        nodes=[{"path": "a.b", "outputs": ["v1"]}], arrays={"v0": rng.normal(size=3), "v1": rng.normal(size=2)},
        logits="v1", loss=0.5, gradients={"v1": rng.normal(size=2)}, parameter_gradients={"a.b.weight": np.ones(4)},
        image_gradient=rng.normal(size=3), isolated_gradients={0: {"in0": np.ones(3), "inner.weight": np.ones(4)}},
    )  # fmt: skip
    answer, arrays = trace.as_message()
    write_arrays(tmp_path / "trace.npz", arrays)
    back = Trace.of_message(answer, read_arrays(tmp_path / "trace.npz"))
    assert repr(back) == repr(trace)


def test_a_trace_without_a_loss_has_no_gradients():
    answer, arrays = Trace(arrays={"v0": np.ones(2)}, logits="v0").as_message()
    assert "loss" not in answer and set(arrays) == {"v0"}
    assert Trace.of_message(answer, arrays).image_gradient is None


def test_lists_of_equal_values_are_one_value():
    assert [plain_value(value) for value in ([1, 1], (2, 3), [[0, 0], [0, 0]], None, 1.5, "same")] == [
        1, [2, 3], 0, None, 1.5, "same"
    ]  # fmt: skip
    assert plain_value(np.float32) == str(np.float32)


def test_the_recorder_of_paddle_writes_settings_by_the_shared_words():
    from paddle import nn

    from alignment.paddle_side.recorder import record_trace, settings_of

    layers = {
        "conv2d": nn.Conv2D(3, 4, 3, stride=2, padding=1), "batchnorm2d": nn.BatchNorm2D(4),
        "layernorm": nn.LayerNorm(4), "avgpool2d": nn.AvgPool2D(3, 2, 1), "maxpool2d": nn.MaxPool2D(2),
        "adaptiveavgpool2d": nn.AdaptiveAvgPool2D(1), "dropout": nn.Dropout(0.5), "leakyrelu": nn.LeakyReLU(0.1),
        "gelu": nn.GELU(), "upsample": nn.Upsample(scale_factor=2),
    }  # fmt: skip
    assert layers.keys() == SETTINGS.keys()
    for kind, words in SETTINGS.items():
        assert words.keys() <= settings_of(layers[kind]).keys(), kind
    assert settings_of(layers["batchnorm2d"])["new_batch_share"] == 0.1
    model = nn.Sequential(layers["conv2d"], nn.ReLU())
    trace = record_trace(model, np.ones((1, 3, 4, 4), np.float32), None, DropoutMasks(0), is_training=False)
    assert [(n["path"], n["inputs"], n["outputs"]) for n in trace.nodes] == [
        ("0", ["v0"], ["v1"]),
        ("1", ["v1"], ["v2"]),
    ]
    assert trace.logits == "v2" and trace.nodes[0]["settings"]["stride"] == 2


def test_a_class_of_the_user_with_a_known_name_may_lack_the_settings():
    from paddle import nn

    from alignment.paddle_side.recorder import settings_of

    class Upsample(nn.Layer):
        mode = "nearest"

    assert settings_of(Upsample()) == {"mode": "nearest"}


def test_files_of_both_processes_import_nothing_else_of_the_project():
    """A reference repository may have modules of the same names, so none may be imported before its own."""
    code = "import sys, alignment.trace, alignment.exchange; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert {"alignment", "numpy"} <= imported
    assert not imported & {"paddle", "torch", *(path.name for path in PACKAGE.parent.iterdir() if path.is_dir())} - {
        "alignment"
    }
