"""The user's own functions: right ones pass every stage, a mistake in one of them fails in its stage and is named."""

from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from alignment.adapter import tensors_of, with_tensors
from alignment.case import read_case
from alignment.cli import main
from alignment.pipeline.functions import call_loss, call_step, flatten, metric_values
from alignment.pipeline.judge import nested_check
from alignment.reference import Reference
from alignment.runner import run_stages
from alignment.verdict import Verdict
from common.errors import CaseError, UserFunctionError

PORT = """
import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

MEAN, STD = np.float32([0.5, 0.4, 0.3]).reshape(3, 1, 1), np.float32([0.2, 0.2, 0.3]).reshape(3, 1, 1)


class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2D(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))


def preprocess(image):
    pixels = np.asarray(image.resize((40, 40)), np.float32)[4:36, 4:36].transpose(2, 0, 1) / 255
    return paddle.to_tensor((pixels - MEAN) / STD)


class Data:
    def __len__(self):
        return 23

    def __getitem__(self, index):
        image = np.random.default_rng(index).normal(size=(3, 8, 8)).astype("float32")
        return paddle.to_tensor(image), paddle.to_tensor([index % 5])


def loader():
    data = Data()
    for start in range(0, 20, 4):
        items = [data[start + k] for k in range(4)]
        yield {"image": paddle.stack([i for i, _ in items]), "label": paddle.concat([k for _, k in items])}


def loss(output, target):
    return F.cross_entropy(output, target, label_smoothing=0.125) + 0.25 * (output**2).mean()


def schedule():
    return paddle.optimizer.lr.CosineAnnealingDecay(0.01, T_max=30)


def optimizer(model, rate):
    no_decay = {p.name for p in model.parameters() if p.ndim < 2}
    return paddle.optimizer.AdamW(rate, parameters=model.parameters(), weight_decay=0.05,
                                  apply_decay_param_fun=lambda name: name not in no_decay)


def metric(output, target):
    order = paddle.argsort(output, axis=1, descending=True)
    return [(order[:, :k] == target.unsqueeze(1)).any(1).astype("float32").mean() for k in (1, 2)]


def step(model, optimizer, loss, inputs, target, index):
    value = loss(model(inputs), target)
    (value / 2).backward()
    if index % 2 == 1:
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.clear_grad()
    return value
"""

REFERENCE = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

MEAN, STD = np.float32([0.5, 0.4, 0.3]).reshape(3, 1, 1), np.float32([0.2, 0.2, 0.3]).reshape(3, 1, 1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))


def preprocess(image):
    pixels = np.asarray(image.resize((40, 40)), np.float32)[4:36, 4:36].transpose(2, 0, 1) / 255
    return torch.from_numpy((pixels - MEAN) / STD)


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 23

    def __getitem__(self, index):
        image = np.random.default_rng(index).normal(size=(3, 8, 8)).astype("float32")
        return torch.from_numpy(image), index % 5


def loader():
    return [{"img": image, "gt": label} for image, label in torch.utils.data.DataLoader(Data(), 4, drop_last=True)]


class Loss(nn.Module):
    def forward(self, output, target):
        return F.cross_entropy(output, target, label_smoothing=0.125) + 0.25 * (output**2).mean()


def schedule(optimizer):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)


def optimizer(model):
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05},
              {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, 0.01)


def metric(output, target):
    hits = output.topk(2).indices == target[:, None]
    return [hits[:, :k].any(1).float().mean() for k in (1, 2)]


def step(model, optimizer, loss, inputs, target, index):
    value = loss(model(inputs), target)
    (value / 2).backward()
    if index % 2 == 1:
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return value
"""

CASE = """
port: port.py:Net
reference: reference.py:Net
transpose: [head.weight]
shape: [4, 3, 16, 16]
train: {shape: [4, 3, 16, 16], steps: 6}
preprocess: preprocess
dataset: Data
loader: loader
loss: {port: loss, reference: Loss}
optimizer: optimizer
schedule: schedule
metric: metric
step: step
"""
STAGES = ("data", "metric", "loss", "backward", "train")
pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track")


def project(folder: Path, case: str = CASE, port: str = PORT, reference: str = REFERENCE) -> str:
    """Write the files of a user's project; returns the path of the case."""
    for name, text in (("port.py", port), ("reference.py", reference), ("net.yaml", case)):
        (folder / name).write_text(text)
    return str(folder / "net.yaml")


