"""A step whose loss or gradient is not finite is skipped without a trace, within a budget that survives a restart."""

import numpy as np
import paddle
import pytest

from common.errors import NonFiniteLossError
from engine.checkpoint import read_checkpoint
from engine.losses import cross_entropy
from tests.engine.test_train import STEPS, FakeSaver, everything, new_state, train


def poisoned(state, steps, value=float("nan")):
    return lambda logits, labels: cross_entropy(0.1)(logits, labels) * (value if state.next_step in steps else 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_skipped_step_changes_nothing_but_the_count(value, caplog):
    state = new_state()
    train(state, loss_fn=poisoned(state, range(STEPS), value), skip_nonfinite=STEPS)
    untouched = new_state()
    a, b = everything(state), everything(untouched)
    assert all(np.array_equal(a[name], b[name]) for name in a if name.startswith(("model/", "ema/")))
    assert state.num_skipped == STEPS and state.loss_meter.count == 0 and state.next_step == STEPS
    lines = caplog.text
    assert (
        f"step 0 of epoch 0 is skipped (1 of {STEPS} allowed): the loss is" in lines and "val/0.jpg, val/1.jpg" in lines
    )


def test_a_gradient_that_is_not_finite():
    state = new_state()
    weight = state.model[5].weight
    weight.register_hook(lambda gradient: gradient * float("inf") if state.next_step == 3 else gradient)
    train(state, skip_nonfinite=2)
    assert state.num_skipped == 1 and state.loss_meter.count == STEPS - 1
    assert all(np.isfinite(array).all() for array in everything(state).values())


class Float16Scaler:
    """The scaler of a GPU as far as a step meets it: a gradient that overflowed is not applied, the scale is halved."""

    scale_now, has_overflowed = 1024.0, False

    def is_enable(self):
        return True

    def scale(self, loss):
        return loss

    def step(self, optimizer):
        gradients = [p.grad for p in optimizer._parameter_list if p.grad is not None]
        self.has_overflowed = not all(bool(gradient.isfinite().all()) for gradient in gradients)
        if not self.has_overflowed:
            optimizer.step()

    def update(self):
        if self.has_overflowed:
            self.scale_now /= 2


def test_an_overflow_in_float16_is_left_to_the_scaler_and_does_not_count():
    state = new_state()
    state.scaler = Float16Scaler()
    overflows = (1, 3, 4)
    weight = state.model[5].weight
    weight.register_hook(lambda gradient: gradient * float("inf") if state.next_step in overflows else gradient)
    train(state, skip_nonfinite=2)
    assert state.num_skipped == 0 and state.loss_meter.count == STEPS
    assert state.scaler.scale_now == 1024 / 2 ** len(overflows)
    assert all(np.isfinite(array).all() for array in everything(state).values())


def test_a_loss_in_float16_that_is_not_finite_counts():
    state = new_state()
    state.scaler = Float16Scaler()
    train(state, loss_fn=poisoned(state, (1, 3)), skip_nonfinite=3)
    assert state.num_skipped == 2 and state.loss_meter.count == STEPS - 2
    assert state.scaler.scale_now == 1024


def test_the_budget_is_exact_and_survives_a_restart(tmp_path):
    state, path = new_state(), tmp_path / "checkpoint-latest.pd"
    with pytest.raises(NonFiniteLossError, match="step 4, "):
        train(state, FakeSaver(state, path, 1), loss_fn=poisoned(state, (1, 2, 4)), skip_nonfinite=2)
    resumed = new_state(seed=1)
    resumed.restore(read_checkpoint(path))
    assert (resumed.num_skipped, resumed.next_step) == (2, 4)
    with pytest.raises(NonFiniteLossError, match="step 4, "):
        train(resumed, loss_fn=poisoned(resumed, (4,)), skip_nonfinite=2)


def test_weights_that_were_not_finite_before_are_named_when_all_steps_were_skipped():
    state = new_state()
    state.model[5].bias.set_value(paddle.full([7], float("nan")))
    with pytest.raises(NonFiniteLossError, match="in epoch 0: they were not finite before the last steps"):
        train(state, skip_nonfinite=STEPS)


def test_a_budget_that_is_not_needed_changes_no_bit():
    a, b = new_state(), new_state()
    train(a)
    train(b, skip_nonfinite=5)
    a, b = everything(a), everything(b)
    assert all(np.array_equal(a[name], b[name]) for name in a)
