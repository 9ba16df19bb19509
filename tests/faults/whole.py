"""W1 to W5: files that killed programs leave, and exports that are exchanged while they are read."""

import contextlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.errors import DataError, ExportedModelError
from datasets.check.__main__ import main as check_main
from datasets.manifest import read_manifest
from datasets.pack import check_shards
from datasets.pack import main as pack_main
from datasets.reading.image_list import read_image_list
from datasets.split.__main__ import main as split_main
from deploy.card import CARD_NAME, Card, read_card, write_card
from deploy.engines import EngineOptions
from deploy.exchange import exchange, new_export
from deploy.predictor import open_predictor
from tests.datasets.fake_images import fake_image

from .exported import two_exports

NUM_IMAGES, NUM_CLASSES, NUM_READERS = 24, 3, 4


def seconds_of(work: Callable[[int], object]) -> float:
    """Do the work twice in this process, so that all is imported before the forks; the seconds of the second time."""
    with contextlib.redirect_stdout(io.StringIO()):
        work(0)
        start = time.perf_counter()
        work(1)
    return time.perf_counter() - start


def kill_at_random(work: Callable[[int], object], rng: random.Random, seconds: float) -> None:
    """Call `work` with 0, 1, 2, ... in a process that is killed after at most `seconds`."""
    if (pid := os.fork()) == 0:
        try:
            sys.stdout = io.StringIO()
            for number in range(10_000):
                work(number)
        finally:
            os._exit(1)
    time.sleep(rng.uniform(0, seconds))
    os.kill(pid, signal.SIGKILL)
    if not os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
        raise RuntimeError("the work ended before the kill")


def _write_images(folder: Path) -> None:
    for i in range(NUM_IMAGES):
        path = folder / "train" / f"class_{i % NUM_CLASSES}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        fake_image(40, 30, seed=i).save(path)


def w1(cases: int, seed: int) -> dict:
    """Kill datasets.check while it writes lists of 24 or 23 images and a manifest; what is accepted must be whole."""
    rng, folder, counts = random.Random(seed), Path(tempfile.mkdtemp(prefix="faults-w1-")), Counter()
    _write_images(folder)
    lists, manifest = folder / "lists", folder / "manifest.txt"
    lines = [f"train/class_{i % NUM_CLASSES}/{i}.png {i % NUM_CLASSES}\n" for i in range(NUM_IMAGES)]
    for number in (0, 1):
        (folder / f"{number}.txt").write_text("".join(lines[number:]))

    def work(number: int) -> None:
        flags = ["--lists", folder / f"{number % 2}.txt", "--write_clean_lists", lists, "--write_manifest", manifest]
        check_main([str(flag) for flag in [folder, *flags, "--num_workers", 0]])

    seconds = 3 * seconds_of(work)
    for _ in range(cases):
        kill_at_random(work, rng, seconds)
        for path, read in ((lists / "train_list.txt", lambda path: read_image_list(path, folder)),
                           (manifest, read_manifest)):  # fmt: skip
            counts[_outcome(path, read, (NUM_IMAGES, NUM_IMAGES - 1))] += 1
    shutil.rmtree(folder)
    return _line(cases, counts)


def w2(cases: int, seed: int) -> dict:
    """Kill datasets.split while it writes its lists; what is accepted must be whole, and the two must fit together."""
    rng, folder, counts = random.Random(seed), Path(tempfile.mkdtemp(prefix="faults-w2-")), Counter()
    _write_images(folder)

    def work(number: int) -> None:
        split_main([str(folder / "train"), "--output_dir", str(folder / "split"), "--seed", str(number)])

    seconds = 3 * seconds_of(work)
    for _ in range(cases):
        kill_at_random(work, rng, seconds)
        paths = sorted((folder / "split").glob("*_list.txt")) if (folder / "split").exists() else []
        for path in paths:
            if path.name.startswith(("train", "val", "test")):
                counts[_outcome(path, lambda path: read_image_list(path, folder), range(1, NUM_IMAGES))] += 1
    shutil.rmtree(folder)
    return _line(cases, counts)


def _outcome(path: Path, read: Callable, whole: object) -> str:
    if not path.exists():
        return "absent"
    try:
        return "whole" if len(read(path)) in whole else "wrong"
    except DataError:
        return "refused"


