"""Weights and layers are paired without rules: by names, by order of execution, and by values where order misleads."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from alignment.case import Case, Training, read_case
from alignment.mapping.entries import link, link_units
from alignment.mapping.init import main as init
from alignment.mapping.names import content_of_names
from alignment.mapping.patterns import fill, match, rename
from alignment.mapping.sequence import by_names, by_order
from alignment.mapping.units import IN_OUT, OUT_IN, Entry, Unit
from alignment.mapping.write import compressed, compressed_names
from alignment.rules import Reshape, Rules
from alignment.runner import run_stages
from alignment.session import Session
from common.errors import CaseError, WeightsError


def test_a_number_is_shifted_in_both_directions():
    pairs = [("layers.{*}.w", "blocks.{*+1}.w")]
    assert rename("layers.9.w", pairs) == "blocks.10.w"
    assert rename("blocks.10.w", [pairs[0][::-1]]) == "layers.9.w"
    assert match("blocks.{*+1}.w", "blocks.0.w") is None  # no layer has the number -1
    assert match("layers.{*}.w", "layers.a.w") is None
    assert fill("x.*.{*-1}", ("a.b", "3")) == "x.a.b.2"


def test_split_join_and_reshape_are_undone():
    rules = Rules(
        split={"*.qkv": ("*.q", "*.k", "*.v")},
        concat={"*.kv": ("*.key", "*.value")},
        reshape={"*.gamma": Reshape((-1, 1, 1), (-1,))},
        transpose=("*.q",),
    )
    rng = np.random.default_rng(0)
    source = {"a.qkv": rng.normal(size=(6, 3)), "a.key": rng.normal(size=2), "a.value": rng.normal(size=2),
              "a.gamma": rng.normal(size=(4, 1, 1)), "bias": rng.normal(size=1)}  # fmt: skip
    port = rules.to_port(source)
    assert {name: array.shape for name, array in port.items()} == {
        "a.q": (3, 2), "a.k": (2, 3), "a.v": (2, 3), "a.kv": (4,), "a.gamma": (4,), "bias": (1,)
    }  # fmt: skip
    assert np.array_equal(port["a.q"], source["a.qkv"][:2].T)
    back = rules.from_port(port)
    assert {name: array.tobytes() for name, array in back.items()} == {n: a.tobytes() for n, a in source.items()}
    assert rules.port_names("a.qkv") == ["a.q", "a.k", "a.v"] and rules.port_names("a.value") == ["a.kv"]
    assert Rules.of_message(yaml.safe_load(yaml.safe_dump(to_plain(rules.as_message())))) == rules
    with pytest.raises(WeightsError, match="no 3 equal parts"):
        rules.to_port({"a.qkv": np.zeros((5, 3))})
    with pytest.raises(WeightsError, match="not reshaped"):
        Rules(reshape={"w": Reshape((2,), (3,))}).to_port({"w": np.zeros(2)})


def to_plain(value):
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, list | tuple) else value


def linear(path: str, num_in: int, num_out: int, axes: str, kind: str = "linear") -> Unit:
    shape = (num_out, num_in) if axes == OUT_IN else (num_in, num_out)
    weight = Entry(f"{path}.weight", "weight", shape, axes=axes)
    return Unit(path, kind, [weight, Entry(f"{path}.bias", "bias", (num_out,))])


def test_linear_weights_are_transposed_by_the_kind_of_layer_and_not_by_shape():
    square = Entry("w", "weight", (4, 4), axes=OUT_IN), Entry("w", "weight", (4, 4), axes=IN_OUT)
    assert link(*square).is_transposed and not link(square[0], square[0]).is_transposed
    assert link(Entry("w", "w", (4, 3)), Entry("w", "w", (3, 4))) is None  # of no linear layer
    assert link_units(linear("a", 3, 4, OUT_IN), linear("b", 4, 3, IN_OUT)) is None


def test_a_joined_projection_is_paired_with_three():
    reference = [linear("qkv", 4, 12, OUT_IN), linear("proj", 4, 4, OUT_IN)]
    port = [linear(name, 4, 4, IN_OUT) for name in ("q", "k", "v", "out")]
    mapping = by_order(reference, port)
    assert [[unit.path for unit in pair.port] for pair in mapping.pairs] == [["q", "k", "v"], ["out"]]
    assert mapping.is_complete and all(one.is_transposed for pair in mapping.pairs for one in pair.links[:1])
    assert by_order(port[:3], [linear("qkv", 4, 12, IN_OUT)]).pairs == []  # rules join rows, and these are columns


def test_names_come_before_order_and_a_rest_is_reported():
    reference = [linear("a", 4, 4, OUT_IN), linear("b", 4, 4, OUT_IN)]
    port = [linear("b", 4, 4, IN_OUT), linear("a", 4, 4, IN_OUT)]
    assert [(pair.reference[0].path, pair.port[0].path) for pair in by_names(reference, port).pairs] == [
        ("a", "a"), ("b", "b")
    ]  # fmt: skip
    rest = by_order(reference, port[:1])
    assert len(rest.pairs) == 1 and len(rest.only_reference) == 1 and not rest.is_complete


def test_the_written_patterns_change_every_name_as_before():
    renames = {f"stage.{i}.{name}.*": f"3_{i + 1}._{name}.*" for i in range(4) for name in ("conv", "norm")}
    assert compressed(renames, [key.replace("*", "weight") for key in renames]) == {
        "stage.{*}.conv.*": "3_{*+1}._conv.*", "stage.{*}.norm.*": "3_{*+1}._norm.*"
    }  # fmt: skip
    assert compressed_names(["a.0.w", "a.1.w"], ["a.0.w", "a.1.w", "b"]) == ["a.*.w"]
    assert compressed_names(["a.0.w", "a.1.w"], ["a.0.w", "a.1.w", "a.2.w"]) == ["a.0.w", "a.1.w"]


def test_names_of_models_may_have_arguments():
    content = content_of_names("port.py:Net(depth=2)", "ref.py:Net(kind='x')", "2x3x8,8")
    assert content == {"port": "port.py:Net", "port_arguments": {"depth": 2}, "reference": "ref.py:Net",
                       "reference_arguments": {"kind": "x"}, "shape": [2, 3, 8, 8]}  # fmt: skip
    with pytest.raises(CaseError, match="expected place:callable"):
        content_of_names("port.py:Net(open('x'))", "ref.py:Net")
    with pytest.raises(CaseError, match="--shape many"):
        content_of_names("port.py:Net", "ref.py:Net", "many")


TORCH_NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.rnn = nn.GRU(8, 8, 2, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.scale = nn.Parameter(torch.ones(16, 1) * 0.5)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, words):
        x = self.rnn(self.words(words))[0]
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        x = x * self.scale[:, 0]
        return {"hidden": x, "classes": (self.first(x[:, 0]), self.second(x[:, 1]))}
"""
PADDLE_NET = """
from paddle import nn
from .parts import Words

class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.embed = Words()
        self.encoder = nn.GRU(8, 8, 2, direction="bidirect")
        self.mix = nn.MultiHeadAttention(16, 2)
        self.b, self.a = nn.Linear(16, 16), nn.Linear(16, 16)
        self.ln = nn.LayerNorm(16)
        self.gamma = self.create_parameter([16], default_initializer=nn.initializer.Constant(0.5))

    def forward(self, ids):
        x = self.encoder(self.embed(ids))[0]
        x = self.ln(x + self.mix(x, x, x)) * self.gamma
        return {"hidden": x, "classes": (self.a(x[:, 0]), self.b(x[:, 1]))}
"""
PARTS = """
from paddle import nn

class Words(nn.Layer):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 8)

    def forward(self, ids):
        return self.table(ids)
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, text in (("ref.py", TORCH_NET), ("port.py", PADDLE_NET), ("parts.py", PARTS)):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.torch
def test_a_net_without_one_common_name_matches_and_a_wrong_one_does_not(folder, reference):
    """Integers as input, a GRU of two layers and directions, attention, a reshaped parameter, nested outputs."""
    case = Case("net", folder, "port.py:Net", "ref.py:Net", shape=(4, 6),
                train=Training(shape=(4, 6), steps=3, curve_side=0))  # fmt: skip
    stages = ("weights", "forward", "backward", "train")
    verdict = run_stages(case, stages, reference)
    assert verdict.status == "pass", verdict.first_problem()
    (folder / "port.py").write_text(PADDLE_NET.replace("self.b(x[:, 1])", "self.b(x[:, 0])"))
    problem = run_stages(case, ("forward",), reference).first_problem()
    assert problem.status == "fail" and "b" in problem.layer


@pytest.mark.torch
def test_init_writes_a_case_that_needs_no_pairing(folder, monkeypatch, capsys, reference):
    monkeypatch.chdir(folder)
    assert init(["port.py:Net", "ref.py:Net", "--shape", "4,6", "--output", "net.yaml"]) == 0
    content = yaml.safe_load((folder / "net.yaml").read_text())
    assert content["split"]["attention.in_proj_weight"][0] == "mix.q_proj.weight"
    assert content["reshape"] == {"gamma": {"reference": [16, 1], "port": [16]}}
    assert content["rename"]["words.*"] == "embed.table.*"
    assert "wrote net.yaml" in capsys.readouterr().out
    verdict = run_stages(read_case("net.yaml"), ("weights", "forward"), reference)
    assert verdict.status == "pass", verdict.first_problem()
    with pytest.raises(CaseError, match=r"net\.yaml exists"):
        init(["port.py:Net", "ref.py:Net", "--output", "net.yaml"])


@pytest.mark.torch
def test_init_says_that_a_case_beside_other_files_needs_trust(tmp_path, monkeypatch, capsys):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name, package in (("ref", "torch"), ("port", "paddle")):
        text = f"from {package} import nn\n\ndef net():\n    return nn.Sequential(nn.Linear(6, 3))\n"
        (tmp_path / f"{name}.py").write_text(text)
    assert init(["../port.py:net", "../ref.py:net", "--shape", "4,6", "--output", "net.yaml"]) == 0
    assert "next: python -m alignment all net.yaml --trust_case" in capsys.readouterr().out
    with pytest.raises(CaseError, match="add --trust_case"):
        read_case("net.yaml")


@pytest.mark.torch
def test_a_buffer_of_the_port_alone_keeps_its_value(tmp_path, reference):
    """The names differ, so that the pairs are checked by values with the weights of the reference in the port."""
    torch_net = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.second(self.first(x).relu())
"""
    port = """
import paddle
from paddle import nn

class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.b, self.a = nn.Linear(6, 6), nn.Linear(6, 6)
        self.register_buffer("scale", paddle.full([1], SCALE))

    def forward(self, x):
        return self.b(nn.functional.relu(self.a(x))) * self.scale
"""
    (tmp_path / "ref.py").write_text(torch_net)
    for scale, status in ((1.0, "pass"), (2.0, "fail")):
        (tmp_path / "port.py").write_text(port.replace("SCALE", str(scale)))
        case = Case("net", tmp_path, "port.py:Net", "ref.py:Net", shape=(4, 6))
        session = Session(case, reference)
        assert session.case.keep == ("scale",) and session.port_weights["scale"] == [scale]
        assert run_stages(case, ("weights", "forward"), reference).status == status


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:\n", r"port\.py:1: SyntaxError: "),
        ("import nowhere_to_be_found\n", r"port\.py:1: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        (
            "class Net:\n    def __init__(self):\n        self.x = self.y\n",
            r"port\.py:3: AttributeError: .*no attribute 'y'",
        ),
        ("class Nett:\n    pass\n", r"port\.py has no Net; did you mean Nett\?"),
    ],
)
def test_an_error_in_the_users_file_has_file_and_line(tmp_path, text, message):
    from alignment.paddle_side.port import build

    (tmp_path / "port.py").write_text(text)
    with pytest.raises(CaseError, match=message):
        build(Case("net", tmp_path, "port.py:Net", "ref.py:Net"))


