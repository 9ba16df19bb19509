"""Nets with buffers, shortcuts and calls that few nets have: right ports match, and wrong ones beside them do not."""

import pytest

from alignment.case import Input, Training
from alignment.pipeline.parts import Part

pytestmark = pytest.mark.torch
TABLE = "self.words, self.head = nn.Embedding(6, 6), nn.Linear(6, 3)\n"
LOOK_UP = "return self.head(F.relu(x + self.words(self.places).sum(1)))"


@pytest.mark.parametrize(("end", "is_right"), [("", True), (" // 2", False)])
def test_a_buffer_of_whole_numbers_stays_one(compare, end, is_right):
    expected = TABLE + "self.register_buffer('places', torch.arange(6)[None], persistent=False)"
    port = TABLE + f"self.register_buffer('places', paddle.arange(6)[None]{end}, persistable=False)"
    verdict = compare((expected, LOOK_UP), (port, LOOK_UP))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()


def test_a_mask_of_truth_values_stays_one(compare):
    parts = "self.head = nn.Linear(6, 3)\nself.register_buffer('mask', {}([True, False, True] * 2))"
    forward = "return self.head({package}.where(self.mask, x, x * 0))"
    verdict = compare(
        (parts.format("torch.tensor"), forward.format(package="torch")),
        (parts.format("paddle.to_tensor"), forward.format(package="paddle")),
    )
    assert verdict.status == "pass", verdict.first_problem()


SHORTCUT = "self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)\nself.act = {}"
IN_PLACE = "x = self.a(x)\nreturn self.b(self.act(x)) + x"


@pytest.mark.parametrize(
    ("kind", "forward", "is_right"),
    [
        ("ReLU", "x = self.act(self.a(x))\nreturn self.b(x) + x", True),
        ("ReLU", IN_PLACE, False),
        ("Dropout", "x = self.act(self.a(x))\nreturn self.b(x) + x", True),
        ("Dropout", IN_PLACE, False),
    ],
)
def test_a_shortcut_after_a_layer_in_place_has_the_changed_values(compare, kind, forward, is_right):
    expected = SHORTCUT.format(f"nn.{kind}(inplace=True)"), IN_PLACE
    verdict = compare(expected, (SHORTCUT.format(f"nn.{kind}()"), forward), ("weights", "forward", "backward"))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()


def test_a_hardsigmoid_in_place_changes_its_input(compare):
    expected = "x = self.a(x)\nreturn self.b(F.hardsigmoid(x, inplace=True)) + x"
    port = "x = F.hardsigmoid(self.a(x), slope=1 / 6)\nreturn self.b(x) + x"
    parts = SHORTCUT.format("None")
    verdict = compare((parts, expected), (parts, port))
    assert verdict.status == "pass", verdict.first_problem()


@pytest.mark.parametrize("side", ["torch", "paddle", "both"])
def test_a_forward_may_change_its_input(compare, side):
    parts, forward = "self.act, self.head = nn.Sigmoid(), nn.Linear(6, 3)", "return self.head(self.act({}))"
    in_place, apart = {"torch": "x.sub_(0.5)", "paddle": "x.subtract_(paddle.full_like(x, 0.5))"}, "x - 0.5"
    expected, port = (in_place[name] if side in (name, "both") else apart for name in ("torch", "paddle"))
    verdict = compare((parts, forward.format(expected)), (parts, forward.format(port)))
    assert verdict.status == "pass", verdict.first_problem()


def test_a_first_layer_in_place_is_run_alone(compare):
    parts = "self.act, self.head = nn.ReLU({}), nn.Linear(6, 3)"
    forward = "return self.head(self.act(x))"
    verdict = compare((parts.format("inplace=True"), forward), (parts.format(""), forward))
    assert verdict.status == "pass", verdict.first_problem()


HEAD = "self.head = nn.Linear(6, 5)"


