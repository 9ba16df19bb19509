"""Measure promises: `python -m tests.faults NAME... [--cases N]`; each gives a line of tests/faults/results.jsonl."""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

# name: (module, cases in the short form, cases in the long form, the promise in a few words)
PROMISES = {
    "R1": ("resuming", 4, 160, "a resumed run is the uninterrupted one, to the last bit"),
    "R2": ("resuming", 1, 10, "the same on two processes"),
    "R3": ("order", 50, 50, "the order of samples depends on neither workers nor processes"),
    "E1": ("running", 1, 4, "4 -> 2 -> 4 processes inside epochs: every step has its images, in their order"),
    "E2": (
        "elastic",
        1,
        10,
        "with etcd the launcher, or the supervisor around it, restarts killed ranks, to the same result",
    ),
    "R4": ("files", 30, 1000, "SIGKILL during saves loses nothing that was reported"),
    "R5": ("running", 1, 20, "runs with two kills each end as the run without"),
    "R6": ("files", 200, 2064, "every damaged checkpoint is found, the newest good one is taken"),
    "R7": ("syscalls", 12, 200, "data is on the disk before its name; a kill at any system call is harmless"),
    "R8": ("running", 2, 12, "a full disk stops training only after several failed saves"),
    "R9": ("running", 2, 40, "signals save and leave with 75, whoever is signalled, whatever it does"),
    "R10": ("files", 20, 200, "the last k and the best checkpoints are kept"),
    "R11": ("running", 2, 24, "non-finite numbers are decided together, counted exactly and never saved"),
    "R12": ("running", 2, 12, "a worker that dies, hangs or fails is named"),
    "R13": ("running", 1, 12, "ranks that die or hang end the job, without orphans"),
    "R14": ("running", 1, 2, "work of rank 0 longer than gloo's patience is safe"),
    "R15": ("supervising", 8, 8, "the supervisor restarts what may succeed, and stops without progress"),
    "N1": ("nodes", 1, 2, "two nodes go on from the last checkpoint after one was cut off"),
    "R16": ("cost", 5, 20, "saving hardly blocks training"),
    "D1": ("data", 60, 1132, "every strange file, list and folder has its stated outcome, whoever reads it"),
    "D2": ("data", 8, 300, "evaluation, predict and infer see the same pixels, and training the same picture"),
    "D3": ("damage", 100, 1000, "a bit flipped in a JPEG is found by the manifest, whatever a decoder makes of it"),
    "D4": ("damage", 1, 12, "bad images that are skipped change nothing about the others"),
    "D5": ("data", 20, 79, "lists and folders give the samples that are stated, or an error with the place"),
    "S1": ("untrusted", 60, 500, "no code runs from a file of weights"),
    "S2": ("untrusted", 2000, 100_000, "mutants of genuine files do no harm"),
    "S4": ("exported", 100, 2041, "every damaged, exchanged or foreign exported program is refused"),
}
RESULTS = Path(__file__).parent / "results.jsonl"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"all, or of {', '.join(PROMISES)}")
    parser.add_argument("--cases", type=int, help="how many; default: the short form")
    parser.add_argument("--long", action="store_true", help="as many as docs/reliability.md promises")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no_record", action="store_true", help="print the result and do not keep it")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - {"all", *PROMISES}:
        parser.error(f"unknown promise {unknown.pop()}; known: all, {', '.join(PROMISES)}")
    names = list(PROMISES) if options.names == ["all"] else options.names
    if len(names) > 1:  # each in a process of its own: what computed with Paddle cannot fork runs that do
        flags = [word for word in argv if word not in options.names]
        return max([subprocess.run([sys.executable, "-m", "tests.faults", name, *flags]).returncode for name in names])
    line = measure(names[0], options)
    print(json.dumps(line), flush=True)
    if not options.no_record:
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return int(line["broken"] > 0)


def measure(name: str, options: argparse.Namespace) -> dict:
    """A promise: {"cases", "broken", and what else its function counts}."""
    module, short, long, meaning = PROMISES[name]
    cases = options.cases or (long if options.long else short)
    start = time.perf_counter()
    counts = getattr(importlib.import_module(f"tests.faults.{module}"), name.lower())(cases, options.seed)
    return {
        "promise": name,
        "meaning": meaning,
        **counts,
        "seed": options.seed,
        "date": date.today().isoformat(),
        "seconds": round(time.perf_counter() - start, 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "versions": f"Python {platform.python_version()}, Paddle {version('paddlepaddle')}, numpy {version('numpy')}",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
