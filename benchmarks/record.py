"""Where measurements are kept: a line of results.jsonl for each run, with the machine it was made on."""

import json
import os
import platform
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).with_name("results.jsonl")


def processor() -> str:
    """The model name of the processor, as well as the system knows it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def record(benchmark: str, file: Path = RESULTS, **results) -> None:
    """Append the `results` of a run of `benchmark` to `file`."""
    machine = {"processor": processor(), "processors": os.cpu_count(), "load": os.getloadavg()[0]}
    line = {"benchmark": benchmark, "date": date.today().isoformat(), **machine, **results}
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