def judge(path: str, stages: tuple[str, ...], reference: Reference) -> tuple[Verdict, list[str]]:
    """The verdict, and the lines that the user sees."""
    lines = []
    return run_stages(read_case(path), stages, reference, report_progress=lines.append), lines


@pytest.mark.torch
def test_right_functions_match(tmp_path, reference):
    verdict, lines = judge(project(tmp_path), STAGES, reference)
    assert verdict.status == "pass", verdict.first_problem()
    names = {check.name for stage in verdict.stages for check in stage.checks}
    assert {"preprocess", "dataset", "loader", "value of the loss", "gradient of the loss", "schedule", "metric",
            "learning rates", "losses", "weights and statistics"} <= names  # fmt: skip
    assert not any("not compared" in line for line in lines)
    assert any("image with 0.img" in check.detail for check in verdict.stages[0].checks)


WRONG = [  # (stage, mistake in the port: old text, new text, name of the check that fails, word of detail or hints)
    ("data", "[0.2, 0.2, 0.3]", "[0.2, 0.25, 0.3]", "preprocess", "channel 1 is 0.8 times"),
    ("data", "[4:36, 4:36]", "[4:36, 5:37]", "preprocess", "6 of 6 differ"),
    ("data", "[index % 5]", "[(index + 1) % 5]", "dataset", "0.1; 1, in the reference 0"),
    ("data", "return 23", "return 24", "dataset", "24, in the reference 23"),
    ("data", "range(0, 20, 4)", "range(0, 23, 4)", "loader", "IndexError|arrays in the port"),
    ("loss", "label_smoothing=0.125", "label_smoothing=0.1", "value of the loss", "times the reference's"),
    ("loss", "0.25 *", "0.25 * output.shape[0] *", "value of the loss", "times the reference's"),
    ("loss", "T_max=30", "T_max=31", "schedule", "first at step 1"),
    ("metric", "output, axis=1", "-output, axis=1", "metric", "batch 0"),
    ("train", "p.ndim < 2", "p.ndim < 0", "weights and statistics", "norm"),
    ("train", "weight_decay=0.05", "weight_decay=0.06", "weights and statistics", "conv.weight"),
    ("train", "clip_grad_norm_(model.parameters(), 0.5)", "clip_grad_norm_(model.parameters(), 1.0)", "losses", "step"),
    ("train", "index % 2 == 1", "index % 3 == 2", "losses", "step"),
    ("train", "(value / 2)", "value", "second moments", "norm"),
]


@pytest.mark.torch
@pytest.mark.parametrize(("stage", "old", "new", "check", "words"), WRONG)
def test_a_mistake_is_found_in_its_stage(stage, old, new, check, words, tmp_path, reference):
    assert PORT.count(old) == 1
    verdict, _ = judge(project(tmp_path, port=PORT.replace(old, new)), (stage,), reference)
    assert verdict.status == "fail"
    failed = {one.name: one for one in verdict.stages[0].checks if one.status == "fail"}
    assert check in failed, failed
    text = f"{failed[check].detail} {' '.join(failed[check].hints)}"
    assert any(word in text for word in words.split("|")), text


@pytest.mark.torch
def test_a_wrong_schedule_is_one_problem_with_its_setting_and_both_lines(tmp_path, reference):
    port = PORT.replace("T_max=30", "T_max=31")
    case = CASE.replace("step: step\n", "")
    verdict, lines = judge(project(tmp_path, case, port), ("loss", "backward", "train"), reference)
    causes, others = verdict.causes_and_others()
    assert [check.name for check in causes] == ["schedule"] and "learning rates" in others, lines
    assert causes[0].hints == ["T_max of the schedule is 31, in the reference 30"]
    assert [line.split("  ")[-1] for line in causes[0].source] == ["def schedule():", "def schedule(optimizer):"]


