"""S1, S2: files of weights made by an enemy, and genuine ones with accidents, in processes that may die of them."""

import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from common.errors import CheckpointError
from engine.checkpoint import find_latest, is_checkpoint, load_weights, read_checkpoint

from .job import ROOT

READERS = {
    "load_weights": load_weights,
    "load_weights, ema": lambda path: load_weights(path, ema=True),
    "load_weights, model_name": lambda path: load_weights(path, model_name="peleenet"),
    "read_checkpoint": read_checkpoint,
    "find_latest": lambda path: find_latest(path.parent, lambda line: None),
    "is_checkpoint": is_checkpoint,
}
WRAPS = (lambda x: x, lambda x: {"w": x}, lambda x: {"model": {"w": x}}, lambda x: [x, x])
MAX_SECONDS, MAX_MEGABYTES, MUTANTS_A_PROCESS = 2.0, 500, 2000


def s1(cases: int, seed: int) -> dict:
    """Every crafted pickle of test_paddle_pickle.py through every reader; a file that appears is an execution."""
    from tests.engine.test_paddle_pickle import PROTOCOLS, RAW, attacks

    folder = Path(tempfile.mkdtemp(prefix="faults-s1-"))
    marker, path = folder / "marker", folder / "checkpoint-latest.pd"
    files = [
        pickle.dumps(wrap(attack), protocol=protocol)
        for attack, protocol, wrap in product(attacks(str(marker)).values(), PROTOCOLS, WRAPS)
    ]
    files = [*RAW.values(), *files][:cases]
    executions, accepted = 0, 0
    for data, (name, read) in product(files, READERS.items()):
        path.write_bytes(data)
        try:
            read(path)
            accepted += name != "is_checkpoint"  # which only says what the file calls itself
        except CheckpointError:
            pass
        executions += marker.exists()
    return {"cases": len(files), "broken": executions + accepted, "readers": len(READERS), "executions": executions}


GENUINE = """
import argparse, sys
import paddle
from tests.engine.tiny import tiny_net
for protocol in (2, 3, 4):
    content = {"model": tiny_net().state_dict(), "args": argparse.Namespace(a=1), "epoch": 3}
    paddle.save(content, f"{sys.argv[1]}/{protocol}.pd", protocol=protocol)
"""


def s2(cases: int, seed: int) -> dict:
    """Mutants of files of paddle.save: no crash, a bounded time and memory for each."""
    folder = Path(tempfile.mkdtemp(prefix="faults-s2-"))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'engine'}"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", GENUINE, str(folder)], env=environment, check=True)
    good = [path.read_bytes() for path in sorted(folder.glob("*.pd"))]
    crashes, slowest, largest, accepted = 0, 0.0, 0, 0
    for start in range(0, cases, MUTANTS_A_PROCESS):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _read_mutants(good, random.Random(seed + start), min(MUTANTS_A_PROCESS, cases - start), folder, writer)
        os.close(writer)
        with os.fdopen(reader) as file:
            words = file.read().split()
        _, status, usage = os.wait4(pid, 0)
        crashes += status != 0 or len(words) != 2
        if len(words) == 2:
            slowest, accepted = max(slowest, float(words[0])), accepted + int(words[1])
        largest = max(largest, usage.ru_maxrss // 1024)
    return {
        "cases": cases,
        "broken": crashes + (slowest > MAX_SECONDS) + (largest > MAX_MEGABYTES),
        "crashes": crashes,
        "slowest_seconds": round(slowest, 3),
        "largest_megabytes": largest,
        "harmless_mutants_read": accepted,
    }


def _read_mutants(good: list[bytes], rng: random.Random, num: int, folder: Path, report_to: int) -> None:
    path, slowest, accepted = folder / "mutant.pd", 0.0, 0
    for _ in range(num):
        path.write_bytes(_mutant(rng.choice(good), rng))
        start = time.perf_counter()
        try:
            load_weights(path)
            accepted += 1
        except CheckpointError:
            pass
        slowest = max(slowest, time.perf_counter() - start)
    os.write(report_to, f"{slowest} {accepted}".encode())
    os._exit(0)


def _mutant(good: bytes, rng: random.Random) -> bytes:
    bad = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(bad))
        match rng.randrange(4):
            case 0 | 1:
                bad[place] = rng.randrange(256)
            case 2:
                del bad[place : place + rng.randint(1, 8)]
            case 3:
                bad[place:place] = bad[rng.randrange(len(bad)) :][: rng.randint(1, 30)]
    return bytes(bad)