def test_files_beside_a_port_come_before_packages_of_this_project(tmp_path):
    """Also `models` and `common`, which are packages of this project; afterwards these are imported again."""
    from alignment.user_code import load_callable

    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("")
    (tmp_path / "common" / "net.py").write_text("NAME = 'mine'\n")
    (tmp_path / "port.py").write_text("from common.net import NAME\ndef build():\n    return NAME\n")
    assert load_callable(f"{tmp_path}/port.py:build")() == "mine"
    from common.errors import CaseError as ours

    assert ours is CaseError


def test_an_edit_of_the_same_size_within_a_second_counts(tmp_path):
    """Python's bytecode files have the size and the second of their source."""
    from alignment.user_code import load_callable

    path, found = tmp_path / "port.py", []
    for number in (1, 2):
        path.write_text(f"def build():\n    return {number}\n")
        os.utime(path, ns=(10**18 + number, 10**18 + number))
        found.append(load_callable(f"{path}:build")())
    assert found == [1, 2]


TIED = """
import {package}
from {package} import nn
from {package}.nn import functional as F

class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = self.a.weight
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        x = {package}.tanh(self.a(x))
        x = {package}.tanh(self.b(x))
        return {code}
"""


@pytest.fixture
def tied_nets(tmp_path, reference):
    """Runs the stages on two nets with tied layers."""

    def run(port: str = "self.out(x)", expected: str = "self.out(x)"):
        sides = (("torch", "Module", "ref.py", expected), ("paddle", "Layer", "port.py", port))
        for package, base, name, code in sides:
            (tmp_path / name).write_text(TIED.format(package=package, base=base, code=code))
        train = Training(shape=(4, 6), steps=2, curve_side=0)
        case = Case("net", tmp_path, "port.py:Net", "ref.py:Net", shape=(4, 6), train=train)
        return run_stages(case, ("weights", "forward", "backward", "train"), reference)

    return run