FAILING = [  # (stage, old text of the port, new text, error)
    ("loss", "label_smoothing=0.125", "label_smoothing=smoothing",
     r"the loss of the port failed: NameError: .*smoothing.*\(at \S*port.py:\d+\)"),
    ("metric", "def metric(output, target):", "def metric(output, target, num):", "metric of the port failed: Type"),
    ("train", "def optimizer(model, rate):", "def optimizer(model, rate):\n    rate = 1 / 0",
     r"the optimizer of the port failed: ZeroDivisionError: .*\(at \S*port.py:\d+\)"),
    ("train", "index % 2 == 1", "index % zero == 1", r"the step of the port failed: NameError"),
    ("data", "return 23", "return zero", r"the dataset of the port failed: NameError"),
]  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize(("stage", "old", "new", "error"), FAILING)
def test_an_error_in_a_function_of_the_user_is_no_difference_of_the_models(stage, old, new, error, tmp_path, reference):
    assert PORT.count(old) == 1
    with pytest.raises(UserFunctionError, match=error):
        judge(project(tmp_path, port=PORT.replace(old, new)), (stage,), reference)


@pytest.mark.torch
def test_a_loss_that_fails_because_the_port_is_wrong_leaves_the_verdict(tmp_path, reference):
    port = PORT.replace(".mean((2, 3)))", ".mean((2, 3)))[0]")
    port = port.replace("def loss(output, target):", "def loss(output, target):\n    num, classes = output.shape")
    verdict, lines = judge(project(tmp_path, port=port), ("forward", "train"), reference)
    assert [stage.status for stage in verdict.stages] == ["fail", "fail"]
    assert any("failed: " in line for line in lines)


@pytest.mark.torch
def test_a_schedule_inside_the_optimizer_and_a_loss_of_the_output_alone(tmp_path, reference):
    case = CASE.replace("schedule: schedule", "schedule: {reference: schedule}").replace("step: step\n", "")
    case = case.replace("loss: {port: loss, reference: Loss}", "loss: energy")
    energy = "\n\ndef energy(output):\n    return {'loss': (output**2).mean()}\n"
    port = PORT.replace("def optimizer(model, rate):\n", "def optimizer(model):\n    rate = schedule()\n") + energy
    verdict, _ = judge(project(tmp_path, case, port, REFERENCE + energy), ("loss", "train"), reference)
    assert verdict.status == "pass", verdict.first_problem()
    assert {"gradients", "first moments"} <= {check.name for check in verdict.stages[1].checks}


NESTED = [  # (old text, text of a net with nested outputs, for its loss, metric and step), in both files
    (
        "return self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))",
        "y = F.relu(self.norm(self.conv(x)))\n"
        "        best = y.mean((2, 3)).argmax(1)\n"
        "        return {'logits': self.head(y.mean((2, 3))), 'maps': [y, (x[:, :1],)], 'best': best}",
    ),
    ("F.cross_entropy(output, target", "F.cross_entropy(output['logits'], target"),
    ("0.25 * (output**2).mean()", "0.25 * (output['maps'][0] ** 2).mean()"),
    ("paddle.argsort(output,", "paddle.argsort(output['logits'],"),
    ("output.topk(2)", "output['logits'].topk(2)"),
    (
        "value = loss(model(inputs), target)",
        "found = model(inputs)\n    value = loss(found, target) + found['logits'].mean()",
    ),
]


def nested(text: str) -> str:
    for old, new in NESTED:
        text = text.replace(old, new)
    return text


