"""The memory of both processes: what a trace leaves behind, mapped files, and what is said if it is not enough."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alignment import memory
from alignment.case import read_case
from alignment.exchange import ALIGNMENT, WHOLE_GRADIENTS, packed, read_arrays, sketch, write_arrays
from alignment.paddle_side.port import Port
from alignment.reference import Reference
from alignment.runner import run_stages
from alignment.session import Session
from common.errors import OutOfMemoryError

ROOT = Path(__file__).parents[2]
RECORDER_AFTER_A_TRACE = """
import gc, sys, weakref
from {module} import {recorder}, {record}
from alignment.exchange import DropoutMasks
{lines}
found, original = [], {recorder}.__init__
def noted(self, *arguments):
    original(self, *arguments)
    found.append(weakref.ref(self))
{recorder}.__init__ = noted
def run():
    {call}
run()
gc.collect()
assert len(found) == 1 and found[0]() is None, gc.get_referrers(found[0]())
"""
TORCH = RECORDER_AFTER_A_TRACE.format(
    module="alignment.torch_side.recorder", recorder="TorchRecorder", record="record",
    lines="import torch; from torch.nn import *",
    call="net = Sequential(Conv2d(3, 4, 3), BatchNorm2d(4), ReLU(), Flatten(), Linear(144, 3)); "
    "record(net, torch.ones(2, 3, 8, 8), torch.sum, DropoutMasks(0), dict)",
)  # fmt: skip
PADDLE = RECORDER_AFTER_A_TRACE.format(
    module="alignment.paddle_side.recorder", recorder="PaddleRecorder", record="record_trace",
    lines="import numpy, paddle; from paddle.nn import *",
    call="net = Sequential(Conv2D(3, 4, 3), BatchNorm2D(4), ReLU(), Flatten(), Linear(144, 3)); "
    "record_trace(net, numpy.ones((2, 3, 8, 8), 'float32'), paddle.sum, DropoutMasks(0), is_training=True)",
)  # fmt: skip


@pytest.mark.parametrize(
    "code", [pytest.param(TORCH, marks=pytest.mark.torch, id="torch"), pytest.param(PADDLE, id="paddle")]
)
def test_a_trace_with_a_backward_leaves_nothing_behind(code):
    """Hooks of tensors that the recorder keeps held it for ever: each trace of ResNet-50 cost gigabytes."""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


def test_a_process_collects_when_it_holds_much_and_more_than_before(monkeypatch):
    """The most that it ever held never falls, and the processes that it starts inherit it."""
    calls = []
    monkeypatch.setattr(memory.gc, "collect", lambda: calls.append("collected"))
    monkeypatch.setattr(memory, "LARGE", memory._held_kilobytes() + 200_000)
    monkeypatch.setattr(memory, "_left", 0)
    memory.free_recorded_models()
    assert calls == []
    array = np.ones(300_000_000, np.uint8)
    memory.free_recorded_models()
    assert calls == ["collected"]
    memory.free_recorded_models()  # a suite or service that holds much does not collect after each model
    assert calls == ["collected"]
    more = np.ones(300_000_000, np.uint8)
    memory.free_recorded_models()
    assert calls == ["collected"] * 2
    del array, more
    memory.free_recorded_models()
    assert calls == ["collected"] * 2


def test_arrays_that_are_read_stay_in_the_file_and_do_not_change_it(tmp_path):
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    arrays = {
        "weight": rng.normal(size=(3, 5)), "turned": np.asfortranarray(rng.normal(size=(4, 7))),
        "number": np.array(2.5), "none": np.zeros((0, 3)), "labels": np.arange(5), "flags": np.array([True, False]),
        "größe/ä": np.float32([1, 2]),
    }  # fmt: skip
    write_arrays(path, arrays)
    found = read_arrays(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name
        assert array.size == 0 or not found[name].flags.owndata, name
        assert array.size == 0 or found[name].ctypes.data % ALIGNMENT == 0, name
    found["weight"][0, 0] = 7
    assert read_arrays(path)["weight"][0, 0] == arrays["weight"][0, 0]
    write_arrays(path, {"weight": np.zeros(1)})
    assert found["turned"][3, 6] == arrays["turned"][3, 6]
    path.unlink()
    assert found["labels"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy_are_read_and_numpy_reads_ours(tmp_path, save):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.int64([1])}
    save(tmp_path / "a.npz", **arrays)
    found = read_arrays(tmp_path / "a.npz")
    assert all(np.array_equal(found[name], array) for name, array in arrays.items()) and len(found) == 2
    write_arrays(tmp_path / "b.npz", arrays)
    with np.load(tmp_path / "b.npz") as again:
        assert all(np.array_equal(again[name], array) for name, array in arrays.items())


def test_a_large_gradient_becomes_a_sketch():
    small, large = np.ones(WHOLE_GRADIENTS), np.ones(WHOLE_GRADIENTS + 1)
    assert packed(small) is small and np.array_equal(packed(large), sketch(large))


@pytest.mark.torch
def test_files_of_questions_are_deleted():
    case = read_case("ladder")
    with Reference() as reference:
        session = Session(case, reference)
        folder = reference.put({}).path.parent
        session.weights_file  # noqa: B018 (writes the weights)
        before = len(list(folder.glob("*.npz")))
        request = session.evaluation_request(session.images(case.shape))
        session.traces(request.with_inputs(request.images, session.reference_weights))
        assert len(list(folder.glob("*.npz"))) == before


def test_a_reference_that_the_kernel_ends_had_too_little_memory(stub_python):
    code = "import os, signal; held = bytearray(300_000_000); os.kill(os.getpid(), signal.SIGKILL)"
    words = r"memory was probably not enough: it held ([\d.]+) GB, and the process of the port [\d.]+ GB; .*--shape 1,3"
    with Reference(stub_python(code)) as reference, pytest.raises(OutOfMemoryError, match=words) as caught:
        reference.ask("versions")
    assert caught.value.exit_code == 7 and float(re.search(words, str(caught.value))[1]) >= 0.3


def test_a_reference_that_gets_no_memory_says_so(stub_python):
    answer = {"error": "RuntimeError: DefaultCPUAllocator: can't allocate memory: 8 bytes", "kind": "RuntimeError"}
    stub = stub_python(f"for line in sys.stdin: print(json.dumps({answer}), flush=True)")
    with Reference(stub) as reference, pytest.raises(OutOfMemoryError, match=r"reference failed.*--shape"):
        reference.ask("versions")


@pytest.mark.torch
@pytest.mark.skipif(sys.platform != "linux", reason="other systems choose in other ways")
def test_linux_ends_the_reference_before_the_port():
    with Reference() as reference:
        reference.ask("versions")
        assert Path(f"/proc/{reference._process.pid}/oom_score_adj").read_text().strip() == "1000"


@pytest.mark.torch
def test_a_port_that_gets_no_memory_is_no_difference(reference):
    def build():
        raise MemoryError("Unable to allocate 8 GiB")

    with pytest.raises(OutOfMemoryError, match=r"ladder, stage weights: MemoryError: Unable .*--shape"):
        run_stages(read_case("ladder"), ("weights",), reference, port=Port(build))
