"""Record of measurements: one line of results.jsonl per run, with the machine that was measured."""

import json
import os
from datetime import date
from pathlib import Path

from common.cpus import processor_name

RESULTS = Path(__file__).with_name("results.jsonl")


def record(benchmark: str, file: Path = RESULTS, **results) -> None:
    """Append the `results` of one run of `benchmark`, with date and machine, to `file`.

    Raises:
        OSError: the file cannot be written.
    """
    machine = {"processor": processor_name(), "processors": os.cpu_count(), "load": os.getloadavg()[0]}
    line = {"benchmark": benchmark, "date": date.today().isoformat(), **machine, **results}
    content = file.read_bytes() if file.exists() else b""
    is_cut = bool(content) and not content.endswith(b"\n")  # by a full disk
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n" * is_cut + json.dumps(line) + "\n")


def read_results(path: Path) -> list[dict]:
    """The lines of a file of results; a line that is cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
