"""One trial: run the stages on a port with a mutation, or on a right port with another seed."""

import sys
from dataclasses import replace
from typing import NamedTuple

from common.printable import print_safely

from ..case import read_case
from ..paddle_side.port import Port
from ..reference import Reference
from ..runner import run_stages
from ..verdict import FAIL, PASS, Verdict
from .mutations import Mutation

NETS = ("ladder", "fork")
CLEAN_STAGES = ("weights", "forward", "metric", "loss", "backward", "train")
FIRST_CLEAN_SEED = 1000


class Outcome(NamedTuple):
    """Result for one mutation in one net.

    Attributes:
        mutation: its name.
        net: name of the case.
        is_found: whether a stage failed.
        is_layer_named: whether the first problem names the layer; None if no single layer is wrong.
        message: stage, check, layer and hint of the first problem.
    """

    mutation: str
    net: str
    is_found: bool
    is_layer_named: bool | None
    message: str


def try_mutation(mutation: Mutation, net: str, reference: Reference, seed: int = 0) -> Outcome:
    """Run the stages that can see the mutation until one does not pass.

    Args:
        mutation: the mistake.
        net: name of the case.
        reference: the process of the reference.
        seed: of weights, images and labels.
    """
    case = replace(read_case(net), seed=seed)
    port, wrong_layers = mutation.apply(Port.of_case(case))
    verdict = run_stages(case, mutation.stages, reference, port=port, stops_early=True)
    problem = verdict.first_problem()
    is_found, is_layer_named, message = verdict.status == FAIL, None, ""
    if wrong_layers:
        is_layer_named = is_found and wrong_layers[0] in f"{problem.layer} {problem.detail}"
    if problem:
        hint = " ".join(problem.hints[:1])
        message = f"{verdict.stages[-1].name}: {problem.name} {problem.layer} {hint}"
    return Outcome(mutation.name, net, is_found, is_layer_named, message)


def run_right_port(number: int, reference: Reference) -> Verdict:
    """Run the stages on a right port; weights, images and labels are of a seed of their own for each number."""
    case = replace(read_case(NETS[number % len(NETS)]), seed=FIRST_CLEAN_SEED + number)
    verdict = run_stages(case, CLEAN_STAGES, reference, port=Port.of_case(case))
    if verdict.status != PASS:
        print_safely(f"false alarm in clean run {number}: {verdict.first_problem()}", sys.stderr)
    return verdict
