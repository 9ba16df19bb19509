"""D1, D2, D5: the corpus of strange files, lists and folders by every way that leads into a model."""

import os
import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.preprocess import Preprocess
from datasets.reading.decode import IMAGE_EXTENSIONS
from datasets.reading.pixels import image_to_input
from tests.datasets.corpus import CORPUS, Case

from .listings import LISTINGS, Listing, build
from .ways import (
    BACKENDS,
    DOCTOR,
    MAX_MEGABYTES,
    MAX_SECONDS,
    SIDE,
    WAYS,
    Outcome,
    Sample,
    Source,
    Way,
    follow,
    training_sample,
)

MAX_DIFFERENCE = 12  # of 255, on average, between the backends: libraries that shrink differently
SCALE = Preprocess(SIDE).scale_and_shift()[0]


def d1(cases: int, seed: int) -> dict:
    """`cases` pairs of a file, list or folder and a way, at random."""
    pairs = [(way, name) for way in (*WAYS, DOCTOR) for name in CORPUS] + _pairs_of_listings()
    return _go(pairs, cases, seed)


def d5(cases: int, seed: int) -> dict:
    """Lists and folders alone; those that only training and evaluation read, and those that all do."""
    return _go(_pairs_of_listings(), cases, seed)


def _pairs_of_listings() -> list[tuple[Way, str]]:
    exact = [way for way in WAYS if way.backend == "pil"]
    return [(way, name) for way in exact for name, listing in LISTINGS.items() if _is_read_by(way, listing)]


def _is_read_by(way: Way, listing: Listing) -> bool:
    if way.name in ("predict", "infer"):
        return listing.answers is not None
    return way.name == "train" or listing.is_evaluated


def _go(pairs: list[tuple[Way, str]], cases: int, seed: int) -> dict:
    random.Random(seed).shuffle(pairs)
    pairs, broken, slowest, largest = pairs[:cases], [], 0.0, 0.0
    for way in (*WAYS, DOCTOR):
        names = [name for other, name in pairs if other == way]
        with _laid_out(names) as sources:
            for name, outcome in zip(names, follow(way, sources), strict=True):
                wrong = [*_judge(name, way, outcome), *_beyond(outcome)]
                broken += [f"{name}, {way}: {'; '.join(wrong)}"] if wrong else []
                slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
    numbers = {(CORPUS.get(name) or LISTINGS[name]).number for _, name in pairs}
    return {
        "cases": len(pairs),
        "broken": len(broken),
        "of_the_corpus": len(numbers - {0}),
        "ways": len({way for way, _ in pairs}),
        "slowest_seconds": round(slowest, 3),
        "largest_megabytes": round(largest),
        "details": broken[:5],
    }


@contextmanager
def _laid_out(names: list[str]) -> Iterator[list[Source]]:
    """Files, lists and folders by name, each in a folder of its own, for a while."""
    with tempfile.TemporaryDirectory(prefix="faults-d-") as folder:
        places = [(name, Path(folder) / str(i)) for i, name in enumerate(names)]
        yield [
            build(LISTINGS[name], place) if name in LISTINGS else lay_out(CORPUS[name], place) for name, place in places
        ]


def lay_out(case: Case, folder: Path) -> Source:
    """The one picture of a class, named by its folder; a file whose name says nothing is named by a list."""
    file = folder / "train" / "a" / case.file
    file.parent.mkdir(parents=True)
    (folder / "val").symlink_to("train")
    file.write_bytes(case.data)
    list_file = None
    if not file.name.lower().endswith(IMAGE_EXTENSIONS):
        list_file = folder / "l.txt"
        list_file.write_text(f"train/a/{case.file} 0\n")
    return Source(folder, list_file, file)


def _beyond(outcome: Outcome) -> Iterator[str]:
    if outcome.seconds > MAX_SECONDS:
        yield f"{outcome.seconds:.1f} s"
    if outcome.megabytes > MAX_MEGABYTES:
        yield f"{outcome.megabytes:.0f} MB"
    if outcome.forbidden:
        yield f"events {outcome.forbidden}"