@pytest.mark.torch
def test_the_matrix_of_tied_layers_is_transposed_under_both_names(tied_nets):
    verdict = tied_nets()
    assert verdict.status == "pass", verdict.problems()


@pytest.mark.torch
@pytest.mark.parametrize(("factor", "is_right"), [("", True), (" * 1.001", False)])
def test_a_head_with_the_matrix_of_another_layer_may_be_a_function_in_the_port(compare, factor, is_right):
    parts = "self.a = nn.Linear(6, 6, {})"
    tied = parts.format("bias=False") + "\nself.head = nn.Linear(6, 6, bias=False)\nself.head.weight = self.a.weight"
    port = f"return paddle.matmul(F.relu(self.a(x)), self.a.weight){factor}"
    verdict = compare((tied, "return self.head(F.relu(self.a(x)))"), (parts.format("bias_attr=False"), port))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.problems()
    if is_right:
        assert [check.name for check in verdict.remarks()] == ["every layer with weights has a match"]


@pytest.mark.torch
def test_a_function_with_the_weights_of_a_layer_is_a_remark_in_place_of_its_call(tied_nets):
    function = "F.linear(x, self.out.weight, self.out.bias)"
    for ports in (("self.out(x)", function), (function, "self.out(x)")):
        verdict = tied_nets(*ports)
        assert verdict.status == "pass", verdict.problems()
        assert [check.name for check in verdict.remarks()] == ["every layer with weights has a match"]
    assert tied_nets("self.out(x)", f"{function} * 2").status == "fail"


