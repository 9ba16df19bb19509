"""The scores of the self-test, beside those of reprod_log and PaDiff on the same mutations."""

import json
import subprocess
import sys
from pathlib import Path

from common.printable import print_safely

from .mutations import Mutation
from .trials import NETS, Outcome

PEER_TOOLS = Path(__file__).parents[1] / "torch_side" / "peer_tools.py"
PeerResults = dict[str, dict[str, dict[str, bool]]]  # {tool: {net: {mutation: whether it was found}}}
LEGEND = "+ found, L found and the layer named, ? found but another layer named, - missed; one mark for each net"


def run_peers(names: list[str], num_clean: int) -> PeerResults:
    """Run the named mutations and `num_clean` right ports with reprod_log and PaDiff, in a process of their own.

    Empty if the two tools cannot run; the reason is printed.
    """
    job = json.dumps({"names": names, "nets": NETS, "num_clean": num_clean})
    done = subprocess.run([sys.executable, str(PEER_TOOLS)], input=job, capture_output=True, text=True)
    if done.returncode:
        reason = " ".join(done.stderr.strip().splitlines()[-1:])
        print_safely(
            f"reprod_log and PaDiff cannot run: {reason}; install them with "
            "`pip install reprod-log==1.0.1 pyyaml` and `pip install --no-deps padiff==0.2.0`, "
            "or leave them out with --no_peers",
            sys.stderr,
        )
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def table(outcomes: list[Outcome], peers: PeerResults, mutations: list[Mutation]) -> list[str]:
    """One line for each mutation: the result of each tool in each net."""
    lines = [f"{'mutation':<45} {'alignment':<10}" + "".join(f"{tool:<12}" for tool in peers) + "first problem"]
    for mutation in mutations:
        own = [outcome for outcome in outcomes if outcome.mutation == mutation.name]
        marks = f"{''.join(_mark(outcome) for outcome in own):<10}"
        for nets in peers.values():
            found = "".join("+" if nets[net].get(mutation.name) else "-" for net in NETS)
            marks += f"{found:<12}"
        lines.append(f"{mutation.name:<45} {marks}{own[0].message[:110]}")
    return [*lines, LEGEND]


def _mark(outcome: Outcome) -> str:
    if not outcome.is_found:
        return "-"
    return {True: "L", False: "?", None: "+"}[outcome.is_layer_named]


def summary(outcomes: list[Outcome], num_alarms: int, num_clean: int, peers: PeerResults) -> dict[str, str]:
    """One sentence for each tool.

    Args:
        outcomes: of the mutations.
        num_alarms: number of right ports that did not pass.
        num_clean: number of right ports.
        peers: results of the other tools.
    """
    num_found = sum(outcome.is_found for outcome in outcomes)
    with_layer = [outcome for outcome in outcomes if outcome.is_layer_named is not None]
    num_named = sum(outcome.is_layer_named for outcome in with_layer)
    scores = {
        "alignment": f"{num_found} of {len(outcomes)} found, {num_named} of {len(with_layer)} layers named, "
        f"{num_alarms} false alarms in {num_clean} clean runs"
    }
    for tool, nets in peers.items():
        results = [(name, is_found) for by_name in nets.values() for name, is_found in by_name.items()]
        num_hits = sum(is_found for name, is_found in results if not name.startswith("clean"))
        num_false = sum(is_found for name, is_found in results if name.startswith("clean"))
        scores[tool] = f"{num_hits} of {len(outcomes)} found, {num_false} false alarms in {num_clean} clean runs"
    return scores
