"""A step with a bad number is left out as if it had never been, within a budget that survives a restart."""

import numpy as np
import paddle
import pytest
from test_train import STEPS, everything, new_state, train

from engine.errors import NonFiniteLossError
from engine.losses import cross_entropy


def poisoned(state, steps, value=float("nan")):
    return lambda logits, labels: cross_entropy(0.1)(logits, labels) * (value if state.next_step in steps else 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_left_out_changes_nothing_but_the_count(value, capsys):
    state = new_state()
    train(state, loss_fn=poisoned(state, range(STEPS), value), skip_nonfinite=STEPS)
    untouched = new_state()
    a, b = everything(state), everything(untouched)
    assert all(np.array_equal(a[name], b[name]) for name in a if name.startswith(("model/", "ema/")))
    assert state.num_skipped == STEPS and state.loss_meter.count == 0 and state.next_step == STEPS
    lines = capsys.readouterr().out
    assert f"step 0 of epoch 0 is left out (1 of {STEPS} allowed): the loss is" in lines and "0, 1, 2, 3" in lines


def test_a_gradient_that_is_not_finite():
    state = new_state()
    weight = state.model[5].weight
    weight.register_hook(lambda gradient: gradient * float("inf") if state.next_step == 3 else gradient)
    train(state, skip_nonfinite=2)
    assert state.num_skipped == 1 and state.loss_meter.count == STEPS - 1
    assert all(np.isfinite(array).all() for array in everything(state).values())


def test_the_budget_is_exact_and_survives_a_restart(tmp_path):
    state, path = new_state(), tmp_path / "checkpoint-latest.pd"
    with pytest.raises(NonFiniteLossError, match="step 4, "):
        train(state, loss_fn=poisoned(state, (1, 2, 4)), skip_nonfinite=2, save=lambda: state.save(path), save_steps=1)
    resumed = new_state(seed=1)
    resumed.restore(path)
    assert (resumed.num_skipped, resumed.next_step) == (2, 4)
    with pytest.raises(NonFiniteLossError, match="step 4, "):
        train(resumed, loss_fn=poisoned(resumed, (4,)), skip_nonfinite=2)


def test_weights_that_were_broken_before_are_named_when_all_steps_were_left_out():
    state = new_state()
    state.model[5].bias.set_value(paddle.full([7], float("nan")))
    with pytest.raises(NonFiniteLossError, match="the weights are no longer finite in epoch 0: they were not when"):
        train(state, skip_nonfinite=STEPS)


def test_a_budget_that_is_not_needed_changes_no_bit():
    a, b = new_state(), new_state()
    train(a)
    train(b, skip_nonfinite=5)
    a, b = everything(a), everything(b)
    assert all(np.array_equal(a[name], b[name]) for name in a)