BLOCK = "block = nn.Sequential(nn.{conv}(3, 3, 3, padding=1), nn.{norm}(3), nn.Linear(6, 6))"
MADE = "self.middle, self.{} = nn.{{conv}}(3, 3, 1), block"
USED = "return self.second(self.middle(self.{}(x)))"


@pytest.mark.torch
@pytest.mark.parametrize("name", ["first", "entry"])
def test_a_layer_with_two_names_may_be_made_in_another_order(compare, name):
    expected = "\n".join([BLOCK, MADE.format("first"), "self.second = block"]).format(conv="Conv2d", norm="BatchNorm2d")
    port = "\n".join([BLOCK, "self.second = block", MADE.format(name)]).format(conv="Conv2D", norm="BatchNorm2D")
    verdict = compare((expected, USED.format("first")), (port, USED.format(name)), shape=(2, 3, 6, 6))
    assert verdict.status == "pass", verdict.problems()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("layers: {convv: conv}", "layers: the reference has no convv; did you mean conv"),
        ("layers: {conv: convv}", "layers: the port has no convv; did you mean conv"),
        ("transpose: [conv.wieght]", "transpose: the port has no conv.wieght; did you mean conv.weight"),
        ("output: logits", "output: logits: the reference returns one tensor; leave it out"),
        (
            "rename: {convv.weight: conv.weight}",
            r"names convv.weight, which the reference does not have; did you mean conv",
        ),
        ("rename: {conv.weight: convv.weight}", r"names convv.weight, which the port does not have; did you mean conv"),
        ("rename: {'blocks.{*}.*': 'layers.{*}.*'}", r"names blocks.\{\*\}.\*, which the reference does not have"),
    ],
)
def test_a_name_that_is_not_there_is_an_error_of_the_case(line, message, tmp_path, reference):
    for name, package, base, conv in (
        ("ref.py", "torch", "Module", "Conv2d"),
        ("port.py", "paddle", "Layer", "Conv2D"),
    ):
        (tmp_path / name).write_text(
            f"from {package} import nn\n\nclass Net(nn.{base}):\n    def __init__(self):\n"
            f"        super().__init__()\n        self.conv = nn.{conv}(3, 4, 3)\n\n"
            "    def forward(self, x):\n        return self.conv(x).mean((2, 3))\n"
        )
    path = tmp_path / "net.yaml"
    path.write_text(f"port: port.py:Net\nreference: ref.py:Net\nshape: [2, 3, 8, 8]\n{line}\n")
    with pytest.raises(CaseError, match=message):
        run_stages(read_case(str(path)), ("weights",), reference)
