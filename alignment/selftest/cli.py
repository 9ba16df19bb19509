"""`python -m alignment selftest`: put known mistakes into right ports, count those found and the false alarms."""

import argparse
import json
import tempfile
import time
from pathlib import Path

from common.errors import CaseError
from common.files import disk_errors, write_atomically
from common.printable import print_safely

from ..reference import Reference
from ..verdict import PASS

NUM_CLEAN = 20


def main(argv: list[str]) -> int:
    """Run the self-test; returns 0 if every mutation is found, its layer is named and no right port fails, else 6.

    Raises:
        CaseError: no mutation has the text of --only in its name.
        DiskError: the file of --json cannot be written.
    """
    parser = argparse.ArgumentParser("python -m alignment selftest", description=__doc__)
    parser.add_argument("--only", help="run the mutations whose name contains this text")
    parser.add_argument("--clean", type=int, default=NUM_CLEAN, help="number of runs of right ports (default: 20)")
    parser.add_argument("--no_peers", action="store_true", help="leave out reprod_log and PaDiff")
    parser.add_argument("--json", type=Path, help="write the scores as JSON to this file")
    options = parser.parse_args(argv)

    from .mutations import MUTATIONS  # imports Paddle, which --help does not need
    from .scoreboard import run_peers, summary, table
    from .trials import NETS, run_right_port, try_mutation

    mutations = [mutation for mutation in MUTATIONS if (options.only or "") in mutation.name]
    if not mutations:
        raise CaseError(
            f"--only {options.only}: no mutation has this in its name; alignment/selftest/mutations.py lists them"
        )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Reference(recordings=Path(folder)) as reference:
        outcomes = [try_mutation(mutation, net, reference) for net in NETS for mutation in mutations]
        verdicts = [run_right_port(number, reference) for number in range(options.clean)]
    peers = {} if options.no_peers else run_peers([mutation.name for mutation in mutations], options.clean)
    for line in table(outcomes, peers, mutations):
        print_safely(line)
    num_alarms = sum(verdict.status != PASS for verdict in verdicts)
    scores = summary(outcomes, num_alarms, options.clean, peers)
    for tool, score in scores.items():
        print_safely(f"{tool:<12} {score}")
    print_safely(f"{time.perf_counter() - start:.0f} s")
    if options.json:
        with disk_errors(options.json):
            options.json.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(options.json, json.dumps(scores, indent=1) + "\n")
    is_perfect = all(outcome.is_found and outcome.is_layer_named in (True, None) for outcome in outcomes)
    return 0 if is_perfect and not num_alarms else 6
