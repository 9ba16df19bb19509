"""Trials with ports of published networks: sixty mistakes, and right ports with other seeds."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from common.printable import print_safely

from ..case import read_case
from ..paddle_side.port import Port
from ..reference import Reference
from ..report.text import conclusion
from ..runner import run_stages
from ..verdict import FAIL, PASS, Verdict
from .net_mutations import STAGES, NetMutation

NETS = ("resnet18", "mobilenet_v2", "vit", "convnext", "lstm_classifier")
FIRST_CLEAN_SEED = 2000
LEGEND = "found, layer named, cause named: + or -"


class NetOutcome(NamedTuple):
    """Result for one mistake in one net.

    Attributes:
        net: name of the case.
        mutation: name of the mistake.
        is_found: whether a stage failed.
        is_layer_named: whether the first problem names the wrong layer.
        is_cause_named: whether a problem says what is wrong.
        message: the last line of the run.
    """

    net: str
    mutation: str
    is_found: bool
    is_layer_named: bool
    is_cause_named: bool
    message: str


def try_net_mutation(entry: NetMutation, reference: Reference, seed: int = 0) -> NetOutcome:
    """Run the stages on a port with a mistake until one does not pass."""
    case = replace(read_case(entry.net), seed=seed)
    port, wrong_layers = entry.mutation.apply(Port.of_case(case))
    verdict = run_stages(case, entry.mutation.stages, reference, port=port, stops_early=True)
    problem = verdict.first_problem()
    is_found = verdict.status == FAIL
    texts = [f"{check.layer} {check.detail} {' '.join(check.hints)}".lower() for check in verdict.problems()]
    return NetOutcome(
        entry.net, entry.mutation.name, is_found,
        is_found and wrong_layers[0] in f"{problem.layer} {problem.detail}",
        is_found and any(entry.cause.lower() in text for text in texts),
        conclusion(verdict),
    )  # fmt: skip


def run_right_net(number: int, reference: Reference) -> Verdict:
    """Run the stages on a right port; weights, images and labels are of a seed of their own for each number."""
    case = replace(read_case(NETS[number % len(NETS)]), seed=FIRST_CLEAN_SEED + number)
    verdict = run_stages(case, STAGES, reference, port=Port.of_case(case))
    if verdict.status != PASS:
        print_safely(f"false alarm in clean run {number}: {conclusion(verdict)}", sys.stderr)
    return verdict


def net_lines(outcomes: Iterable[NetOutcome]) -> list[str]:
    """One line for each mistake."""
    lines = []
    for outcome in outcomes:
        marks = "".join("+" if mark else "-" for mark in outcome[2:5])
        lines.append(f"{outcome.net:<16} {outcome.mutation:<45} {marks}  {outcome.message[:150]}")
    return [*lines, LEGEND]


def net_summary(outcomes: list[NetOutcome], num_alarms: int, num_clean: int) -> str:
    """One sentence with the counts.

    Args:
        outcomes: of the mistakes.
        num_alarms: number of right ports that did not pass.
        num_clean: number of right ports.
    """
    found, layers, causes = (sum(outcome[k] for outcome in outcomes) for k in (2, 3, 4))
    return (
        f"{found} of {len(outcomes)} found, {layers} layers named, {causes} causes named, "
        f"{num_alarms} false alarms in {num_clean} clean runs"
    )
