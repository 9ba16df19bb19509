"""R4, R6, R10: checkpoint files under kills, damage and rotation."""

import logging
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import numpy as np

from common.errors import CheckpointError
from engine.checkpoint import find_latest, read_checkpoint, remove_leftovers, write_checkpoint

KEEP = 3
logger = logging.getLogger("engine.checkpoint")


class Lines(logging.Handler):
    """Collects the lines that `find_latest` logs."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record: logging.LogRecord) -> None:
        """Add one line."""
        self.lines.append(record.getMessage())


def saver_of(folder: Path, on_saved=lambda epoch, step: None):
    """Create a state and its Saver; all tensors hold the number of the epoch, so a mixture of two saves shows."""
    from types import SimpleNamespace

    from configs.schema import OutputConfig
    from engine.saver import Saver
    from engine.state import Snapshot

    state = SimpleNamespace(epoch=0)

    def snapshot():
        arrays = {f"model/{name}": np.full(128_000, state.epoch, np.float32) for name in ("a", "b")}
        return Snapshot(arrays, {"next_epoch": state.epoch, "next_step": 0})

    state.snapshot = snapshot
    return state, Saver(state, OutputConfig(output_dir=str(folder), keep_last=KEEP), on_saved=on_saved)


def r4(cases: int, seed: int) -> dict:
    """Kill a process at random times that saves in a loop with rotation, and reports each save."""
    import engine.saver  # noqa: F401 (before the forks)

    rng, folder = random.Random(seed), Path(tempfile.mkdtemp(prefix="faults-r4-"))
    broken, saves, leftovers, last = 0, 0, 0, 0
    for _ in range(cases):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _save_in_a_loop(folder, last + 1, writer)
        os.close(writer)
        time.sleep(rng.uniform(0, 0.12))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reader, "rb") as file:
            reports = [int.from_bytes(part, "little") for part in iter(lambda: file.read(4), b"")]
        saves += len(reports)
        reported = reports[-1] if reports else last
        for path in folder.glob("checkpoint-*.pd"):
            read = read_checkpoint(path)  # a CheckpointError ends the measurement
            broken += any((array != read.meta["next_epoch"]).any() for array in read.tensors.values())
        latest = find_latest(folder)
        last = read_checkpoint(latest).meta["next_epoch"] if latest else 0
        broken += last < reported or (reports != [] and not (folder / "checkpoint-latest.pd").exists())
        leftovers += len(remove_leftovers(folder))
    shutil.rmtree(folder)
    return {"cases": cases, "broken": broken, "saves": saves, "leftovers_removed": leftovers}


def _save_in_a_loop(folder: Path, first: int, report_to: int) -> None:
    state, saver = saver_of(folder, lambda epoch, step: os.write(report_to, epoch.to_bytes(4, "little")))
    for state.epoch in range(first, first + 10_000):
        saver.save(f"checkpoint-{state.epoch - 1}.pd", "checkpoint-latest.pd")
    os._exit(0)


def r6(cases: int, seed: int) -> dict:
    """Truncate a 1 MB checkpoint, flip bits in it, and replace it by foreign files, beside an older good one."""
    logger.propagate = False
    rng, folder = random.Random(seed), Path(tempfile.mkdtemp(prefix="faults-r6-"))
    older, latest = folder / "checkpoint-previous.pd", folder / "checkpoint-latest.pd"
    for epoch, path in enumerate((older, latest)):
        write_checkpoint(path, {"model/w": rng_array(rng, 256_000)}, {"next_epoch": epoch, "next_step": 0})
    good, counts = latest.read_bytes(), np.zeros(3, int)
    kinds = {"truncated": 0, "flipped": 0, "foreign": 0}
    for case in range(cases):
        bad = bytearray(good)
        if case < min(64, cases // 2):
            kinds["truncated"] += 1
            bad = bad[: case if case < 8 else rng.randrange(len(bad))]
        else:
            kinds["flipped"] += 1
            near_start = rng.random() < 0.2  # the header is small beside the data
            place = rng.randrange((2000 if near_start else len(bad)) * 8)
            bad[place // 8] ^= 1 << place % 8
        counts += _read_damaged(latest, bytes(bad), good, older)
    other = folder.with_name(f"{folder.name}-other") / "c.pd"
    other.parent.mkdir()
    write_checkpoint(other, {}, {})  # undamaged, and without a place in training
    for content in (b"", bytes(1000), b"<html>", b"PK\x03\x04" + bytes(99), good + b"\0", good[8:], other.read_bytes()):
        kinds["foreign"] += 1
        latest.write_bytes(content)
        counts[1] += find_latest(folder) != older and content != other.read_bytes()
    older.write_bytes(good[:-1])
    latest.write_bytes(good[:-2])
    try:
        find_latest(folder)
        counts[0] += 1
    except CheckpointError:
        pass
    shutil.rmtree(folder)
    cases, undetected = sum(kinds.values()) + 1, int(counts[0])
    return {"cases": cases, "broken": int(counts.sum()), **kinds, "undetected": undetected, "none_good": "stops"}


def _read_damaged(latest: Path, content: bytes, good: bytes, older: Path) -> np.ndarray:
    """Whether the damage was not detected, another file than the older one was taken, the damaged one not named."""
    latest.write_bytes(content)
    try:
        read_checkpoint(latest)
        undetected = True
    except CheckpointError:
        undetected = False
    logger.handlers = [log := Lines()]
    wrong = find_latest(latest.parent) != older
    header = slice(
        8 + int.from_bytes(good[:8], "little")
    )  # with an undamaged header the file is known to be the newest
    unnamed = not any(latest.name in line for line in log.lines) and content[header] == good[header]
    return np.array([undetected, wrong, unnamed], int)


def rng_array(rng: random.Random, num: int) -> np.ndarray:
    """Draw 4 * num random bytes."""
    return np.frombuffer(rng.randbytes(4 * num), np.uint8)


def r10(cases: int, seed: int) -> dict:
    """Run `fit` with random scores, each run interrupted and resumed once; the last k, best and latest files remain."""
    rng, broken = random.Random(seed), 0
    for _ in range(cases):
        folder = Path(tempfile.mkdtemp(prefix="faults-r10-"))
        tops = [rng.choice((0.0, 12.5, 40.0, 40.0, 71.3, 90.0)) for _ in range(rng.randrange(4, 12))]
        cut = rng.randrange(1, len(tops))
        for first, last in ((0, cut), (cut, len(tops))):
            _run_epochs(folder, tops, first, last)
        best = max(tops)
        numbers = sorted(int(p.stem.split("-")[1]) for p in folder.glob("checkpoint-[0-9]*.pd"))
        broken += numbers != list(range(len(tops)))[-KEEP:]
        broken += read_checkpoint(folder / "checkpoint-latest.pd").meta["next_epoch"] != len(tops)
        kept = read_checkpoint(folder / "checkpoint-best.pd").meta
        broken += (kept["best"], kept["next_epoch"]) != (best, tops.index(best) + 1)
        shutil.rmtree(folder)
    return {"cases": cases, "broken": broken, "keep_last": KEEP}


def _run_epochs(folder: Path, tops: list[float], first: int, last: int) -> None:
    import engine.fit
    from configs.schema import OutputConfig
    from engine.metrics import Scores
    from engine.run import Run
    from engine.saver import Saver
    from engine.state import Snapshot, TrainState
    from engine.train import Recipe

    state = TrainState(model=None, optimizer=None)
    state.begin_epoch(first)
    if first:
        meta = read_checkpoint(find_latest(folder)).meta
        state.best_top1_percent, state.has_best = meta["best"], meta["has_best"]
        state.begin_epoch(meta["next_epoch"])
    state.snapshot = lambda: Snapshot(
        {},
        {
            "next_epoch": state.next_epoch,
            "next_step": 0,
            "best": state.best_top1_percent,
            "has_best": state.has_best,
        },
    )
    engine.fit.train_epoch = lambda *arguments: None
    engine.fit.evaluate = lambda *arguments: Scores(100, 1.0, tops[state.next_epoch], 100.0)
    saver = Saver(state, OutputConfig(output_dir=str(folder), keep_last=KEEP, save_freq=1))
    engine.fit.fit(state, Recipe(None, None, epochs=last), None, None, Run(), saver)
