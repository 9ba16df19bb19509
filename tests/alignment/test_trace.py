"""A trace has one form for both frameworks and is the same after the way to the other process."""

import subprocess
import sys
from pathlib import Path

import numpy as np

import alignment.trace
from alignment.exchange import DropoutMasks, read_arrays, write_arrays
from alignment.trace import Trace, constructor_places

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


def test_the_recorder_of_paddle_keeps_settings_and_places():
    from paddle import nn

    from alignment.paddle_side.recorder import is_framework_file, record_trace

    with constructor_places(nn.Layer, is_framework_file):
        model = nn.Sequential(nn.Conv2D(3, 4, 3, stride=2, padding=1), nn.ReLU())
    trace = record_trace(model, np.ones((1, 3, 4, 4), np.float32), None, DropoutMasks(0), is_training=False)
    assert [(n["path"], n["inputs"], n["outputs"]) for n in trace.nodes] == [
        ("0", ["v0"], ["v1"]),
        ("1", ["v1"], ["v2"]),
    ]
    assert trace.logits == "v2" and trace.nodes[0]["settings"]["stride"] == 2
    assert Path(trace.nodes[0]["built"].rpartition(":")[0]).name == "test_trace.py"


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
