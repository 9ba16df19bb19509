"""Right ports whose tensors, tables or names differ from the reference's without effect match, wrong ones do not."""

import numpy as np
import pytest

from alignment.case import Input, Training
from alignment.paddle_side.tables import set_tables, tables_of

pytestmark = pytest.mark.torch
SPECTRAL = "self.conv = nn.utils.spectral_norm(nn.{}(3, 4, 3))\nself.head = nn.Linear(4, 3)"
MEAN = "return self.head(F.relu(self.conv(x)).mean((2, 3)))"
TWO = ("forward", "backward")


@pytest.mark.parametrize(("end", "is_right"), [("", True), (" * 1.001", False)])
def test_a_spectral_norm_is_run_alone_from_the_state_of_its_call(compare, end, is_right):
    verdict = compare((SPECTRAL.format("Conv2d"), MEAN), (SPECTRAL.format("Conv2D"), MEAN + end), shape=(4, 3, 8, 8))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.problems()


TABLE = "self.head = nn.Linear(6, 3)\nplaces = {0}.arange(6, dtype='float32') / {1}\n"
PORT_TABLE = TABLE.format("paddle", "{}") + "self.register_buffer('waves', places.cos(), persistable=False)"
TORCH_TABLE = (
    TABLE.format("torch", "7").replace("'float32'", "torch.float32") + "self.waves = places.cos() * (1 + 1e-7)"
)
WAVES = "return self.head(F.relu(x * self.waves))"


@pytest.mark.parametrize(("divisor", "is_right"), [(7, True), (7.02, False)])
def test_a_table_outside_of_the_state_may_differ_by_rounding(compare, divisor, is_right):
    verdict = compare((TORCH_TABLE, WAVES), (PORT_TABLE.format(divisor), WAVES), TWO)
    assert verdict.status == ("pass" if is_right else "fail"), verdict.problems()


def test_only_tables_that_are_nearly_equal_are_given_the_values_of_the_reference():
    import paddle

    layer = paddle.nn.Linear(2, 2)
    layer.register_buffer("near", paddle.to_tensor([1.0, 2.0]), persistable=False)
    layer.register_buffer("far", paddle.to_tensor([5.0, 2.0, 1.0]), persistable=False)
    layer.register_buffer("places", paddle.arange(3), persistable=False)
    set_tables(layer, [np.array([1.5, 2.0]), np.array([1.0, 2.0001]), np.array([5.1, 2.0, 1.0])])
    assert [value.tolist() for value in tables_of(layer)] == [[5.0, 2.0, 1.0], pytest.approx([1.0, 2.0001])]


