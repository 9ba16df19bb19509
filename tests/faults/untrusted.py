"""S1, S2: crafted files of weights, and genuine ones with accidents, read in processes that may die of them."""

import hashlib
import json
import logging
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

from common.errors import CheckpointError
from engine.checkpoint import CHECKSUM, UNKNOWN, find_latest, is_checkpoint, read_checkpoint, write_checkpoint
from engine.safetensors_io import encode
from engine.weights import load_weights
from tests.engine.torch_writer import FORMS, bystanders, genuine, mutant, pickled, tensor, zip_form

from .growing import Maker, growing_makers
from .job import ROOT

READERS = {
    "load_weights": load_weights,
    "load_weights, ema": lambda path: load_weights(path, ema=True),
    "read_checkpoint": read_checkpoint,
    "find_latest": lambda path: find_latest(path.parent),
    "is_checkpoint": is_checkpoint,
}
WRAPS = (lambda x: x, lambda x: {"w": x}, lambda x: {"model": {"w": x}}, lambda x: [x, x])
MAX_SECONDS, MAX_MEGABYTES, MUTANTS_A_PROCESS = 2.0, 300, 2000


def s1(cases: int, seed: int) -> dict:
    """Every crafted file of the tests of both readers; a marker file that appears is an execution.

    Those of torch.save are in both forms. An attack beside sound weights stays a placeholder there, so that the weights
    may be read; everything else is refused.
    """
    from tests.engine.test_paddle_pickle import PROTOCOLS, RAW, attacks
    from tests.engine.test_torch_pickle import PICKLES, crafted_tensors

    logging.disable(logging.WARNING)  # a line for each file that find_latest passes over
    folder = Path(tempfile.mkdtemp(prefix="faults-s1-"))
    marker, path = folder / "marker", folder / "checkpoint-latest.pd"
    calls, weights = list(attacks(str(marker)).values()), {"w": tensor(np.ones(3, np.float32))}
    refused = [
        *RAW.values(),
        *(pickle.dumps(wrap(call), protocol=protocol) for call, protocol, wrap in product(calls, PROTOCOLS, WRAPS)),
        *(form(content) for form, content in product(FORMS.values(), PICKLES.values())),
        *(form({"w": crafted}) for form, crafted in product(FORMS.values(), crafted_tensors().values())),
        *(form({"w": call}) for form, call in product(FORMS.values(), calls)),
    ]
    harmless = [form({"net": weights, "attack": call}) for form, call in product(FORMS.values(), calls)]
    files = [(data, False) for data in refused] + [(data, True) for data in harmless]
    num_files = min(cases, len(files))
    files = [files[number * len(files) // num_files] for number in range(num_files)]  # of every kind, also when few
    executions, accepted, unread = 0, 0, 0
    for (data, is_harmless), (name, read) in product(files, READERS.items()):
        path.write_bytes(data)
        try:
            read(path)
            accepted += not is_harmless and name != "is_checkpoint"  # which only says what the file calls itself
        except CheckpointError:
            unread += is_harmless and name == "load_weights"
        executions += marker.exists()
    return {
        "cases": num_files,
        "broken": executions + accepted + unread,
        "readers": len(READERS),
        "executions": executions,
    }


GENUINE = """
import argparse, sys
import paddle
from tests.engine.tiny import tiny_net
for protocol in (2, 3, 4):
    content = {"model": tiny_net().state_dict(), "args": argparse.Namespace(a=1), "epoch": 3}
    paddle.save(content, f"{sys.argv[1]}/{protocol}.pd", protocol=protocol)
"""


def s2(cases: int, seed: int) -> dict:
    """Mutants of sound files of every format: no crash, a bounded time of the processor and memory for each.

    Checksums would find nearly all mutants of a zip archive and of a checkpoint of this project, so that their pickles
    and headers are changed before the checksums are made. One mutant in eight repeats a part up to 100,000 times. Half
    of the files are crafted: their depth, width or digits grow up to ten million.
    """
    folder = Path(tempfile.mkdtemp(prefix="faults-s2-"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", GENUINE, str(folder)], env=environment, check=True)
    damaged, crafted = _mutant_makers([path.read_bytes() for path in sorted(folder.glob("*.pd"))], folder)
    crashes, slowest, largest, accepted = 0, 0.0, 0, 0
    for start in range(0, cases, MUTANTS_A_PROCESS):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            rng, number = random.Random(seed + start), min(MUTANTS_A_PROCESS, cases - start)
            _read_mutants([damaged, crafted], rng, number, folder, writer)
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


def _mutant_makers(paddle_files: list[bytes], folder: Path) -> tuple[list[Maker], list[Maker]]:
    """Functions that make a mutant of a sound file each, for a format and a place; and those of crafted files."""
    content = {"state_dict": {"w": tensor(np.ones((2, 3), np.float32))}, **bystanders()}
    pickle_bytes, storages = pickled(content)
    entries = {f"data/{key}": storage.raw for key, storage in storages.items()}
    arrays = {"model/a.weight": np.ones((2, 3), np.float32), "model/b": np.zeros(4, np.float32)}
    plain = b"".join(encode(arrays, {"format": "pt"}))
    meta = {"next_epoch": 1, "next_step": 0, "info": {"args": {"model": "peleenet", "aa": None}, "class_names": ["a"]}}
    write_checkpoint(folder / "own.pd", arrays, meta)
    own = (folder / "own.pd").read_bytes()
    length = int.from_bytes(own[:8], "little")
    meta_text = json.dumps(meta).encode()

    def own_header(rng: random.Random) -> bytes:
        header = mutant(own[CHECKSUM.stop : 8 + length], rng)
        return sealed(own[8 : CHECKSUM.start], header, own[8 + length :])

    def own_meta(rng: random.Random) -> bytes:
        return own_settings(json.dumps(mutant(meta_text, rng).decode("latin1")).encode())

    def own_settings(text: bytes) -> bytes:
        old = json.dumps(meta_text.decode()).encode()
        return sealed(own[8 : CHECKSUM.start], own[CHECKSUM.stop : 8 + length].replace(old, text), own[8 + length :])

    files = [*paddle_files, *genuine(), plain]
    return [
        *(lambda rng, file=file: mutant(file, rng) for file in files),
        lambda rng: zip_form(mutant(pickle_bytes, rng), more=entries),
        lambda rng: zip_form(mutant(pickle_bytes, rng), more=entries),
        own_header,
        own_meta,
    ], growing_makers(own_settings)


def sealed(start: bytes, header: bytes, data: bytes) -> bytes:
    """A checkpoint of this project with a true checksum."""
    parts = [(len(start) + 64 + len(header)).to_bytes(8, "little") + start, UNKNOWN.encode(), header + data]
    return parts[0] + hashlib.sha256(b"".join(parts)).hexdigest().encode() + parts[2]


def _read_mutants(makers: list, rng: random.Random, num: int, folder: Path, report_to: int) -> None:
    path, slowest, accepted = folder / "mutant.pd", 0.0, 0
    for _ in range(num):
        path.write_bytes(rng.choice(rng.choice(makers))(rng))
        start = time.process_time()
        try:
            weights = load_weights(path)
            accepted += isinstance(weights.trained_with, str)
            read_checkpoint(path)
        except CheckpointError:
            pass
        slowest = max(slowest, time.process_time() - start)
    os.write(report_to, f"{slowest} {accepted}".encode())
    os._exit(0)
