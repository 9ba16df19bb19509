"""The self-test: every mutation is found and its layer named, no right port fails, and scores are counted right."""

import pytest

from alignment.selftest.layer_trials import Outcome as LayerOutcome
from alignment.selftest.layer_trials import layer_summary, try_layer
from alignment.selftest.layer_zoo import ZOO
from alignment.selftest.mutations import MUTATIONS
from alignment.selftest.net_mutations import NET_MUTATIONS
from alignment.selftest.net_trials import NETS, NetOutcome, net_summary, run_right_net, try_net_mutation
from alignment.selftest.scoreboard import LEGEND, summary, table
from alignment.selftest.trials import Outcome, run_right_port, try_mutation

WARNING = "ignore:When training, we now always track"


def test_there_are_at_least_forty_mutations():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 40


@pytest.mark.torch
@pytest.mark.filterwarnings(WARNING)
@pytest.mark.parametrize("seed", [100, 101, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (102, 103))])
def test_no_right_port_fails_with_other_seeds(seed, reference):
    assert run_right_port(seed, reference).status == "pass"


@pytest.mark.torch
@pytest.mark.filterwarnings(WARNING)
@pytest.mark.parametrize("net", ["ladder", pytest.param("fork", marks=pytest.mark.slow)])
@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if "data" not in m.stages], ids=lambda m: m.name)
def test_every_mutation_is_found_and_its_layer_named(mutation, net, reference):
    outcome = try_mutation(mutation, net, reference)
    assert outcome.is_found and outcome.is_layer_named in (True, None), outcome.message


QUICK = ("BatchNorm2D", "MaxPool2D", "ReLU")  # a setting in float64, one that no value reaches, another kind


def test_there_are_at_least_eighty_kinds_of_layers():
    assert len(ZOO) >= 80


@pytest.mark.torch
@pytest.mark.filterwarnings(WARNING)
@pytest.mark.parametrize(
    "entry", [pytest.param(entry, marks=() if entry in QUICK else pytest.mark.slow) for entry in ZOO]
)
def test_a_right_layer_matches_and_a_wrong_one_is_named(entry, reference):
    outcome = try_layer(entry, reference)
    assert (outcome.is_alarm, outcome.is_found, outcome.is_named) == (False, True, True), outcome.message


QUICK_NETS = ("vit: GELU by tanh", "convnext: residual left out", "lstm_classifier: gates in another order")


def test_there_are_sixty_mistakes_in_five_nets():
    names = [f"{entry.net}: {entry.mutation.name}" for entry in NET_MUTATIONS]
    assert len(set(names)) == len(names) == 60 and {entry.net for entry in NET_MUTATIONS} == set(NETS)
    assert set(QUICK_NETS) <= set(names)


@pytest.mark.torch
@pytest.mark.filterwarnings(WARNING)
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=name, marks=() if name in QUICK_NETS else pytest.mark.slow)
        for entry in NET_MUTATIONS
        for name in [f"{entry.net}: {entry.mutation.name}"]
    ],
)
def test_a_mistake_in_a_published_net_is_found_placed_and_explained(entry, reference):
    outcome = try_net_mutation(entry, reference)
    assert (outcome.is_found, outcome.is_layer_named, outcome.is_cause_named) == (True, True, True), outcome.message


@pytest.mark.torch
@pytest.mark.filterwarnings(WARNING)
@pytest.mark.parametrize(
    "number", [pytest.param(k, marks=() if k in (2, 3, 4) else pytest.mark.slow) for k in range(10)]
)
def test_no_right_port_of_a_published_net_fails(number, reference):
    assert run_right_net(number, reference).status == "pass"


def test_mistakes_in_nets_are_counted():
    outcomes = [NetOutcome("a", "x", True, True, False, ""), NetOutcome("a", "y", False, False, False, "")]
    assert net_summary(outcomes, 1, 20) == (
        "1 of 2 found, 1 layers named, 0 causes named, 1 false alarms in 20 clean runs"
    )


def test_layers_are_counted():
    outcomes = [LayerOutcome("a", False, True, True, ""), LayerOutcome("b", True, True, False, "")]
    assert layer_summary(outcomes) == "2 kinds of layers: 1 false alarms, 2 mistakes found, 1 named"


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
