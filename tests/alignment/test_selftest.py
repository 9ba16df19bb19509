"""The self-test: every mutation is found and its layer named, no right port fails, and scores are counted right."""

import pytest

from alignment.selftest.mutations import MUTATIONS
from alignment.selftest.scoreboard import LEGEND, summary, table
from alignment.selftest.trials import Outcome, run_right_port, try_mutation

WARNING = "ignore:When training, we now always track"


def test_there_are_at_least_forty_mutations():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 40


@pytest.mark.torch
@pytest.mark.filterwarnings(WARNING)
def test_no_right_port_fails_with_other_seeds(reference):
    assert {run_right_port(number, reference).status for number in range(100, 104)} == {"pass"}


@pytest.mark.torch
@pytest.mark.filterwarnings(WARNING)
@pytest.mark.parametrize("net", ["ladder", pytest.param("fork", marks=pytest.mark.slow)])
@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if "data" not in m.stages], ids=lambda m: m.name)
def test_every_mutation_is_found_and_its_layer_named(mutation, net, reference):
    outcome = try_mutation(mutation, net, reference)
    assert outcome.is_found and outcome.is_layer_named in (True, None), outcome.message


def test_scores_count_found_mutations_named_layers_and_false_alarms():
    first, second = MUTATIONS[:2]
    outcomes = [
        Outcome(first.name, "ladder", True, True, "forward: first difference norm1"),
        Outcome(first.name, "fork", True, False, ""),
        Outcome(second.name, "ladder", True, None, ""),
        Outcome(second.name, "fork", False, False, ""),
    ]
    peers = {"PaDiff": {"ladder": {first.name: True, "clean 0": True}, "fork": {second.name: True, "clean 1": False}}}
    assert summary(outcomes, 1, 2, peers) == {
        "alignment": "3 of 4 found, 1 of 3 layers named, 1 false alarms in 2 clean runs",
        "PaDiff": "2 of 4 found, 1 false alarms in 2 clean runs",
    }
    lines = table(outcomes, peers, [first, second])
    assert lines[1].removeprefix(first.name).split()[:2] == ["L?", "+-"]
    assert lines[2].removeprefix(second.name).split() == ["+-", "-+"] and lines[3] == LEGEND
