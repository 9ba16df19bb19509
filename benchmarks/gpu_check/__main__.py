"""Checks what a first run on a GPU must check, each in a process of its own, and writes a report to send back.

python -m benchmarks.gpu_check --output_dir output/gpu_check
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml", "paddle")

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.flags import add_output_flag
from benchmarks.gpu_check.checks import CHECKS
from benchmarks.gpu_check.workplace import ROOT, CheckFailed, NotPossible, Workplace, draw_pictures
from common.cli import run as run_program
from common.cpus import processor_name

REPORT = "gpu_check.json"
MINUTES = 20  # that one check may take
PASSED, FAILED, LEFT_OUT = "passed", "FAILED", "left out"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks; returns 0 if none failed, 1 if one did.

    Raises:
        MissingDependencyError: no GPU, exit code 7.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS), help="default: all, in this order")
    parser.add_argument(
        "--device", choices=("gpu", "cpu"), default="gpu", help="cpu rehearses what needs no GPU, to try the program"
    )
    parser.add_argument("--here", action="store_true", help="run one check in this process, as the program itself does")
    add_output_flag(parser, "output/gpu_check")
    flags = parser.parse_args(argv)
    place = Workplace(flags.output_dir.resolve(), flags.device)
    if flags.here:
        return run_here(place, flags.checks[0])
    require_device(flags.device)
    draw_pictures(place.pictures)
    outcomes = []
    for number, name in enumerate(flags.checks, start=1):
        print(f"[{number}/{len(flags.checks)}] {name}: expected: {CHECKS[name].expects}", flush=True)
        outcomes.append(run_apart(place, name))
        print(f"      {outcomes[-1]['outcome']}: {outcomes[-1]['found']}", flush=True)
    report = {"processor": processor_name(), "processors": os.cpu_count(), "device": flags.device, "checks": outcomes}
    (place.folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    counts = {kind: sum(one["outcome"] == kind for one in outcomes) for kind in (PASSED, FAILED, LEFT_OUT)}
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    print(f"to send back: {place.folder / REPORT}" + f", and the logs {place.folder}/*.log" * bool(counts[FAILED]))
    return int(bool(counts[FAILED]))


def require_device(device: str) -> None:
    """Require a GPU that Paddle sees, unless the CPU is asked for.

    Raises:
        MissingDependencyError: there is none; the message says whether the build of Paddle or the GPU is missing.
    """
    from engine.distributed import choose_device

    choose_device(device)


def run_apart(place: Workplace, name: str) -> dict[str, str]:
    """Run a check in a process of its own, whose output goes into `<name>.log`: a crash ends that check alone."""
    shutil.rmtree(place.runs, ignore_errors=True)  # of the check before: a training would set its files aside
    log, answer = place.folder / f"{name}.log", place.folder / f"{name}.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--here", "--checks", name]
    command += [f"--device={place.device}", f"--output_dir={place.folder}"]
    with open(log, "w", encoding="utf-8") as output:
        try:
            code = subprocess.run(
                command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, timeout=60 * MINUTES
            ).returncode
        except subprocess.TimeoutExpired:
            return describe(name, FAILED, f"not finished after {MINUTES} minutes, see {log}")
    if not answer.exists():
        return describe(name, FAILED, f"the process ended with exit code {code}, see {log}")
    outcome = json.loads(answer.read_text(encoding="utf-8"))
    answer.unlink()
    return outcome


def run_here(place: Workplace, name: str) -> int:
    """Run one check in this process, and write its outcome to `<name>.json`."""
    try:
        outcome = describe(name, PASSED, CHECKS[name].run(place))
    except CheckFailed as error:
        outcome = describe(name, FAILED, str(error))
    except NotPossible as error:
        outcome = describe(name, LEFT_OUT, str(error))
    (place.folder / f"{name}.json").write_text(json.dumps(outcome), encoding="utf-8")
    return 0


def describe(name: str, outcome: str, found: str) -> dict[str, str]:
    """What the report says of one check."""
    return {"check": name, "expected": CHECKS[name].expects, "outcome": outcome, "found": found}


if __name__ == "__main__":
    run_program(main)
