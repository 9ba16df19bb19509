"""S6: crafted recipes, cases, cards, lists, settings and arrays, each within a time and a memory."""

import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alignment.case import read_case
from alignment.compat.reprod_log import read_dictionary
from configs.loader import parse
from configs.schema import TrainConfig
from datasets.class_names import read_class_names
from datasets.reading.image_list import read_image_list
from deploy.card import CARD_NAME, add_checksum_line, read_card
from deploy.self_check import SELF_CHECK_LOGITS, read_self_check
from engine.checkpoint import CHECKSUM, find_latest, read_checkpoint, write_checkpoint
from tests.common.test_yaml_text import REFUSED
from tests.datasets.fake_images import fake_image

from .untrusted import sealed

MAX_SECONDS, MAX_MEGABYTES, WALL_SECONDS = 2.0, 300, 120
MANY = 20_000_000


class Crafted(NamedTuple):
    """A crafted file: `read` makes an error with `exit_code`, or an answer where that is None."""

    name: str
    content: bytes
    read: Callable[[Path], object]
    exit_code: int | None


def crafted() -> Iterator[Crafted]:
    """The files of every reader."""
    readers = {"recipe": (_recipe, 2), "case": (_case, 2), "card": (_card, 4)}
    texts = {name: text.encode() for name, (text, _) in REFUSED.items()}
    texts |= {"comments": b"#\n" * MANY, "long key": b"a" * 900_000 + b": 1", "keys": b"a: {x: 1}\n" * 90_000}
    texts |= {"key of a number": b"1: 1", "no text": b"\xff\xfe\x00", "huge exponent": b"lr: 1.0e+999"}
    for (name, content), (reader, (read, exit_code)) in product(texts.items(), readers.items()):
        yield Crafted(f"{reader}: {name}", content, read, exit_code)
    digits = b"9" * 5000
    for name, content in {"digits": digits + b" a\n0 b", "lines": b"0 a\n" * MANY, "line": b"a" * 5 * MANY}.items():
        yield Crafted(f"class names: {name}", content, lambda path: read_class_names(path, 3), 3)
    for name, content in {"digits": b"a.jpg " + digits, "wrong lines": b"a\n" * (MANY // 4)}.items():
        yield Crafted(f"list: {name}", content, lambda path: read_image_list(path, path.parent, 3), 3)
    logits = {"numbers": b"1," * 4 * MANY + b"1", "depth": b"[" * MANY, "digits": digits, "lists": b"[]," * MANY + b"1"}
    for name, content in logits.items():
        yield Crafted(f"check.json: {name}", b'{"logits":[' + content + b"]}", _self_check, 4)
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    arrays = {
        "operations": (header, b"\x80\x02" + b"N0" * MANY),
        "depth": (header, b"\x80\x02" + b"]" * MANY),
        "nested tuples": (header, b"\x80\x02})" + b"2\x86" * 60 + b"Ns."),
        "header": (b"(" * 60_000, b""),
        "signs": (b"-" * 60_000 + b"1", b""),
        "type": (b"{'descr': '999999999999f8', 'fortran_order': False, 'shape': (), }", b""),
        "npz": (b"", b"PK\x03\x04"),
    }
    for name, (start, content) in arrays.items():
        yield Crafted(f"reprod_log: {name}", _npy(start) + content, read_dictionary, 4)
    settings = ["[]", "null", "1", '"x"', "[" * 50_000, '{"next_epoch":' + "9" * 5000 + "}", '{"next_epoch":1e999}']
    values = ('"a"', "[1]", "{}", "NaN", "-5", "true", "[[]]")
    entries = "next_epoch info lr_meter scaler environment best_top1_percent has_best num_skipped".split()
    settings += [f'{{"{entry}":{value}}}' for entry, value in product(entries, values)]
    settings += [f'{{"info":{{"{e}":{v}}}}}' for e, v in product(("args", "preprocess", "class_names"), values)]
    for text in settings:
        yield Crafted(f"settings: {text[:40]}", json.dumps(text).encode(), _checkpoint, 4)
    for content in (b"5", b"[1]", b"{}", b"null"):
        yield Crafted(f"settings that are no text: {content.decode()}", content, _checkpoint, 4)


def s6(cases: int, seed: int) -> dict:
    """Every crafted file, each in a process of its own, which reports its time and memory."""
    logging.disable(logging.WARNING)  # a line for each file that find_latest passes over
    files = list(crafted())
    cases = min(cases, len(files))
    broken, slowest, largest = [], 0.0, 0
    for number in range(cases):
        file = files[number * len(files) // cases]
        outcome, seconds, megabytes = _measure(file)
        slowest, largest = max(slowest, seconds), max(largest, megabytes)
        # some settings are of the right type, and are answered
        is_right = outcome == str(file.exit_code) or (file.read is _checkpoint and outcome == "answer")
        if not is_right or seconds > MAX_SECONDS or megabytes > MAX_MEGABYTES:
            broken.append(f"{file.name}: {outcome}, {seconds:.1f} s, {megabytes} MB")
    for line in broken:
        print(line, file=sys.stderr)
    return {
        "cases": cases,
        "broken": len(broken),
        "slowest_seconds": round(slowest, 2),
        "largest_megabytes": largest,
    }


def _measure(file: Crafted) -> tuple[str, float, int]:
    """(outcome, seconds of the processor, megabytes beyond those of the process before the reading)."""
    path = Path(tempfile.mkdtemp(prefix="faults-s6-")) / "crafted.yaml"
    path.write_bytes(file.content)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(WALL_SECONDS)
        before, start = _megabytes("VmRSS"), time.process_time()
        try:
            file.read(path)
            outcome = "answer"
        except BaseException as error:
            outcome = str(getattr(error, "exit_code", f"{type(error).__name__}: {error}"[:200]))
        seconds, megabytes = time.process_time() - start, _megabytes("VmHWM") - before
        os.write(writer, json.dumps([outcome, seconds, megabytes]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    path.unlink()
    return tuple(json.loads(text)) if text else (f"ended by signal {status & 0x7F}", float(WALL_SECONDS), 0)


def _megabytes(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) // 1024


def _recipe(path: Path) -> object:
    return parse(TrainConfig, ["--config", str(path)], prog="main.py")


def _case(path: Path) -> object:
    return read_case(str(path))


def _card(path: Path) -> object:
    (path.parent / CARD_NAME).write_bytes(add_checksum_line(path.read_bytes()))
    return read_card(path.parent)


def _self_check(path: Path) -> object:
    fake_image(8, 8).save(path.parent / "check.png")
    path.rename(path.parent / SELF_CHECK_LOGITS)
    (path.parent / path.name).touch()
    return read_self_check(path.parent)


def _npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x02\x00" + len(header + b"\n").to_bytes(4, "little") + header + b"\n" if header else b""


def _checkpoint(path: Path) -> object:
    """Read a checkpoint with a true checksum and the content of `path` as its settings, and replace it."""
    meta, own = {"next_epoch": 1, "next_step": 0}, path.parent / "checkpoint-latest.pd"
    write_checkpoint(own, {"model/a": np.ones(3, np.float32)}, meta)
    data = own.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = data[CHECKSUM.stop : end].replace(json.dumps(json.dumps(meta)).encode(), path.read_bytes())
    own.write_bytes(sealed(data[8 : CHECKSUM.start], header, data[end:]))
    try:
        find_latest(path.parent)
        return read_checkpoint(own)
    finally:
        write_checkpoint(own, {"model/a": np.ones(3, np.float32)}, meta)