@pytest.mark.torch
@pytest.mark.parametrize(
    ("stage", "old", "new", "check"),
    [
        ("", "", "", ""),
        ("loss", "['maps'][0] ** 2", "['maps'][0] ** 3", "gradient of the loss, maps.0"),
        ("loss", "label_smoothing=0.125", "label_smoothing=0.1", "gradient of the loss, logits"),
        ("metric", "argsort(output['logits']", "argsort(-output['logits']", "metric"),
        ("backward", "0.25 *", "0.5 *", "loss"),
        ("train", "found['logits'].mean()", "found['logits'].sum()", "losses"),
    ],
)
def test_nested_outputs_reach_the_functions_of_the_user_as_they_are(stage, old, new, check, tmp_path, reference):
    case = CASE.replace("preprocess: preprocess\ndataset: Data\nloader: loader\n", "target: {classes: 5}\n")
    port = nested(PORT)
    assert old in port and port != PORT
    path = project(tmp_path, case, port.replace(old, new), nested(REFERENCE))
    if not stage:
        verdict, _ = judge(path, ("metric", "loss", "backward", "train"), reference)
        assert verdict.status == "pass", verdict.first_problem()
        names = {one.name for result in verdict.stages for one in result.checks}
        assert {"metric", "gradient of the loss, logits", "gradient of the loss, maps.0", "losses"} <= names
        assert "gradient of the loss, maps.1.0" not in names  # the loss does not use it
        return
    verdict, _ = judge(path, (stage,), reference)
    assert check in {one.name for one in verdict.stages[0].checks if one.status == "fail"}, verdict.first_problem()


@pytest.mark.torch
def test_the_tools_loss_in_a_step_of_the_user_takes_nested_outputs(tmp_path, reference):
    """Without a loss of the user the tool packs what the model returns, also where the step calls the loss."""
    case = CASE[: CASE.index("preprocess:")] + "output: logits\nstep: step\n"
    verdict, _ = judge(project(tmp_path, case, nested(PORT), nested(REFERENCE)), ("train",), reference)
    assert verdict.status == "pass", verdict.first_problem()


@pytest.mark.torch
@pytest.mark.parametrize("stage", ["loss", "metric", "train"])
def test_the_target_of_nested_outputs_is_asked_for(stage, tmp_path, reference):
    path = project(tmp_path, CASE.replace("step: step\n", ""), nested(PORT), nested(REFERENCE))
    with pytest.raises(CaseError, match=r"several tensors.*add `target: \{classes: 10\}`"):
        judge(path, (stage,), reference)


@pytest.mark.torch
def test_another_number_of_tensors_is_explained(tmp_path, reference):
    port = nested(PORT).replace("(x[:, :1],)", "(x[:, :1], x)")
    case = CASE.replace("loss: {", "target: {classes: 5}\noutput: logits\nloss: {")
    with pytest.raises(CaseError, match="the port returns 5 tensors, the reference 4"):
        judge(project(tmp_path, case, port, nested(REFERENCE)), ("loss",), reference)


def test_tensors_are_replaced_where_they_are_nested():
    Pair = namedtuple("Pair", "first second")
    value = {"a": [np.zeros(1), (np.zeros(2), None)], "b": Pair(np.zeros(3), "text")}
    is_array = lambda item: isinstance(item, np.ndarray)  # noqa: E731
    arrays = [np.full(num, num) for num in (1, 2, 3)]
    found = with_tensors(value, is_array, [*arrays])
    assert [array is other for array, (_, other) in zip(arrays, tensors_of(found, is_array), strict=True)] == [True] * 3
    assert isinstance(found["b"], Pair) and found["b"].second == "text" and found["a"][1][1] is None
    assert not np.any(value["a"][0])


@pytest.mark.torch
def test_random_data_is_inconclusive_unless_it_has_the_seeds_of_both_sides(tmp_path, reference):
    case = CASE.replace("dataset: Data\nloader: loader\n", "")
    draws = {"np": "np.random.normal(size=(3, 1, 1))", "framework": "{}.randn([3, 1, 1]).numpy()"}
    for kind, status in (("np", "pass"), ("framework", "inconclusive")):
        texts = [
            text.replace("(pixels - MEAN) / STD", f"(pixels + {draws[kind].format(name)}).astype('float32')")
            for text, name in ((PORT, "paddle"), (REFERENCE, "torch"))
        ]
        verdict, _ = judge(project(tmp_path, case, *texts), ("data",), reference)
        assert verdict.status == status, verdict.first_problem()
    assert "random" in verdict.first_problem().detail


