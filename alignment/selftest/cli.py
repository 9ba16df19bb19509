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
        CaseError: no mutation, net or kind of layer has the text of --only in its name.
        DiskError: the file of --json cannot be written.
    """
    parser = argparse.ArgumentParser("python -m alignment selftest", description=__doc__)
    parser.add_argument("--only", help="run the mutations whose name contains this text")
    parser.add_argument("--clean", type=int, default=NUM_CLEAN, help="number of runs of right ports (default: 20)")
    parser.add_argument("--layers", action="store_true", help="try the zoo of layers: each kind right, and wrong once")
    parser.add_argument("--nets", action="store_true", help="put 60 mistakes into ports of five published networks")
    parser.add_argument("--no_peers", action="store_true", help="leave out reprod_log and PaDiff")
    parser.add_argument("--json", type=Path, help="write the scores as JSON to this file")
    options = parser.parse_args(argv)

    if options.layers:
        return _try_layers(options)
    if options.nets:
        return _try_nets(options)

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
    _write(options.json, scores)
    is_perfect = all(outcome.is_found and outcome.is_layer_named in (True, None) for outcome in outcomes)
    return 0 if is_perfect and not num_alarms else 6


def _try_layers(options: argparse.Namespace) -> int:
    """Run the zoo of layers; returns 0 if no right layer fails and every mistake is found and named, else 6."""
    from .layer_trials import layer_summary, run_layers
    from .layer_zoo import ZOO

    entries = [entry for entry in ZOO if (options.only or "") in entry]
    if not entries:
        raise CaseError(f"--only {options.only}: no kind of layer has this in its name; known: {', '.join(ZOO)}")
    with tempfile.TemporaryDirectory() as folder, Reference(recordings=Path(folder)) as reference:
        outcomes = run_layers(entries, reference)
    print_safely(layer_summary(outcomes))
    _write(options.json, {"layers": layer_summary(outcomes)})
    return 0 if all(outcome.is_named and not outcome.is_alarm for outcome in outcomes) else 6


def _try_nets(options: argparse.Namespace) -> int:
    """Run the mistakes in published networks; returns 0 if all are found, placed and explained, else 6."""
    from .net_mutations import NET_MUTATIONS
    from .net_trials import net_lines, net_summary, run_right_net, try_net_mutation

    text = options.only or ""
    entries = [entry for entry in NET_MUTATIONS if text in entry.net or text in entry.mutation.name]
    if not entries:
        raise CaseError(f"--only {text}: no net and no mistake has this in its name; see net_mutations.py")
    outcomes = []
    with tempfile.TemporaryDirectory() as folder, Reference(recordings=Path(folder)) as reference:
        for entry in entries:
            outcomes.append(try_net_mutation(entry, reference))
            print_safely(net_lines(outcomes[-1:])[0])
    with Reference() as reference:  # no answer is asked for twice
        verdicts = [run_right_net(number, reference) for number in range(options.clean)]
    num_alarms = sum(verdict.status != PASS for verdict in verdicts)
    summary = net_summary(outcomes, num_alarms, options.clean)
    print_safely(summary)
    _write(options.json, {"nets": summary})
    is_perfect = all(all(outcome[2:5]) for outcome in outcomes)
    return 0 if is_perfect and not num_alarms else 6


def _write(path: Path | None, scores: dict[str, str]) -> None:
    """Write the scores as JSON, if a path is given."""
    if path:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(scores, indent=1) + "\n")
