"""Run the layer zoo: every kind of layer right, and wrong in one setting; count false alarms and named mistakes."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from common.printable import print_safely

from ..case import Case, Training
from ..reference import Reference
from ..report.text import conclusion
from ..runner import run_stages
from ..verdict import FAIL, PASS, Verdict
from .layer_zoo import ZOO

STAGES = ("weights", "initialisation", "forward", "backward", "train")
SHAPE = (4, 3, 12, 12)


class Outcome(NamedTuple):
    """Result for one kind of layer.

    Attributes:
        entry: the kind.
        is_alarm: whether the right layer does not match.
        is_found: whether the wrong layer does not match.
        is_named: whether a problem is at the layer and has the word of the entry.
        message: the last lines of both runs, for what went wrong.
    """

    entry: str
    is_alarm: bool
    is_found: bool
    is_named: bool
    message: str


def try_layer(entry: str, reference: Reference) -> Outcome:
    """Run the stages of the model on the right layer and on the wrong one, until one fails."""
    right, wrong = _run(entry, False, reference), _run(entry, True, reference)
    is_alarm, is_found = right.status != PASS, wrong.status == FAIL
    texts = [
        f"{check.detail} {' '.join(check.hints)}".lower()
        for check in wrong.problems()
        if check.layer.startswith("layer") or "layer." in check.detail
    ]
    is_named = is_found and any(ZOO[entry].word in text for text in texts)
    message = "; ".join(conclusion(run) for run, is_bad in ((right, is_alarm), (wrong, not is_named)) if is_bad)
    return Outcome(entry, is_alarm, is_found, is_named, message)


def _run(entry: str, is_wrong: bool, reference: Reference) -> Verdict:
    train = Training(shape=SHAPE, steps=3, curve_side=0)
    case = Case(
        entry, Path(__file__).parent, "layer_zoo.py:Net", "../torch_side/layer_zoo.py:Net", shape=SHAPE, train=train,
        port_arguments={"entry": entry, "is_wrong": is_wrong}, reference_arguments={"entry": entry},
    )  # fmt: skip
    verdict = Verdict(entry, [])
    for stage in STAGES:
        verdict.stages += run_stages(case, (stage,), reference).stages
        if verdict.status == FAIL:
            break
    return verdict


def run_layers(entries: Iterable[str], reference: Reference) -> list[Outcome]:
    """Try kinds of layers, and print what went wrong."""
    outcomes = []
    for entry in entries:
        outcome = try_layer(entry, reference)
        outcomes.append(outcome)
        if outcome.message:
            print_safely(f"{entry}: {outcome.message}", sys.stderr)
    return outcomes


def layer_summary(outcomes: list[Outcome]) -> str:
    """One sentence with the counts."""
    num = len(outcomes)
    counts = [sum(getattr(outcome, name) for outcome in outcomes) for name in ("is_alarm", "is_found", "is_named")]
    return f"{num} kinds of layers: {counts[0]} false alarms, {counts[1]} mistakes found, {counts[2]} named"
