"""The stages on toy models and on small nets: right ports pass, and a difference is placed and explained."""

from dataclasses import replace
from pathlib import Path

import pytest

from alignment.case import Case, Training, read_case
from alignment.paddle_side.port import Port
from alignment.reference import Reference
from alignment.runner import run_stages
from alignment.selftest.toy_models import FunctionalLadder

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:When training, we now always track")]
DOCS = Path(__file__).parents[2] / "docs"
MODEL_STAGES = ("weights", "forward", "backward", "train")  # those that run the model


def small_case(folder: Path, port: str, reference: str, shape=(2, 3, 8, 8), **keys) -> Case:
    """A case of small pictures, with a training of three steps."""
    train = Training(shape=(4, 3, 8, 8), steps=3, curve_side=0)
    return Case("net", folder, port, reference, shape=shape, train=train, **keys)


@pytest.mark.parametrize("name", ["ladder", "fork", "other_tree"])
def test_right_ports_pass_every_stage(name, reference):
    stages = ("weights", "forward", "metric", "loss", "backward", "train")
    verdict = run_stages(read_case(name), stages, reference)
    assert verdict.status == "pass", verdict.first_problem()


def test_the_stage_data_passes(reference):
    verdict = run_stages(read_case("ladder"), ("data",), reference)
    assert verdict.status == "pass"
    names = {check.name for check in verdict.stages[0].checks}
    for fit in ("squash", "letterbox"):
        assert {f"evaluation, {fit} to 64", f"random resized crop and flip, {fit}"} <= names


def test_the_stage_data_finds_another_border(reference, monkeypatch):
    monkeypatch.setattr("datasets.preprocess.mean_colour", lambda mean: (124, 116, 103))
    checks = run_stages(read_case("ladder"), ("data",), reference).stages[0].checks
    failed = [check.name for check in checks if check.status == "fail"]
    assert failed == ["evaluation, letterbox to 64", "random resized crop and flip, letterbox"]


def test_a_difference_between_other_trees_is_placed_in_one_layer(reference):
    case = read_case("other_tree")
    verdict = run_stages(case, ("forward",), reference, port=Port(lambda: FunctionalLadder(slope=0.01)))
    problem = verdict.first_problem()
    assert (problem.name, problem.layer) == ("first difference", "logits")
    assert "after hidden" in problem.detail and any("LeakyReLU" in hint for hint in problem.hints)


def test_a_forgotten_transpose_is_recognized(reference):
    case = replace(read_case("ladder"), transpose=("head.logits.weight",))
    problem = run_stages(case, ("forward",), reference, port=Port.of_case(case)).first_problem()
    assert problem.layer == "head.hidden" and "transposed" in problem.hints[0]


NET = """
{imports}
class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 4)
        self.body = nn.{conv}(3, 8, 3)

    def forward(self, x):
        return self.head({values}.mean((2, 3)))
"""


@pytest.mark.parametrize(
    ("values", "status"), [("self.body(x)", "pass"), ("(self.body(x) - 99).sqrt()", "inconclusive")]
)
def test_a_small_net_whose_head_is_declared_first(values, status, tmp_path, reference):
    words = {"torch": ("Module", "Conv2d"), "paddle": ("Layer", "Conv2D")}
    for package, (base, conv) in words.items():
        text = NET.format(imports=f"from {package} import nn", base=base, conv=conv, values=values)
        (tmp_path / f"{package}_net.py").write_text(text)
    case = small_case(tmp_path, "paddle_net.py:Net", "torch_net.py:Net", transpose=("head.weight",))
    verdict = run_stages(case, ("forward", "backward", "train"), reference)
    assert [stage.status for stage in verdict.stages] == [status] * 3


OLD_NORM = """
from {package} import nn
from {package}.nn import functional as F

class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.{conv}(3, 6, 3), {norm}, nn.Linear(6, 4)

    def forward(self, x):
        return self.head({values}.mean((2, 3)))
"""


@pytest.mark.parametrize(("act", "status"), [("'relu'", "pass"), ("None", "fail")])
def test_a_norm_with_a_built_in_activation_is_the_norm_and_a_function(act, status, tmp_path, reference):
    port = OLD_NORM.format(
        package="paddle",
        base="Layer",
        conv="Conv2D",
        norm=f"nn.BatchNorm(6, act={act})",
        values="self.norm(self.conv(x))",
    )
    expected = OLD_NORM.format(
        package="torch",
        base="Module",
        conv="Conv2d",
        norm="nn.BatchNorm2d(6)",
        values="F.relu(self.norm(self.conv(x)))",
    )
    (tmp_path / "port.py").write_text(port)
    (tmp_path / "ref.py").write_text(expected)
    verdict = run_stages(small_case(tmp_path, "port.py:Net", "ref.py:Net"), MODEL_STAGES, reference)
    assert verdict.status == status, verdict.first_problem()
    if status == "fail":
        assert (
            "in the code that calls head" in verdict.first_problem().detail
            or "(logits)" in verdict.first_problem().layer
        )


