"""Mixed precision covers forward pass and loss, in training and evaluation; fakes replace a GPU."""

from contextlib import contextmanager

import paddle
import pytest

from engine.amp import FLOAT32, Precision, choose_precision
from engine.evaluate import evaluate, evaluate_samples
from engine.losses import cross_entropy
from tests.engine.test_train import ACCUM, STEPS, new_state, train
from tests.engine.tiny import eval_loader, tiny_net


class WatchedPrecision:
    """Precision that knows whether the code inside its context is running."""

    is_entered = False

    @contextmanager
    def autocast(self):
        self.is_entered = True
        yield
        self.is_entered = False


@pytest.mark.parametrize("run", [evaluate, evaluate_samples])
def test_evaluation_computes_in_the_precision_it_is_given(run):
    precision, model, inside = WatchedPrecision(), tiny_net(), []
    model.register_forward_pre_hook(lambda layer, inputs: inside.append(precision.is_entered))
    run(model, eval_loader(9, 4), precision=precision)
    assert inside == [True] * 3


def test_training_computes_forward_pass_and_loss_in_the_precision_it_is_given():
    precision, state, inside, inside_backward = WatchedPrecision(), new_state(), [], []
    state.model.register_forward_pre_hook(lambda layer, inputs: inside.append(precision.is_entered))
    state.model[5].weight.register_hook(lambda gradient: inside_backward.append(precision.is_entered))

    def loss_fn(logits, labels):
        inside.append(precision.is_entered)
        return cross_entropy()(logits, labels)

    train(state, precision=precision, loss_fn=loss_fn)
    assert inside == [True] * 2 * STEPS * ACCUM
    assert inside_backward == [False] * STEPS * ACCUM


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_arguments_of_paddle_for_each_type(monkeypatch, dtype):
    asked = []
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **options: asked.append(options))
    monkeypatch.setattr(paddle.amp, "GradScaler", lambda **options: asked.append(options))
    Precision(dtype).autocast()
    Precision(dtype).scaler()
    cast, scaler = asked
    assert cast["enable"] == (dtype != "float32")
    if dtype != "float32":
        assert cast["dtype"] == dtype
    assert scaler == {"enable": dtype == "float16", "init_loss_scaling": 65536.0}


@pytest.mark.parametrize(
    ("device", "use_amp", "dtype", "expected"),
    [
        ("gpu:0", True, "float16", "float16"),
        ("gpu:3", True, "bfloat16", "bfloat16"),
        ("gpu:0", False, "bfloat16", "float32"),
        ("cpu", True, "bfloat16", "float32"),
        ("cpu", False, "float16", "float32"),
    ],
)
def test_the_precision_by_flag_and_device(monkeypatch, caplog, device, use_amp, dtype, expected):
    monkeypatch.setattr(paddle, "get_device", lambda: device)
    precision = choose_precision(use_amp, dtype)
    assert precision.dtype == expected
    assert ("mixed precision is ignored" in caplog.text) == (use_amp and device == "cpu")


def test_float32_is_the_default():
    assert Precision() == FLOAT32 and FLOAT32.dtype == "float32"
    assert not FLOAT32.scaler().is_enable()
