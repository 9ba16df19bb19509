"""Files of weights of every kind are converted both ways, wrong ones are named, and none can run code."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from alignment.case import read_case
from alignment.cli import main as align
from alignment.compat.padiff import assign_weight, auto_diff
from alignment.paddle_side.port import Port, build, state_arrays
from alignment.session import Session
from alignment.user_code import load_callable
from alignment.weights import convert, load_torch_weights, main, read_for_port
from common.errors import CaseError, CheckpointError, DiskError, UsageError, WeightsError
from engine.safetensors_io import encode
from engine.weights import load_weights


def test_fine_tuned_weights_are_converted_with_their_number_of_classes(tmp_path):
    from models import create_model

    case, path = read_case("mobilenet_v3_small"), tmp_path / "three.safetensors"
    state = state_arrays(create_model(case.name, num_classes=3))
    path.write_bytes(b"".join(encode(state, {})))
    found = read_for_port(path, case, any_classes=True)
    assert found.layout == "paddle" and found.arrays["classifier.3.weight"].shape == (1024, 3)
    path.write_bytes(b"".join(encode(state | {"classifier.0.bias": np.zeros(5, np.float32)}, {})))
    with pytest.raises(WeightsError, match=r"\(layout paddle\):\n  wrong shape: classifier.0.bias is \[5\]"):
        read_for_port(path, case, any_classes=True)


def test_a_target_without_a_known_extension_needs_a_format(tmp_path):
    with pytest.raises(WeightsError, match="the extension names no format; add --to"):
        main(["convert", "a.pth", str(tmp_path / "weights.bin"), "--case", "ladder"])


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("ran_code",)


@pytest.mark.torch
def test_no_file_of_weights_runs_code(tmp_path, monkeypatch, reference):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": RunsCode()}, "new.pth")
    torch.save({"state_dict": RunsCode()}, "old.pth.tar", _use_new_zipfile_serialization=False)
    Path("paddle.pdparams").write_bytes(pickle.dumps({"a": RunsCode()}, protocol=4))
    for name in ("new.pth", "old.pth.tar", "paddle.pdparams"):
        with pytest.raises(CheckpointError, match=f"{name}.*(refused|no table of tensors)"):
            convert(Path(name), Path("out.pdparams"), read_case("ladder"), "paddle", reference, None)
    assert not Path("ran_code").exists() and not Path("out.pdparams").exists()


@pytest.mark.torch
def test_files_are_converted_both_ways_and_wrong_ones_are_named(tmp_path, reference, capsys):
    case = read_case("ladder")
    state = state_arrays(Port.of_case(case).build())
    source = case.rules("torch").from_port(state)
    wrapped = reference.put({f"module.{name}": array for name, array in source.items()})
    reference.do("save_file", inputs=wrapped, path=str(tmp_path / "a.pth"))
    files = [str(tmp_path / "a.pth"), str(tmp_path / "b.pdparams")]
    assert main(["convert", *files, "--case", "ladder", "--python", "/none"]) == 0  # reading needs no PyTorch
    assert "case ladder: 23 entries read (layout torch), 21 of the port, 2 counters dropped" in capsys.readouterr().out
    convert(tmp_path / "b.pdparams", tmp_path / "c.pth", case, "torch", reference, None)
    convert(tmp_path / "c.pth", tmp_path / "d.safetensors", case, "safetensors", reference, None)
    with pytest.raises(DiskError, match="cannot write"):
        convert(tmp_path / "c.pth", tmp_path / "c.pth" / "x.safetensors", case, "safetensors", reference, None)
    arrays, used = load_torch_weights(tmp_path / "c.pth", "ladder")
    assert used == "ladder" and all(arrays[name].tobytes() == state[name].tobytes() for name in state)
    found = read_for_port(tmp_path / "d.safetensors", case)
    assert found.layout == "paddle" and all(found.arrays[name].tobytes() == state[name].tobytes() for name in state)
    wrong = {**source, "extra.weight": np.zeros(2, np.float32), "conv1.bias": np.zeros(9, np.float32)}
    del wrong["norm1.weight"]
    reference.do("save_file", inputs=reference.put(wrong), path=str(tmp_path / "wrong.pth"))
    with pytest.raises(WeightsError) as caught:
        read_for_port(tmp_path / "wrong.pth", case)
    for text in ("missing: norm1.weight [8]", "extra: extra.weight [2]", "wrong shape: conv1.bias is [9]"):
        assert text in str(caught.value)
    assert not list(tmp_path.glob(".*.tmp"))


NET = """
import {package}
from {package} import nn