RESIZED = """
from {package} import nn
from {package}.nn import functional as F

class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.{conv}(3, 6, 3), nn.Linear(6, 4)

    def forward(self, x):
        x = F.interpolate(self.conv(x), scale_factor={scale}, mode="bilinear")
        return self.head(x[:, :, :5, :5].mean((2, 3)))
"""


@pytest.mark.parametrize(("scale", "status"), [(3, "pass"), (4, "fail")])
def test_a_function_that_rounds_to_float32_between_layers_is_no_difference(scale, status, tmp_path, reference):
    words = {"torch": ("Module", "Conv2d", 3), "paddle": ("Layer", "Conv2D", scale)}
    for package, (base, conv, factor) in words.items():
        text = RESIZED.format(package=package, base=base, conv=conv, scale=factor)
        (tmp_path / f"{package}_net.py").write_text(text)
    case = small_case(tmp_path, "paddle_net.py:Net", "torch_net.py:Net", shape=(2, 3, 9, 7))
    verdict = run_stages(case, MODEL_STAGES, reference)
    assert verdict.status == status, verdict.first_problem()


FIXES = (  # of the mistakes of the page, in its order: (file, old text, new text)
    ("port.py", "AvgPool2D(3, ", "AvgPool2D(3, exclusive=False, "),
    ("port.py", "momentum=0.1", "momentum=0.9"),
)


def test_the_new_port_of_the_docs(tmp_path, reference):
    """The files are those of the page; the tool prints what the page shows until each mistake is corrected."""
    page, chinese = ((DOCS / name).read_text(encoding="utf-8") for name in ("alignment.md", "alignment_ch.md"))
    blocks = page[page.index("```python") :].split("```")[1::2]
    assert all(block in chinese for block in (*blocks[:2], *blocks[3:5]))
    for name, block in zip(("reference.py", "port.py", "net.yaml"), blocks, strict=False):
        (tmp_path / name).write_text(block.partition("\n")[2], encoding="utf-8")
    for (name, old, new), shown in zip(FIXES, blocks[3:5], strict=True):
        output = run_model_stages(tmp_path / "net.yaml", reference)
        for line in shown.split("!")[1].splitlines():
            assert " ".join(line.split()) in output
        (tmp_path / name).write_text((tmp_path / name).read_text().replace(old, new))
    output = run_model_stages(tmp_path / "net.yaml", reference)
    assert output.endswith("net: match") and "> 1e-10" not in output

    right = "self.pool(F.relu(self.norm(self.conv(x))))"
    port = (tmp_path / "port.py").read_text().replace(right, "F.relu(self.norm(self.pool(self.conv(x))))")
    (tmp_path / "port.py").write_text(port)
    output = run_model_stages(tmp_path / "net.yaml", reference)
    assert "the reference calls norm before pool, the port after it" in output


def run_model_stages(case: Path, reference: Reference) -> str:
    """The output of `python -m alignment all` without the stages that do not run the model, with single blanks."""
    lines = []
    run_stages(read_case(str(case)), MODEL_STAGES, reference, report_progress=lines.append)
    return " ".join("\n".join(lines).replace(f"{case.parent.resolve()}/", "").split())


@pytest.mark.slow
def test_the_dropout_of_paddle_visions_alexnet_is_named():
    with Reference() as reference:
        problem = run_stages(read_case("paddle_vision_alexnet"), ("forward",), reference).first_problem()
    assert problem.layer == "_drop1" and "downscale_in_infer" in problem.hints[0]


NORM_OF_CHANNELS = """
from torch import nn

class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.mix = nn.Conv2d(3, 6, 3), LayerNorm2d(6), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.mix(self.norm(self.conv(x))).mean((2, 3))
"""
NORM_INSIDE = """
from paddle import nn

class ChannelNorm(nn.Layer):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6, epsilon=EPSILON)

    def forward(self, x):
        return self.norm(x.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])

class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.mix = nn.Conv2D(3, 6, 3), ChannelNorm(), nn.Linear(6, 4)

    def forward(self, x):
        return self.mix(self.norm(self.conv(x)).transpose([0, 2, 3, 1])).mean((1, 2))
"""


@pytest.mark.parametrize(("epsilon", "status"), [("1e-5", "pass"), ("1e-3", "fail")])
def test_layers_of_other_kinds_are_compared_by_their_weights(epsilon, status, tmp_path, reference):
    """The tensors [2, 6, 6, 6] have the same shape whatever the order of their axes is."""
    (tmp_path / "port.py").write_text(NORM_INSIDE.replace("EPSILON", epsilon))
    (tmp_path / "ref.py").write_text(NORM_OF_CHANNELS)
    verdict = run_stages(small_case(tmp_path, "port.py:Net", "ref.py:Net"), MODEL_STAGES, reference)
    assert verdict.status == status, verdict.first_problem()
    if status == "fail":
        problem = verdict.first_problem()
        assert problem.layer == "norm.norm" and "epsilon is 0.001" in " ".join(problem.hints)