@pytest.mark.parametrize(("end", "is_right"), [("", True), (".conj()", False)])
def test_complex_outputs_have_two_parts(compare, end, is_right):
    port = f"y = self.head(x)\nreturn y, paddle.fft.fft(y){end}"
    verdict = compare((HEAD, "y = self.head(x)\nreturn y, torch.fft.fft(y)"), (HEAD, port))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()


@pytest.mark.parametrize(("end", "is_right"), [("", True), (".conj()", False)])
def test_a_complex_output_alone_has_two_parts(compare, end, is_right):
    expected, port = "return torch.fft.fft(self.head(x)).conj().conj()", f"return paddle.fft.fft(self.head(x)){end}"
    verdict = compare((HEAD, expected), (HEAD, port), ("weights", "forward"))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()


@pytest.mark.parametrize(("limit", "is_right"), [("0", True), ("0.3", False)])
def test_an_output_of_truth_values_is_compared(compare, limit, is_right):
    expected, port = (HEAD, "return self.head(x) > 0"), (HEAD, f"return self.head(x) > {limit}")
    verdict = compare(expected, port, ("weights", "forward"))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()
    assert not any("TypeError" in check.detail for stage in verdict.stages for check in stage.checks)


NORM = "self.first, self.norm, self.head = nn.Linear(6, 8), nn.BatchNorm1{}(8), nn.Linear(8, 3)"
TRAINED = "return self.head(F.relu(self.norm(self.first(x))))"


@pytest.mark.parametrize(
    ("forward", "end", "is_right"),
    [
        ("x = self.first(x)\nreturn self.head(F.relu(self.norm(x)) - self.norm(x * x))", "", True),  # called twice
        ("x = self.first(x)\nreturn self.head(F.relu(self.norm(x)) - self.norm(x * x))", ", momentum=0.8", False),
        ("self.norm.eval()\n" + TRAINED, "", True),  # frozen
        ("return self.head(F.relu(self.first(x)))", "", True),  # never called
    ],
)
def test_a_batch_norm_may_be_called_more_or_less_than_once_in_a_step(compare, forward, end, is_right):
    parts = NORM.format("d"), NORM.format("D").replace("(8)", f"(8{end})")
    verdict = compare((parts[0], forward), (parts[1], forward), ("weights", "train"))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()


STEP = """
def step(model, optimizer, loss, inputs, target):
    total = 0
    for part in (slice(0, 2), slice(2, 6)):
        value = loss(model(inputs[part]), target[part]) / 2
        value.backward()
        total = total + value
    optimizer.step()
    optimizer.{clear}()
    return total
"""


def test_a_batch_norm_in_a_step_that_accumulates(compare, tmp_path):
    for side, clear in (("port", "clear_grad"), ("ref", "zero_grad")):
        (tmp_path / f"{side}_step.py").write_text(STEP.format(clear=clear))
    step = Part("port_step.py:step", "ref_step.py:step")
    verdict = compare((NORM.format("d"), TRAINED), (NORM.format("D"), TRAINED), ("weights", "train"), step=step)
    assert verdict.status == "pass", verdict.first_problem()


@pytest.mark.parametrize(
    ("parts", "forward"),
    [
        ("self.register_buffer('shift', {tensor}([0.485, 0.456]), {persistent}=False)", "(x[:, :2] - self.shift)"),
        ("self.shift = {tensor}([0.485, 0.456])", "(x[:, :2] - self.shift)"),  # a mere attribute
        ("", "(x[:, :2] + {package}.linspace(-1, 1, 2) * 0.7 + {package}.linspace(0.1, 0.3, 2))"),
        ("", "(x[:, :2] * {tensor}(0.1))"),
        ("", "{package}.concat([x[:, :1], {package}.full([len(x), 1], 0.1)], 1)"),
        ("", "(x[:, :2] + {package}.randn([len(x), 2]) * 0.1)"),
    ],
)
def test_constants_have_one_type_on_both_sides(compare, parts, forward):
    words = {
        "torch": {"tensor": "torch.tensor", "persistent": "persistent", "package": "torch"},
        "paddle": {"tensor": "paddle.to_tensor", "persistent": "persistable", "package": "paddle"},
    }
    head, end = "self.head = nn.Linear(2, 3)\n", "return self.head({})"
    expected, port = (
        (head + parts.format(**words[side]), end.format(forward.format(**words[side]))) for side in ("torch", "paddle")
    )
    verdict = compare(expected, port)
    assert verdict.status == "pass", verdict.first_problem()