@pytest.mark.torch
def test_what_the_case_does_not_name_is_one_line(tmp_path, reference):
    case = CASE[: CASE.index("preprocess:")]
    path = project(tmp_path, case.replace("steps: 6", "steps: 3, curve_side: 0"))
    verdict, lines = judge(path, ("forward", *STAGES), reference)
    assert [stage.name for stage in verdict.stages] == ["forward", "backward", "train"]
    assert [line for line in lines if "not compared" in line] == [
        "not compared: your data, loss, metric, optimizer, schedule (the case has no keys for them: docs/alignment.md)"
    ]
    assert lines[-1] == "net: match"
    with pytest.raises(CaseError, match="add one of the keys preprocess, dataset, loader"):
        judge(path, ("data",), reference)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("loss: {port: os:system, reference: loss}", "could run any code"),
        ("loss: {port: ../other.py:loss, reference: loss}", "could run any code"),
        ("loss: {poort: loss}", "unknown key 'poort'.*port"),
        ("optimiser: optimizer", "unknown key 'optimiser'.*optimizer"),
    ],
)
def test_a_wrong_key_is_refused(line, message, tmp_path):
    with pytest.raises(CaseError, match=message):
        main(["loss", project(tmp_path, CASE[: CASE.index("loss:")] + line)])


def test_nested_values_become_arrays_by_path():
    nest = {"image": np.zeros((2, 3)), "boxes": [np.ones(4), np.ones(2)], "name": "a.jpg", "none": None, "size": (4, 5)}
    arrays = flatten(nest)
    assert {key: array.shape for key, array in arrays.items()} == {
        "image": (2, 3), "boxes.0": (4,), "boxes.1": (2,), "name": (), "size": (2,)
    }  # fmt: skip
    with pytest.raises(TypeError, match="image is of type object"):
        flatten({"image": object()})


def test_one_number_and_an_array_of_one_are_compared():
    assert nested_check("loss", {"a": np.array([1.5])}, {"a": np.array(1.5)}, 0.0).status == "pass"
    assert nested_check("loss", {"a": np.array([1.5])}, {"a": np.array(1.6)}, 1e-6).status == "fail"
    assert nested_check("ids", {"a": np.array(2**60)}, {"a": np.array(2**60 + 1)}, 1e-6).status == "fail"
    assert "in the port alone: a" in nested_check("x", {"a": np.zeros(2)}, {}, 1e-6).detail


def test_a_function_of_another_form_is_explained():
    with pytest.raises(TypeError, match="a table of a, b"):
        call_loss(lambda output: {"a": 1, "b": 2}, None, None)
    with pytest.raises(TypeError, match="the parameter batch; known: model, loss"):
        call_step(lambda model, batch: 0, {"model": None, "loss": None})


SMALL = """
import {package}
from {package} import nn
from {package}.nn import functional as F


class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(x)

{functions}
"""
RATES = ("torch.optim.lr_scheduler.{}", "paddle.optimizer.lr.{}")
CYCLE = (
    "OneCycleLR(optimizer, max_lr=0.1, total_steps=20, cycle_momentum=False)",
    "OneCycleLR(max_learning_rate=0.1, total_steps=20, divide_factor=25.0, end_learning_rate={})",
)
STEPS = "MultiStepLR(optimizer, [60, 160], gamma=0.2)", "MultiStepDecay(0.1, [60, {}], gamma=0.2)"


def small(folder: Path, keys: str, reference: str, port: str) -> str:
    """Write a case of a linear layer with functions on both sides; returns its path."""
    text = SMALL.format(package="torch", base="Module", functions=reference)
    own = SMALL.format(package="paddle", base="Layer", functions=port)
    head = "port: port.py:Net\nreference: reference.py:Net\nshape: [4, 6]\ntrain: {shape: [4, 6], steps: 4}\n"
    return project(folder, f"{head}{keys}\n", own, text)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("schedules", "value", "is_right"),
    [(CYCLE, "0.1 / 25 / 1e4", True), (CYCLE, "0.01", False), (STEPS, "160", True), (STEPS, "161", False)],
)
def test_a_schedule_is_compared_to_its_end(schedules, value, is_right, tmp_path, reference):
    texts = [head.format(text.format(value)) for head, text in zip(RATES, schedules, strict=True)]
    functions = f"def schedule(optimizer):\n    return {texts[0]}", f"def schedule():\n    return {texts[1]}"
    verdict, lines = judge(small(tmp_path, "schedule: schedule", *functions), ("loss",), reference)
    assert verdict.status == ("pass" if is_right else "fail"), lines


