"""Measures promises: `python -m tests.faults NAME... [--cases N]`; each adds a line to tests/faults/results.jsonl."""

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

# name: (module, cases in the short form, cases in the long form, the promise)
PROMISES = {
    "R1": ("resuming", 4, 160, "a resumed run gives bit for bit the result of the uninterrupted one"),
    "R2": ("resuming", 1, 10, "the same with two processes"),
    "R3": ("order", 50, 50, "the order of samples depends on neither the workers nor the processes"),
    "E1": (
        "running",
        1,
        4,
        "4, then 2, then 4 processes inside epochs: every step has the same images in the same order",
    ),
    "E2": (
        "elastic",
        1,
        10,
        "with etcd the launcher or its supervisor restarts killed ranks, and the result is the same",
    ),
    "R4": ("files", 30, 1000, "SIGKILL during saves loses no checkpoint that was reported"),
    "R5": ("running", 1, 20, "runs with two kills give the result of the run without a kill"),
    "R6": ("files", 200, 2064, "every damaged checkpoint is detected, and the newest undamaged one is used"),
    "R7": ("syscalls", 12, 200, "data is on the disk before the rename; a kill at any system call loses nothing"),
    "R8": ("running", 2, 12, "a full disk stops training only after several failed saves"),
    "R9": ("running", 2, 40, "a signal to any process in any phase saves the state and ends the run with 75"),
    "R10": ("files", 20, 200, "the last k and the best checkpoints are kept"),
    "R11": (
        "running",
        2,
        24,
        "all ranks decide together on numbers that are not finite, count them exactly and never save them",
    ),
    "R12": ("running", 2, 12, "a worker that dies, hangs or fails is named"),
    "R13": ("running", 1, 12, "a rank that dies or hangs ends the job, and no process is left"),
    "R14": ("running", 1, 2, "a write of rank 0 may take longer than gloo waits for a rank"),
    "R15": ("supervising", 8, 8, "the supervisor restarts runs that may succeed, and stops without progress"),
    "N1": ("nodes", 1, 2, "two nodes continue from the last checkpoint after one was disconnected"),
    "R16": ("cost", 5, 20, "saving blocks the training for a small share of the time"),
    "D1": ("data", 60, 1132, "every unusual file, list and folder has its stated outcome for every reader"),
    "D2": ("data", 8, 300, "eval, predict and infer give the model the same pixels, and training crops the same image"),
    "D3": ("damage", 100, 1000, "the manifest detects a flipped bit in a JPEG, also where the decoder does not"),
    "D4": ("damage", 1, 12, "skipped bad images do not change the other samples"),
    "D5": ("data", 20, 79, "lists and folders give the stated samples, or an error that names the place"),
    "D6": (
        "hostile",
        60,
        2000,
        "mutants of image files made to cost much stay within 1 s and 200 MB in every way in, or are refused",
    ),
    "W1": ("whole", 20, 200, "a killed check leaves no list and no manifest that is cut short and accepted"),
    "W2": ("whole", 20, 200, "a killed split leaves no list that is cut short and accepted"),
    "W3": ("whole", 20, 200, "a killed packing continues to the same bytes"),
    "W4": ("whole", 20, 200, "a killed exchange of exports leaves the old or the new one, whole"),
    "W5": ("whole", 50, 500, "four readers during exchanges of exports get one of them whole"),
    "S1": ("untrusted", 60, 500, "no code of a file of weights runs"),
    "S2": (
        "untrusted",
        2000,
        100_000,
        "mutants of genuine files of weights cause no crash and bounded time and memory",
    ),
    "S5": ("special_files", 15, 150, "a pipe, a socket, a device or a folder in place of a file is refused at once"),
    "S6": ("bounded", 30, 176, "crafted recipes, cases, cards, lists, settings and arrays take 2 s and 300 MB at most"),
    "S4": ("exported", 100, 2041, "every damaged, exchanged or foreign exported program is refused"),
    "S7": (
        "serving_safety",
        100,
        1000,
        "the service opens no connection and starts no program, whatever is asked of it",
    ),
    "S8": ("serving_safety", 10_000, 10_000, "a wrong token takes the same time however many of its letters are right"),
    "V1": ("serving", 300, 5000, "each of many concurrent answers of the service equals the answer to the image alone"),
    "V4": ("serving", 1, 50, "a SIGTERM with 24 requests in flight loses none of them, and leaves no process"),
    "V5": ("serving", 2, 20, "a killed engine is back in 10 s; meanwhile requests get 503, and no answer is wrong"),
    "V6": (
        "serving_http",
        40,
        400,
        "clients that dribble a header or a body are closed in 10 s, and others are served",
    ),
    "V7": ("serving_protocol", 56, 56, "Triton's own HTTP client works with the service unchanged"),
    "V8": ("serving_protocol", 300, 5000, "the metrics of the service equal what its clients have counted"),
    "V9": (
        "serving_leaks",
        100,
        18_000,
        "memory, descriptors and threads of the service stay the same in mixed traffic",
    ),
    "H1": ("serving_http", 10, 100, "the service keeps its limits, and grows by 100 MB at most under largest requests"),
    "H2": ("serving_http", 300, 20_000, "malformed requests cause no 500, no crash and no restart"),
}
RESULTS = Path(__file__).parent / "results.jsonl"


def main(argv: list[str]) -> int:
    """Measure the named promises; returns 1 if one is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"all, or some of {', '.join(PROMISES)}")
    parser.add_argument("--cases", type=int, help="number of cases (default: the short form)")
    parser.add_argument("--long", action="store_true", help="the number of cases of docs/reliability.md")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no_record", action="store_true", help="print the result without recording it")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - {"all", *PROMISES}:
        parser.error(f"unknown promise {unknown.pop()}; known: all, {', '.join(PROMISES)}")
    names = list(PROMISES) if options.names == ["all"] else options.names
    if len(names) > 1:  # each in a process of its own: after computing with Paddle a process cannot fork runs
        flags = [word for word in argv if word not in options.names]
        return max([subprocess.run([sys.executable, "-m", "tests.faults", name, *flags]).returncode for name in names])
    line = measure(names[0], options)
    print(json.dumps(line), flush=True)
    if not options.no_record:
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return int(line["broken"] > 0)


def measure(name: str, options: argparse.Namespace) -> dict:
    """Measure one promise; returns the line of results.jsonl."""
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