def _judge(name: str, way: Way, outcome: Outcome) -> Iterator[str]:
    """In which respects it is not as stated."""
    if name in LISTINGS:
        stated = LISTINGS[name].answers if way.name in ("predict", "infer") else None
        yield from _judge_reading(LISTINGS[name], outcome) if stated is None else _judge_answers(stated, outcome)
        return
    case = CORPUS[name]
    reasons = [sample.found for sample in outcome.samples if isinstance(sample.found, str)]
    if not case.is_good:
        reason = outcome.error.removeprefix("BadImage ") if way.name in ("train", "eval") else "".join(reasons)
        if not re.search(case.expected, reason) or (outcome.error and case.file not in outcome.error):
            yield f"expected a bad image, {case.expected!r}; got {outcome.error or reason or 'pixels'}"
    elif outcome.error or reasons or [Path(sample.path).name for sample in outcome.samples] != [case.file]:
        yield outcome.error or f"{[sample.path for sample in outcome.samples]} {reasons}"
    else:
        yield from _judge_pixels(case.expected, way, outcome.samples[0].found)


def _judge_pixels(pixels: np.ndarray, way: Way, found: np.ndarray) -> Iterator[str]:
    if way == DOCTOR:
        if (found != pixels.shape[:2]).any():
            yield f"size {found}"
        return
    preprocess = Preprocess(SIDE)
    if way.name == "train":
        expected = training_sample(pixels, preprocess)
    else:
        expected = image_to_input(Image.fromarray(pixels), preprocess)
    difference = np.abs((found - expected) / SCALE).mean()
    if difference > (0 if way.backend == "pil" else MAX_DIFFERENCE):
        yield f"other pixels, by {difference:.1f} on average"


def _judge_reading(listing: Listing, outcome: Outcome) -> Iterator[str]:
    if listing.error:
        if not re.search(listing.error, outcome.error, re.DOTALL):
            yield f"expected {listing.error!r}, got {outcome.error or f'{len(outcome.samples)} samples'}"
        return
    found = sorted((_below_split(sample.path), sample.label) for sample in outcome.samples)
    if outcome.error or found != sorted(listing.entries):
        yield f"expected {listing.entries}, got {outcome.error or found}"


def _judge_answers(stated: dict[str, str], outcome: Outcome) -> Iterator[str]:
    found = {_below_split(sample.path): sample.found for sample in outcome.samples}
    if outcome.error or sorted(found) != sorted(stated) or len(outcome.samples) != len(stated):
        yield f"expected answers to {sorted(stated)}, got {outcome.error or sorted(found)}"
        return
    for path, reason in stated.items():
        if isinstance(found[path], str) != bool(reason) or (reason and reason not in found[path]):
            yield f"{path}: expected {reason or 'pixels'}, got {found[path]}"


def _below_split(path: str) -> str:
    """The path from train or val on."""
    parts = Path(path).parts
    at = max(i for i, part in enumerate(parts) if part in ("data", "train", "val"))
    return os.path.join(*parts[at + 1 :])


def d2(cases: int, seed: int) -> dict:
    """Good files by evaluation, predict and infer, byte for byte, and by training, whose crop is of the same pixels."""
    good = [name for name, case in CORPUS.items() if case.is_good]
    settings = list(product(BACKENDS, ("ignore", "apply")))
    jobs = [(*setting, name) for setting in settings for name in good]
    random.Random(seed).shuffle(jobs)
    jobs, broken, turned = jobs[:cases], [], 0
    for backend, exif in settings:
        names = [name for *setting, name in jobs if setting == [backend, exif]]
        ways = [way for way in WAYS if way.backend == backend]
        with _laid_out(names) as sources:
            outcomes = [list(follow(way, sources, exif)) for way in ways]
        for name, *found in zip(names, *outcomes, strict=True):
            pixels = CORPUS[name].pixels(exif)
            turned += pixels is not CORPUS[name].expected
            seen = {way.name: _only(outcome).tobytes() for way, outcome in zip(ways, found, strict=True)}
            is_same = seen["eval"] == seen["predict"] == seen["infer"] != b""
            is_exact = backend != "pil" or seen["train"] == training_sample(pixels, Preprocess(SIDE)).tobytes()
            broken += [] if is_same and is_exact else [f"{name}, {backend}, {exif}"]
    return {
        "cases": len(jobs),
        "broken": len(broken),
        "backends": ", ".join(BACKENDS),
        "turned_by_exif": turned,
        "details": broken[:5],
    }


def _only(outcome: Outcome) -> np.ndarray:
    """The pixels of the one sample; none if there is none."""
    samples: list[Sample] = outcome.samples
    return samples[0].found if len(samples) == 1 and isinstance(samples[0].found, np.ndarray) else np.zeros(0)