ADAM = "def optimizer(model):\n    return {}"
TORCH_ADAM = ADAM.format("torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-8{})")
OWN_STATES = """
class Own(paddle.optimizer.Momentum):
    def step(self):
        with paddle.no_grad():
            for p in self._parameter_list:
                before = getattr(self, f"of_{p.name}", 0.0)
                setattr(self, f"of_{p.name}", before * 0.5 + p.grad)
                p.set_value(p - self.get_lr() * (before * 0.5 + p.grad))

def optimizer(model):
    return Own(0.1, FACTOR, parameters=model.parameters())
"""


@pytest.mark.torch
@pytest.mark.parametrize(("end", "is_right"), [("amsgrad=True", True), ("amsgrad=False", False)])
def test_a_setting_of_an_optimizer_that_no_step_reaches_is_found(end, is_right, tmp_path, reference):
    port = ADAM.format(f"paddle.optimizer.Adam(1e-3, {end}, parameters=model.parameters())")
    path = small(tmp_path, "optimizer: optimizer", TORCH_ADAM.format(", amsgrad=True"), port)
    verdict, lines = judge(path, ("train",), reference)
    assert verdict.status == ("pass" if is_right else "fail"), lines
    if not is_right:
        assert verdict.first_problem().hints[0] == "amsgrad of the optimizer is False, in the reference True"


@pytest.mark.torch
@pytest.mark.parametrize(("factor", "is_right"), [("0.5", True), ("0.4", False)])
def test_an_optimizer_with_states_of_its_own_is_judged_by_the_weights(factor, is_right, tmp_path, reference):
    expected = ADAM.format("torch.optim.SGD(model.parameters(), 0.1, momentum=0.5)")
    port = OWN_STATES.replace("* 0.5", f"* {factor}").replace("FACTOR", factor)
    verdict, lines = judge(small(tmp_path, "optimizer: optimizer", expected, port), ("train",), reference)
    assert verdict.status == ("pass" if is_right else "fail"), lines
    assert [check.name for check in verdict.remarks()] == ["momentum buffers"]


LABELS = "def loss(output, target):\n    return F.cross_entropy(output, target{})"


@pytest.mark.torch
@pytest.mark.parametrize(
    ("expected", "port", "is_right"),
    [
        (", ignore_index=255", ", ignore_index=255", True),
        (", ignore_index=255", "", False),
        (", label_smoothing=0.1", ", label_smoothing=0.1", True),
        (" % 5 * (target < 7)", " % 5 * (target < 7).astype('int64')", True),
        (" % 5 * (target < 7)", " % 5 * (target < 9).astype('int64')", False),
    ],
)
def test_labels_that_the_loss_names_are_tried(expected, port, is_right, tmp_path, reference):
    path = small(tmp_path, "loss: loss", LABELS.format(expected), LABELS.format(port))
    verdict, lines = judge(path, ("loss",), reference)
    assert verdict.status == ("pass" if is_right else "fail"), lines


SHARE = """
def metric(output, target):
    found = []
    for k in range(5):
        num = float((target == k).sum())
        if num or {counts}:
            found.append(float(((output.argmax(1) == k) & (target == k)).sum()) / max(num, 1.0))
    return sum(found) / len(found)
"""


@pytest.mark.torch
@pytest.mark.parametrize(("counts", "is_right"), [("False", True), ("True", False)])
def test_a_metric_is_compared_without_most_classes(counts, is_right, tmp_path, reference):
    path = small(tmp_path, "metric: metric", SHARE.format(counts="False"), SHARE.format(counts=counts))
    verdict, lines = judge(path, ("metric",), reference)
    assert verdict.status == ("pass" if is_right else "fail"), lines


def test_what_is_no_number_is_explained():
    with pytest.raises(TypeError, match=r"shape \[4\]; expected one number"):
        call_loss(lambda output: SimpleNamespace(backward=None, shape=[4]), None, None)
    with pytest.raises(TypeError, match="the metric returns None"):
        metric_values(lambda output, target: None, [(1, 2)])