def w3(cases: int, seed: int) -> dict:
    """Kill datasets.pack; the packing that continues must give the bytes of one that was not killed."""
    rng, folder, counts = random.Random(seed), Path(tempfile.mkdtemp(prefix="faults-w3-")), Counter()
    _write_images(folder)

    def pack(out: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            pack_main([f"--data_path={folder}", f"--output_dir={folder / out}", "--per_shard=4", "--num_workers=0"])

    seconds = 2 * seconds_of(lambda number: pack("good"))
    shutil.rmtree(folder / "good")
    seconds += seconds_of(lambda number: pack("good") or number or shutil.rmtree(folder / "good"))
    good = _contents(folder / "good" / "train")
    for _ in range(cases):
        kill_at_random(lambda number: pack("out") or shutil.rmtree(folder / "out"), rng, seconds)
        out = folder / "out" / "train"
        if (out / "shards.json").exists():
            with contextlib.suppress(DataError):
                check_shards(out, 0)
                counts["complete"] += 1
        pack("out")
        counts["whole" if _contents(out) == good else "wrong"] += 1
        shutil.rmtree(folder / "out")
    shutil.rmtree(folder)
    return _line(cases, counts)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def w4(cases: int, seed: int) -> dict:
    """Kill exchanges of two exports; after each, folder and program named with its weights give one export whole."""
    rng, counts = random.Random(seed), Counter()
    folder, answers = _two_exports()
    seconds = 3 * seconds_of(lambda number: replace(folder, number))
    for _ in range(cases):
        kill_at_random(lambda number: replace(folder, number % 2), rng, seconds)
        for engine in ("onnxruntime", "paddle"):
            counts[_answer(folder, engine, answers, rng)] += 1
        counts["leftovers"] += len(list((folder / "current").glob(".export-*")))
    replace(folder, 0)
    counts["wrong"] += len(list((folder / "current").glob(".*")))
    shutil.rmtree(folder)
    return _line(cases, counts)


def w5(cases: int, seed: int) -> dict:
    """Exchange two exports again and again under four readers, each of which must get one of them whole."""
    folder, answers = _two_exports()
    replace(folder, 0)
    readers = []
    for number in range(NUM_READERS):
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            _read_for_ever(folder, answers, random.Random(seed + number), writer)
        os.close(writer)
        readers.append((pid, reader))
    for number in range(cases):
        replace(folder, number % 2)
        time.sleep(0.05)  # an export takes seconds
    counts = Counter()
    for pid, reader in readers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reader) as file:
            counts.update(file.read().split("\n")[:-1])
    shutil.rmtree(folder)
    return _line(cases, counts) | {"readers": NUM_READERS}


def _read_for_ever(folder: Path, answers: dict, rng: random.Random, report_to: int) -> None:
    while True:
        os.write(report_to, f"{_answer(folder, 'onnxruntime', answers, rng)}\n".encode())


def _two_exports() -> tuple[Path, dict[str, np.ndarray]]:
    """A folder with the exports `exported` and `other`, and the logits of their picture by the name of class 0."""
    folder = Path(tempfile.mkdtemp(prefix="faults-w-"))
    two_exports(folder, is_small=True, formats=("paddle", "onnx"))
    answers = {}
    for name in ("exported", "other"):
        predictor = open_predictor(folder / name, engine="onnxruntime", options=EngineOptions(num_threads=1))
        answers[f"{name} 0"] = predictor.logits(predictor.preprocess([str(folder / "picture.png")]))
    return folder, answers


def replace(folder: Path, number: int) -> None:
    """Make `current` one of the two exports, as an export of this moment."""
    source = folder / ("exported", "other")[number]
    with new_export(folder / "current") as work:
        for path in source.iterdir():
            if path.name != CARD_NAME:
                shutil.copy(path, work)
        fields = vars(read_card(source, verify=False))
        write_card(work, Card(**{**fields, "created": f"{time.time_ns()} of {os.getpid()}"}))
        exchange(work, folder / "current")


def _answer(folder: Path, engine: str, answers: dict[str, np.ndarray], rng: random.Random) -> str:
    """Load the current export by a name drawn at random; whether class names and logits are of the same export."""
    program = {"onnxruntime": "model.onnx", "paddle": "model.json"}[engine]
    weights = folder / "current" / "model.pdiparams" if engine == "paddle" else None
    is_named = rng.random() < 0.5
    path = folder / "current" / program if is_named else folder / "current"
    options = EngineOptions(num_threads=1)
    try:
        predictor = open_predictor(path, weights if is_named else None, engine=engine, options=options)
    except ExportedModelError as error:
        return "told_to_try_again" if "try again" in str(error) else "wrong"
    logits = predictor.logits(predictor.preprocess([str(folder / "picture.png")]))
    return "whole" if np.allclose(logits, answers[predictor.class_names[0]], atol=1e-3) else "mixed"


def _line(cases: int, counts: Counter) -> dict:
    return {"cases": cases, "broken": counts["wrong"] + counts["mixed"], **dict(sorted(counts.items()))}
