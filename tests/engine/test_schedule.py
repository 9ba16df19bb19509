"""Learning rates equal those that PeleeNet-paddle printed."""

import pytest

from configs.schema import ScheduleConfig
from engine.schedule import create_schedule, step_decay, warmup_cosine


@pytest.mark.parametrize(
    ("t", "expected"),
    [(0.5, 0.17999229), (1, 0.17996916), (30, 0.15363961), (60, 0.09), (90, 0.02636039), (119, 3.084e-05)],
)
def test_cosine_of_the_published_recipe(t, expected):
    learning_rate = warmup_cosine(0.18, ScheduleConfig(epochs=120, warmup_epochs=0, min_lr=0.0))
    assert learning_rate(int(t), int(t % 1 * 100), 100) == pytest.approx(expected, rel=2e-4, abs=5e-9)


@pytest.mark.parametrize(("t", "expected"), [(0, 0), (2.5, 2.5e-4), (5, 5e-4), (150, 2.5714e-4), (300, 1e-6)])
def test_cosine_with_warmup_of_the_default_recipe(t, expected):
    learning_rate = warmup_cosine(5e-4, ScheduleConfig())
    assert learning_rate(int(t), int(t % 1 * 100), 100) == pytest.approx(expected, rel=1e-4)


def test_cosine_is_new_at_every_step_or_held_for_an_epoch():
    by_step, by_epoch = (
        warmup_cosine(0.1, ScheduleConfig(epochs=10, warmup_epochs=0, min_lr=0.0, t_in_epochs=held))
        for held in (False, True)
    )
    assert by_step(3, 0, 10) > by_step(3, 1, 10) > by_step(3, 9, 10)
    assert by_epoch(3, 0, 10) == by_epoch(3, 9, 10) == by_step(3, 0, 10)


def test_step_decay():
    learning_rate = step_decay(0.1, ScheduleConfig(decay_epochs=30, decay_rate=0.1, warmup_epochs=2))
    assert [learning_rate(epoch, 5, 10) for epoch in (29, 30, 60)] == pytest.approx([0.1, 0.01, 0.001])
    assert learning_rate(0, 5, 10) == pytest.approx(0.025)


@pytest.mark.parametrize("t_in_epochs", [False, True])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Warm-up in 4 epochs from 0.1 to 0.4; then a cosine down to 0.02 at epoch 24, or half as much every 5 epochs.
        ("cosine", {(0, 0): 0.1, (1, 5): 0.2125, (3, 9): 0.3925, (4, 0): 0.4, (14, 0): 0.21, (24, 0): 0.02}),
        ("step", {(0, 0): 0.1, (1, 5): 0.2125, (3, 9): 0.3925, (4, 9): 0.4, (5, 0): 0.2, (14, 9): 0.1, (24, 0): 0.025}),
    ],
)
def test_each_schedule_gets_every_option_that_concerns_it(name, expected, t_in_epochs):
    config = ScheduleConfig(
        sched=name,
        epochs=24,
        warmup_epochs=4,
        warmup_lr=0.1,
        min_lr=0.02,
        t_in_epochs=t_in_epochs,
        decay_epochs=5,
        decay_rate=0.5,
    )
    learning_rate = create_schedule(config, 0.4)
    if t_in_epochs:  # in the warm-up the value of the first step of the epoch
        expected = expected | {(1, 5): 0.175, (3, 9): 0.325}
    assert {place: learning_rate(*place, 10) for place in expected} == pytest.approx(expected)
