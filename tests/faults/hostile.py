"""D6: image files that cost a decoder more than they are worth, read in every way within limits of time and memory."""

import json
import os
import random
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tests.datasets.hostile import KINDS, mutant

from .job import ROOT
from .readers import BYTES, CHECK, MAX_MEGABYTES, MAX_SECONDS, READERS, Outcome, Reader, Source, read_all

CPP = Reader("C++")
PROGRAM = ROOT / "build" / "cpp" / "infer"  # of `make test-cpp`
AT_ONCE = 12  # files of up to 65 MB that are on the disk together


def d6(cases: int, seed: int) -> dict:
    """Read mutants of all kinds in all ways in, each pair as often as the others."""
    ways = [*READERS, CHECK, BYTES, *([CPP] if PROGRAM.exists() else [])]
    pairs = [(way, kind) for way in ways for kind in KINDS]
    random.Random(seed).shuffle(pairs)
    numbered = [(*pairs[i % len(pairs)], seed + i) for i in range(cases)]
    broken, slowest, largest, num_refused = [], 0.0, 0.0, 0
    for way in ways:
        mutants = iter([(kind, number) for other, kind, number in numbered if other == way])
        while some := list(islice(mutants, AT_ONCE)):
            for (kind, number), outcome in zip(some, _read(way, some), strict=True):
                if wrong := _exceeded(outcome):
                    broken.append(f"{kind}, {number}, {way}: {wrong}")
                slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
                num_refused += bool(outcome.error) or any(isinstance(s.result, str) for s in outcome.samples)
    return {
        "cases": cases,
        "broken": len(broken),
        "kinds": len({kind for _, kind, _ in numbered}),
        "ways": len({way for way, _, _ in numbered}),
        "refused": num_refused,
        "slowest_seconds": round(slowest, 2),
        "largest_megabytes": round(largest),
        "details": broken[:9],
    }


def _exceeded(outcome: Outcome) -> str:
    """What a reader did that no image may cause; an image may be refused, but not end the program otherwise."""
    wrong = [f"{outcome.seconds:.1f} s"] if outcome.seconds > MAX_SECONDS else []
    wrong += [f"{outcome.megabytes:.0f} MB"] if outcome.megabytes > MAX_MEGABYTES else []
    wrong += [f"events {outcome.forbidden}"] if outcome.forbidden else []
    wrong += [outcome.error] if outcome.error and not outcome.error.startswith(("BadImage", "DataError")) else []
    return "; ".join(wrong)


def _read(way: Reader, mutants: list[tuple[str, int]]) -> Iterator[Outcome]:
    """Write the mutants, and read each in one way."""
    with tempfile.TemporaryDirectory(prefix="faults-d6-") as folder:
        sources = []
        for number, (kind, seed) in enumerate(mutants):
            root = Path(folder) / str(number)
            file = root / "train" / "a" / "x.jpg"
            file.parent.mkdir(parents=True)
            (root / "val").symlink_to("train")
            file.write_bytes(mutant(kind, seed))
            sources.append(Source(root, None, file))
        yield from _read_by_program(sources, Path(folder)) if way == CPP else read_all(way, sources, "apply")


# ---------------------------------------------------------------------------------------------------------------- C++


def _read_by_program(sources: list[Source], folder: Path) -> Iterator[Outcome]:
    """Run the C++ program on each file; what it takes for a small image is subtracted."""
    from datasets.preprocess import Preprocess
    from tests.datasets.fake_images import fake_image
    from tests.deploy.cpp.inputs import write_folder

    model = write_folder(folder / "exported", Preprocess(224, exif_orientation="apply"))
    fake_image(300, 200).save(folder / "good.png")
    baseline = max((_run(model, folder / "good.png") for _ in range(3)), key=lambda outcome: outcome.seconds)
    for source in sources:
        outcome = _run(model, source.infer_path)
        yield outcome._replace(
            seconds=outcome.seconds - baseline.seconds, megabytes=outcome.megabytes - baseline.megabytes
        )


def _run(model: Path, image: Path) -> Outcome:
    command = [PROGRAM, "--model_file", model, "--input_file", image, "--cpu_threads", "1"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (20, 20)),
    ) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    error = "" if process.returncode in (0, 3) else f"the program ended with {process.returncode}"
    if not error and process.returncode == 3:
        error = "BadImage " + (json.loads(output)["error"] if output else "")
    return Outcome([], error, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
