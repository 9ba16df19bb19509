"""A resumed run with other settings is refused, warns, or continues, by the rule of each flag."""

import pytest

from common.errors import CheckpointError
from configs.declare import ON_RESUME
from configs.loader import as_dict, parse, resume_rules
from configs.schema import TrainConfig
from engine.resume_check import check_resumable, checksum_of_source

RULES = resume_rules(TrainConfig)
ARGS = as_dict(parse(TrainConfig, [], prog="main.py"))
THEN = {"args": ARGS, "effective_batch": 64, "images": "aaaa", "code": "1111"}


def now(**changes) -> dict:
    args = {name: value for name, value in changes.items() if name in ARGS}
    return THEN | {"args": ARGS | args} | {n: v for n, v in changes.items() if n not in ARGS}


@pytest.fixture
def check(caplog):
    """Compare a run with changed settings; returns the lines that were logged."""

    def check(is_inside_epoch: bool, then: dict = THEN, **changes) -> list[str]:
        caplog.clear()
        check_resumable(then, now(**changes), RULES, is_inside_epoch=is_inside_epoch, source="c.pd")
        return caplog.messages

    return check


def test_every_flag_of_training_says_what_a_resumed_run_does_when_it_changed():
    assert RULES.keys() == ARGS.keys()
    assert set(RULES.values()) == set(ON_RESUME)


@pytest.mark.parametrize("changes", [{"model": "alexnet"}, {"nb_classes": 10}, {"opt": "sgd"}])
@pytest.mark.parametrize("is_inside_epoch", [True, False])
def test_what_does_not_fit_is_refused(check, changes, is_inside_epoch):
    with pytest.raises(CheckpointError, match=f"--{next(iter(changes))} was .* and is"):
        check(is_inside_epoch, **changes)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"effective_batch": 32}, {"images": "bbbb"}])
def test_another_order_is_refused_inside_an_epoch_and_logged_between_two(check, changes):
    with pytest.raises(CheckpointError, match=r"(?s)cannot be continued in the middle of an epoch .*\nset them back"):
        check(True, **changes)
    assert len(check(False, **changes)) == 1


@pytest.mark.parametrize(
    "changes",
    [{"lr": 1.0}, {"epochs": 7}, {"weight_decay": 0.0}, {"aa": ""}, {"smoothing": 0.0}, {"code": "2222"},
     {"batch_size": 8}, {"accum_iter": 4}],
)  # fmt: skip
@pytest.mark.parametrize("is_inside_epoch", [True, False])
def test_other_numbers_are_logged(check, changes, is_inside_epoch):
    """Another batch size is allowed where the images of a step are the same: 4 processes, then 2 with accumulation."""
    lines = check(is_inside_epoch, **changes)
    assert len(lines) == 1 and "c.pd" in lines[0]


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_workers": 3}, {"output_dir": "x"}, {"log_every": 1}, {"data_path": "y"}, {"save_steps": 9}],
)
def test_what_changes_no_number_is_silent(check, changes):
    assert check(True, **changes) == []


def test_the_way_to_fewer_processes_is_named(check):
    with pytest.raises(CheckpointError, match="here with --accum_iter 2"):
        check(True, effective_batch=32)


def test_older_and_newer_checkpoints_know_other_flags(check):
    then = {"args": {"seed": 0, "gone": 3}}
    assert check(True, then) == []


def test_checksums_see_names_and_contents(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = checksum_of_source([tmp_path])
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    second = checksum_of_source([tmp_path])
    (tmp_path / "b.py").write_text("2")
    assert len({first, second, checksum_of_source([tmp_path])}) == 3