ATTENTION = "self.attn, self.head = nn.{}(6, 2), nn.Linear(6, 3)"
FIRST = "y = x.transpose(0, 1)\nreturn self.head(self.attn(y, y, y, need_weights=False)[0][-1]{})"
RNN = "self.rnn, self.head = nn.LSTM(6, 4, {}), nn.Linear(8, 3)"
SEQUENCES = {
    "attention": (
        (ATTENTION.format("MultiheadAttention"), FIRST.format("")),
        (ATTENTION.format("MultiHeadAttention"), "return self.head(self.attn(x, x, x)[:, -1]{})"),
    ),
    "LSTM": (
        (RNN.format("bidirectional=True"), "return self.head(self.rnn(x.transpose(0, 1))[0][-1])"),
        (RNN.format("direction='bidirect'"), "return self.head(self.rnn(x)[0][:, -1]{})"),
    ),
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_the_port_may_have_the_batch_first(compare, kind):
    expected, (parts, forward) = SEQUENCES[kind]
    assert (right := compare(expected, (parts, forward.format("")), shape=(4, 5, 6))).status == "pass", right.problems()
    wrong = compare(expected, (parts, forward.format(" * 1.001")), TWO, (4, 5, 6)).first_problem()
    assert wrong.layer in ("head", "(logits)"), wrong


SHARED = "self.words, self.body = nn.Embedding(7, 6), nn.Linear(6, 6)"
SHARED_HEAD = SHARED + "\nself.head = nn.Linear(6, 7)\nself.head.weight = self.words.weight"
BIAS = SHARED + "\nself.bias = self.create_parameter([7], is_bias=True)"


@pytest.mark.parametrize("keys", [{}, {"rename": {"head.bias": "bias"}}])
@pytest.mark.parametrize(("end", "is_right"), [("", True), (" * 1.001", False)])
def test_the_bias_beside_a_shared_matrix_may_be_a_parameter_of_its_own(compare, keys, end, is_right):
    used = "{}.tanh(self.body(self.words(ids).mean(1)))"
    product = f"return paddle.matmul({used.format('paddle')}, self.words.weight, transpose_y=True) + self.bias{end}"
    verdict = compare(
        (SHARED_HEAD, f"return self.head({used.format('torch')})".replace("ids", "x")),
        (BIAS, product.replace("ids", "x")),
        shape=(4, 5), inputs={"x": Input([4, 5], [0, 6], "int64")}, **keys,
    )  # fmt: skip
    assert verdict.status == ("pass" if is_right else "fail"), verdict.problems()


def test_softmaxes_as_functions_are_not_judged_beyond_the_depth_of_paddles(compare):
    parts, forward = "self.head = nn.Linear(6, 4)", "return F.log_softmax(self.head(x) * 8, {}=1)"
    verdict = compare((parts, forward.format("dim")), (parts, forward.format("axis")), ("forward",))
    assert verdict.status == "pass" and "stops falling" in verdict.remarks()[0].hints[0], verdict.stages


@pytest.mark.parametrize(("power", "is_right"), [("-0.5", True), ("-0.51", False)])
def test_inputs_stay_in_the_range_that_the_case_gives(compare, power, is_right):
    parts, forward = "self.head = nn.Linear(6, 3)", "return self.head(x.sum(1, keepdim=True).pow({}) * x)"
    keys = {"shape": (4, 6), "inputs": {"x": Input([4, 6], [0.1, 1], "float32")}}
    verdict = compare((parts, forward.format("-0.5")), (parts, forward.format(power)), ("forward",), **keys)
    assert verdict.status == ("pass" if is_right else "fail"), verdict.problems()
    assert is_right is (verdict.first_problem() is None)


RESIZED = "self.a, self.b, self.c = nn.{0}(3, 4, 1), nn.{0}(3, 4, 1), nn.{0}(8, 2, 3)"
LATER = (
    "y = F.interpolate(self.a(x), size=(15, 15), mode='bilinear', align_corners=True)\n"
    "z = self.b(F.interpolate(x, scale_factor=2, mode='nearest'))[:, :, :15, :15]\n"
    "return self.c({}([y, z], 1)).mean((2, 3))"
)


def test_what_an_interpolation_returns_may_be_used_after_later_layers(compare):
    right = compare(
        (RESIZED.format("Conv2d"), LATER.format("torch.cat")),
        (RESIZED.format("Conv2D"), LATER.format("paddle.concat")),
        shape=(2, 3, 8, 8), train=Training(shape=(4, 3, 8, 8), steps=3, curve_side=0),
    )  # fmt: skip
    assert right.status == "pass", right.problems()


@pytest.mark.parametrize("end", ["self.head(x) * self.scale.exp()", "{'y': self.head(x), 'scale': self.scale.exp()}"])
def test_a_parameter_without_axes(compare, end):
    parts = "self.head, self.scale = nn.Linear(6, 3), {}"
    forward = f"return {end}"
    verdict = compare(
        (parts.format("nn.Parameter(torch.ones([]))"), forward),
        (parts.format("self.create_parameter([], default_initializer=nn.initializer.Constant(1.0))"), forward),
    )
    assert verdict.status == "pass", verdict.problems()


def test_a_weight_that_is_made_of_others_is_no_table(compare):
    layers = "self.conv, self.head = nn.utils.weight_norm(nn.{}(3, 4, 3), dim=0), nn.Linear(4, 3)\n{}"
    expected = layers.format("Conv2d", "self.waves = torch.arange(4.0).cos()")
    port = layers.format("Conv2D", "self.waves = paddle.arange(4, dtype='float32').cos()")
    forward = "return self.head(self.conv(x).mean((2, 3)) * self.waves)"
    verdict = compare((expected, forward), (port, forward), shape=(4, 3, 8, 8))
    assert verdict.status == "pass", verdict.problems()
