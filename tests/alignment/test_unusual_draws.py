"""Random draws of functions that few nets call: right ports match, wrong ones do not, or they are not judged."""

import pytest

from alignment.report.text import conclusion

pytestmark = pytest.mark.torch
HEAD = "self.head = nn.Linear(6, 5)"
SHORTCUT = "self.a, self.b, self.act = nn.Linear(6, 6), nn.Linear(6, 6), {}"


HEADS_APART = "q = self.head(x).reshape([len(x), 2, 3, 2])\n"  # [batch, heads, length, width] in torch
TURNED = "q = self.head(x).reshape([len(x), 2, 3, 2]).transpose([0, 2, 1, 3])\n"  # Paddle's functions take it so
WRITTEN = HEADS_APART + "y = F.dropout(F.softmax(q @ q.transpose([0, 1, 3, 2]) * 2**-0.5), {}) @ q\n"
FUNCTION = "y = F.scaled_dot_product_attention(q, q, q, None, {}{})"


@pytest.mark.parametrize(
    ("options", "port", "is_right"),
    [
        ("", WRITTEN.format(0.3), True),
        ("", WRITTEN.format(0.4), False),
        ("", f"{TURNED}{FUNCTION.format(0.3, '')}.transpose([0, 2, 1, 3])\n", True),
        (", is_causal=True", f"{TURNED}{FUNCTION.format(0.3, ', is_causal=True')}.transpose([0, 2, 1, 3])\n", True),
        (", is_causal=True", WRITTEN.format(0.3), False),
        (", scale=0.2", WRITTEN.replace("2**-0.5", "0.2").format(0.3), True),
    ],
)
def test_dropout_in_the_function_of_attention(compare, options, port, is_right):
    parts, end = "self.head = nn.Linear(6, 12)", "return y.flatten(1) * 1.0"
    expected = f"{HEADS_APART}{FUNCTION.format(0.3, options)}\n"
    verdict = compare((parts, expected + end), (parts, port + end), ("weights", "backward", "train"))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()


@pytest.mark.parametrize(
    ("parts", "expected", "port"),
    [
        ("", "torch.normal(y.detach(), 0.5)", "paddle.normal(y.detach(), 0.5)"),
        ("", "torch.normal(0.1, 0.5, (len(y), 6))", "paddle.normal(0.1, 0.5, [len(y), 6])"),
        ("", "y + torch.empty_like(y).normal_()", "y + paddle.empty_like(y).normal_()"),
        ("nn.RReLU()", "self.act(y)", "self.act(y)"),
        ("nn.FeatureAlphaDropout(0.4)", "self.act(y.reshape(-1, 2, 3)).flatten(1)",
         "F.feature_alpha_dropout(y.reshape([-1, 2, 3]), 0.4, self.training).flatten(1)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_right", [True, False])
def test_draws_are_paired(compare, parts, expected, port, is_right):
    parts = SHORTCUT.format(parts or "nn.ReLU()")
    forward = "y = self.a(x)\nreturn self.b(x) + {}"
    wrong = "" if is_right else " * 1.01"
    verdict = compare(
        (parts, forward.format(expected)),
        (parts.replace("nn.FeatureAlphaDropout(0.4)", "None"), forward.format(port) + wrong),
        ("weights", "backward", "train"),
    )
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_draws_that_are_run_once_more_in_the_backward_are_not_judged(compare, use_reentrant):
    drop = "F.dropout(y, 0.4, training=self.training)"
    expected = (
        "import torch.utils.checkpoint as c\n"
        f"return self.head(c.checkpoint(lambda y: {drop}, x * 1, use_reentrant={use_reentrant}))"
    )
    verdict = compare((HEAD, expected), (HEAD, f"return self.head((lambda y: {drop})(x))"))
    assert [stage.status for stage in verdict.stages][:2] == ["pass", "pass"]
    assert verdict.status == "inconclusive", verdict.first_problem()
    assert "torch.utils.checkpoint" in conclusion(verdict)