def test_a_constant_that_differs_by_one_rounding_of_float32_is_found(compare):
    forward = "return self.head(x) * {}"
    verdict = compare((HEAD, forward.format("0.1")), (HEAD, forward.format("0.10000000149")), ("forward",))
    assert verdict.status == "fail"


@pytest.mark.parametrize("forward", ["x.relu()", "(x * 2).exp()"])
def test_a_net_without_parameters_is_not_trained(compare, forward):
    verdict = compare(("", "return (x * 2).exp()"), ("", f"return {forward}"))
    assert verdict.status == ("fail" if "relu" in forward else "pass"), verdict.first_problem()
    assert "neither model" in verdict.stages[3].checks[0].detail


@pytest.mark.parametrize(("end", "is_right"), [("", True), (" * 1.01", False)])
def test_an_embedding_with_sparse_gradients(compare, end, is_right):
    parts = "self.words, self.head = nn.Embedding(9, 4{}), nn.Linear(4, 3)"
    forward = "return self.head(F.relu(self.words(x)).mean(1))"
    verdict = compare(
        (parts.format(""), forward),
        (parts.format(", sparse=True"), forward + end),
        shape=(4, 5),
        inputs={"x": Input((4, 5), (0, 8), "int64")},
    )
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()


def test_an_embedding_with_sparse_gradients_on_both_sides(compare):
    parts = "self.words, self.head = nn.Embedding(9, 4, sparse=True), nn.Linear(4, 3)"
    forward = "return self.head(F.relu(self.words(x)).mean(1))"
    inputs = {"x": Input((4, 5), (0, 8), "int64")}
    verdict = compare((parts, forward), (parts, forward), ("weights", "backward"), shape=(4, 5), inputs=inputs)
    assert verdict.status == "pass", verdict.first_problem()


@pytest.mark.parametrize(("name", "is_right"), [("argmax", True), ("argmin", False)])
def test_a_model_that_returns_classes_alone_has_no_gradient(compare, name, is_right):
    verdict = compare((HEAD, "return self.head(x).argmax(1)"), (HEAD, f"return self.head(x).{name}(1)"))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()
    assert all("int64" in stage.checks[0].detail for stage in verdict.stages[2:])


RESIZED = "self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)"
RESIZE = """
y = F.max_pool2d(F.relu(self.a(x)), 2, ceil_mode=True)
y = F.interpolate(y, scale_factor=2, mode='bilinear', align_corners={})
return self.b(F.interpolate(y, size={}[2:], mode='bilinear', align_corners=False))
"""


@pytest.mark.parametrize(("corners", "is_right"), [(False, True), (True, False)])
def test_pictures_of_odd_sizes_are_resized_with_the_rounding_of_float32(compare, corners, is_right):
    port = RESIZED.replace("Conv2d", "Conv2D"), RESIZE.format(corners, "x.shape")
    verdict = compare((RESIZED, RESIZE.format(False, "x.shape")), port, shape=(2, 3, 35, 35))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()


def test_the_target_has_the_size_of_the_training(compare):
    parts, forward = "self.a = nn.{}(3, 2, 3, padding=1)", "return self.a(x)"
    train = Training(shape=(4, 3, 8, 6), steps=2, curve_side=0)
    nets = (parts.format("Conv2d"), forward), (parts.format("Conv2D"), forward)
    verdict = compare(*nets, shape=(2, 3, 10, 10), train=train)
    assert verdict.status == "pass", verdict.first_problem()
