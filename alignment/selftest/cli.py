"""`python -m alignment selftest`: inject known bugs, count which are found and named, and the false alarms."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from common.errors import CaseError

from ..__main__ import run
from ..case import read_case
from ..port import Port
from ..reference import Reference
from ..verdict import FAIL, PASS, Verdict
from .mutations import MUTATIONS, Mutation

NETS = ("ladder", "fork")
NUM_CLEAN = 20
CLEAN_STAGES = ("weights", "forward", "metric", "loss", "backward", "train")
SCOREBOARD = Path(__file__).parents[1] / "torch_side" / "scoreboard.py"


class Outcome(NamedTuple):
    """Of one bug in one net. `is_named` is None where no single layer is to blame."""

    mutation: str
    net: str
    is_found: bool
    is_named: bool | None
    said: str


def main(argv: list[str]) -> int:
    """Exit code 0 only if every bug is found and named in every net, and no clean run fails."""
    parser = argparse.ArgumentParser("python -m alignment selftest", description=__doc__)
    parser.add_argument("--only", help="mutations whose name contains this text")
    parser.add_argument("--clean", type=int, default=NUM_CLEAN, help="number of runs of right ports")
    parser.add_argument("--no_peers", action="store_true", help="leave out reprod_log and PaDiff")
    parser.add_argument("--json", type=Path, help="write the scores here")
    options = parser.parse_args(argv)
    mutations = [mutation for mutation in MUTATIONS if (options.only or "") in mutation.name]
    if not mutations:
        raise CaseError(
            f"--only {options.only}: no mutation has this in its name; alignment/selftest/mutations.py lists them"
        )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Reference(recordings=Path(folder)) as reference:
        outcomes = [judge(mutation, net, reference) for net in NETS for mutation in mutations]
        clean = [run_clean(seed, reference) for seed in range(options.clean)]
    peers = {} if options.no_peers else run_peers([mutation.name for mutation in mutations], options.clean)
    for line in table(outcomes, peers, mutations):
        print(line)
    alarms = [verdict for verdict in clean if verdict.status != PASS]
    scores = summary(outcomes, len(alarms), options.clean, peers)
    for name, score in scores.items():
        print(f"{name:<12} {score}")
    print(f"{time.perf_counter() - start:.0f} s")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    is_perfect = all(outcome.is_found and outcome.is_named in (True, None) for outcome in outcomes) and not alarms
    return 0 if is_perfect else 6


def judge(mutation: Mutation, net: str, reference: Reference, seed: int = 0) -> Outcome:
    """Run the stages that can see the bug until one fails."""
    case = replace(read_case(net), seed=seed)
    port, blamed = mutation.apply(Port.of(case))
    verdict = Verdict(net, [])
    for stage in mutation.stages:
        verdict.stages += run(case, (stage,), reference, port=port).stages
        if verdict.status != PASS:
            break
    problem = verdict.first_problem()
    is_found = verdict.status == FAIL
    is_named = None
    if blamed:
        where = f"{problem.layer} {problem.detail}" if problem else ""
        is_named = is_found and blamed[0] in where
    said = f"{verdict.stages[-1].name}: {problem.name} {problem.layer} {' '.join(problem.hints[:1])}" if problem else ""
    return Outcome(mutation.name, net, is_found, is_named, said)


def run_clean(seed: int, reference: Reference) -> Verdict:
    """A right port with weights, images and labels of another seed; the nets take turns."""
    case = replace(read_case(NETS[seed % len(NETS)]), seed=1000 + seed)
    verdict = run(case, CLEAN_STAGES, reference, port=Port.of(case))
    if verdict.status != PASS:
        print(f"false alarm with seed {seed}: {verdict.first_problem()}")
    return verdict


def run_peers(names: list[str], num_clean: int) -> dict[str, dict[str, dict[str, bool]]]:
    """{tool: {net: {bug: found}}} of reprod_log 1.0.1 and PaDiff 0.2.0, which need both frameworks in one process."""
    job = json.dumps({"names": names, "nets": NETS, "num_clean": num_clean})
    done = subprocess.run([sys.executable, str(SCOREBOARD)], input=job, capture_output=True, text=True)
    if done.returncode:
        print(f"the peers cannot run: {done.stderr.strip().splitlines()[-1:]}; pip install reprod-log padiff pyyaml")
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def table(outcomes: list[Outcome], peers: dict, mutations: list[Mutation]) -> list[str]:
    """One line for each bug: what each tool made of it, in both nets."""
    lines = [f"{'bug':<45} {'ours':<10}" + "".join(f"{tool:<12}" for tool in peers) + "what ours says"]
    for mutation in mutations:
        found = [outcome for outcome in outcomes if outcome.mutation == mutation.name]
        marks = "".join(_mark(outcome) for outcome in found)
        others = "".join(f"{''.join('+' if peers[tool][net].get(mutation.name) else '-' for net in NETS):<12}"
                         for tool in peers)  # fmt: skip
        lines.append(f"{mutation.name:<45} {marks:<10}{others}{found[0].said[:110]}")
    lines.append(
        "+ found, L found and the layer named, ? found but the wrong layer named, - missed; one mark for each net"
    )
    return lines


def _mark(outcome: Outcome) -> str:
    if not outcome.is_found:
        return "-"
    return {True: "L", False: "?", None: "+"}[outcome.is_named]


def summary(outcomes: list[Outcome], num_alarms: int, num_clean: int, peers: dict) -> dict[str, str]:
    found = sum(outcome.is_found for outcome in outcomes)
    layered = [outcome for outcome in outcomes if outcome.is_named is not None]
    named = sum(outcome.is_named for outcome in layered)
    scores = {"alignment": f"{found} of {len(outcomes)} found, {named} of {len(layered)} layers named, "
                           f"{num_alarms} false alarms in {num_clean} clean runs"}  # fmt: skip
    for tool, nets in peers.items():
        hits = sum(found for bugs in nets.values() for name, found in bugs.items() if not name.startswith("clean"))
        alarms = sum(found for bugs in nets.values() for name, found in bugs.items() if name.startswith("clean"))
        scores[tool] = f"{hits} of {len(outcomes)} found, {alarms} false alarms in {num_clean} clean runs"
    return scores