class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.{names[0]}, self.{names[1]} = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.{names[1]}({package}.tanh(self.{names[0]}(x)))
"""


@pytest.fixture
def net(tmp_path, reference) -> Path:
    """A case without rules, whose port has other names, and a file of each side with the same weights."""
    sides = (("port", "paddle", "Layer", ("a", "b")), ("ref", "torch", "Module", ("first", "second")))
    for file, package, base, names in sides:
        (tmp_path / f"{file}.py").write_text(NET.format(package=package, base=base, names=names))
    (tmp_path / "net.yaml").write_text("port: port.py:Net\nreference: ref.py:Net\nshape: [4, 8]\n")
    rng = np.random.default_rng(0)
    shapes = {"first.weight": (8, 8), "first.bias": (8,), "second.weight": (3, 8), "second.bias": (3,)}
    arrays = {f"module.{name}": rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    reference.do("save_file", inputs=reference.put(arrays), path=str(tmp_path / "net.pth"))
    names = {"module.first": "a", "module.second": "b"}
    port = {name.replace(*next(item for item in names.items() if item[0] in name)): array.T
            for name, array in arrays.items()}  # fmt: skip
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps(port, protocol=4))
    return tmp_path


@pytest.mark.torch
@pytest.mark.parametrize("name", ["net.pth", "net.pdparams"])
def test_a_file_of_either_side_needs_no_rules(name, net, reference):
    case = read_case(str(net / "net.yaml"))
    session = Session(case, reference, weights=net / name)
    expected = {key: value.numpy() for key, value in torch_state(net / "net.pth").items()}
    assert session.reference_weights.keys() == expected.keys()
    assert all(np.array_equal(session.reference_weights[key], expected[key]) for key in expected)
    assert align(["forward", str(net / "net.yaml"), "--weights", str(net / name)]) == 0


@pytest.mark.torch
def test_a_file_of_another_network_is_refused_by_a_case_without_rules(net, reference):
    reference.do("save_file", inputs=reference.put({"x": np.zeros(3)}), path=str(net / "x.pth"))
    for path, words in ((net / "x.pth", "does not fit net"), (net / "none.pth", "none.pth")):
        with pytest.raises((WeightsError, CheckpointError), match=words) as caught:
            align(["forward", str(net / "net.yaml"), "--weights", str(path)])
        assert caught.value.exit_code == 4


@pytest.mark.torch
def test_auto_diff_and_assign_weight_take_a_file(net, reference):
    make = load_callable(f"{net / 'port.py'}:Net")
    spec, images = f"{net / 'ref.py'}:Net", np.random.default_rng(1).normal(0, 1, (4, 8)).astype(np.float32)
    assert auto_diff(make, spec, images, weights=str(net / "net.pth"), process=reference)
    port = make()
    assert assign_weight(port, spec, images, weights=str(net / "net.pth"), process=reference)
    expected = torch_state(net / "net.pth")["first.weight"].numpy()
    assert np.array_equal(port.a.weight.numpy(), expected.T)


def torch_state(path: Path) -> dict:
    """The table of a file of torch without the prefix of its names."""
    import torch

    return {name.removeprefix("module."): value for name, value in torch.load(path).items()}


RECURRENT = """
from {package} import nn

class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 3, {both_directions})
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])
"""


@pytest.mark.torch
def test_a_case_without_rules_converts_what_it_aligns(tmp_path, reference):
    """The rules are found, and the names that Paddle's LSTM has twice are those of one tensor."""
    sides = (
        ("torch", "Module", "ref.py", "batch_first=True, bidirectional=True"),
        ("paddle", "Layer", "port.py", "direction='bidirect'"),
    )
    for package, base, name, both in sides:
        (tmp_path / name).write_text(RECURRENT.format(package=package, base=base, both_directions=both))
    (tmp_path / "case.yaml").write_text("port: port.py:Net\nreference: ref.py:Net\nshape: [2, 5, 4]\n")
    case = read_case(str(tmp_path / "case.yaml"))
    weights = Session(case, reference).reference_weights
    given, port, back = (tmp_path / name for name in ("given.pth", "port.pdparams", "back.pth"))
    reference.do("save_file", inputs=reference.put(weights), path=str(given))
    assert convert(given, port, case, "paddle", reference, None).num_read == len(weights) == 10
    convert(port, back, case, "torch", reference, None)
    found = load_weights(back).arrays
    assert found.keys() == weights.keys() and all(np.array_equal(found[name], weights[name]) for name in weights)
    with pytest.raises(UsageError, match="source and target are one file"):
        convert(port, port, case, "paddle", reference, None)


def test_a_file_without_the_name_of_a_class_is_said(tmp_path):
    (tmp_path / "ref.py").touch()
    (tmp_path / "case.yaml").write_text("port: port.py\nreference: ref.py:Net\n")
    with pytest.raises(CaseError, match=r"name the class or function in it, for example port\.py:Net"):
        build(read_case(str(tmp_path / "case.yaml")))
