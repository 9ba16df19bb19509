"""D1, D2, D5: the corpus of unusual files, lists and folders, read by every program that reads images."""

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
from .readers import (
    BACKENDS,
    CHECK,
    MAX_MEGABYTES,
    MAX_SECONDS,
    READERS,
    SIDE,
    Outcome,
    Reader,
    Sample,
    Source,
    read_all,
    training_sample,
)

MAX_DIFFERENCE = 12  # of 255, mean over the pixels, between backends, whose libraries resize differently
SCALE = Preprocess(SIDE).scale_and_shift()[0]


def d1(cases: int, seed: int) -> dict:
    """Read random pairs of a reader and a file, list or folder."""
    pairs = [(reader, name) for reader in (*READERS, CHECK) for name in CORPUS] + _pairs_of_listings()
    return _read_pairs(pairs, cases, seed)


def d5(cases: int, seed: int) -> dict:
    """Read lists and folders alone."""
    return _read_pairs(_pairs_of_listings(), cases, seed)


def _pairs_of_listings() -> list[tuple[Reader, str]]:
    exact = [reader for reader in READERS if reader.backend == "pil"]
    return [(reader, name) for reader in exact for name, listing in LISTINGS.items() if _is_read_by(reader, listing)]


def _is_read_by(reader: Reader, listing: Listing) -> bool:
    if reader.name in ("predict", "infer"):
        return listing.reasons is not None
    return reader.name == "train" or listing.is_evaluated


def _read_pairs(pairs: list[tuple[Reader, str]], cases: int, seed: int) -> dict:
    random.Random(seed).shuffle(pairs)
    pairs, broken, slowest, largest = pairs[:cases], [], 0.0, 0.0
    for reader in (*READERS, CHECK):
        names = [name for other, name in pairs if other == reader]
        with _written(names) as sources:
            for name, outcome in zip(names, read_all(reader, sources), strict=True):
                wrong = [*_differences(name, reader, outcome), *_exceeded_limits(outcome)]
                broken += [f"{name}, {reader}: {'; '.join(wrong)}"] if wrong else []
                slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
    numbers = {(CORPUS.get(name) or LISTINGS[name]).number for _, name in pairs}
    return {
        "cases": len(pairs),
        "broken": len(broken),
        "of_the_corpus": len(numbers - {0}),
        "readers": len({reader for reader, _ in pairs}),
        "slowest_seconds": round(slowest, 3),
        "largest_megabytes": round(largest),
        "details": broken[:5],
    }


@contextmanager
def _written(names: list[str]) -> Iterator[list[Source]]:
    """Write the named files, lists and folders, each into a folder of its own, which exists inside the context."""
    with tempfile.TemporaryDirectory(prefix="faults-d-") as folder:
        places = [(name, Path(folder) / str(i)) for i, name in enumerate(names)]
        yield [
            build(LISTINGS[name], place) if name in LISTINGS else write_case(CORPUS[name], place)
            for name, place in places
        ]


def write_case(case: Case, folder: Path) -> Source:
    """Write a data set of one image; a file without the extension of an image is named by a list."""
    file = folder / "train" / "a" / case.file
    file.parent.mkdir(parents=True)
    (folder / "val").symlink_to("train")
    file.write_bytes(case.data)
    list_file = None
    if not file.name.lower().endswith(IMAGE_EXTENSIONS):
        list_file = folder / "l.txt"
        list_file.write_text(f"train/a/{case.file} 0\n")
    return Source(folder, list_file, file)


def _exceeded_limits(outcome: Outcome) -> Iterator[str]:
    if outcome.seconds > MAX_SECONDS:
        yield f"{outcome.seconds:.1f} s"
    if outcome.megabytes > MAX_MEGABYTES:
        yield f"{outcome.megabytes:.0f} MB"
    if outcome.forbidden:
        yield f"events {outcome.forbidden}"


def _differences(name: str, reader: Reader, outcome: Outcome) -> Iterator[str]:
    """Yield the differences of an outcome from the stated one."""
    if name in LISTINGS:
        reasons = LISTINGS[name].reasons if reader.name in ("predict", "infer") else None
        if reasons is None:
            yield from _differences_of_samples(LISTINGS[name], outcome)
        else:
            yield from _differences_of_predictions(reasons, outcome)
        return
    case = CORPUS[name]
    reasons = [sample.result for sample in outcome.samples if isinstance(sample.result, str)]
    if not case.is_good:
        reason = outcome.error.removeprefix("BadImage ") if reader.name in ("train", "eval") else "".join(reasons)
        if not re.search(case.expected, reason) or (outcome.error and case.file not in outcome.error):
            yield f"expected a bad image, {case.expected!r}; got {outcome.error or reason or 'pixels'}"
    elif outcome.error or reasons or [Path(sample.path).name for sample in outcome.samples] != [case.file]:
        yield outcome.error or f"{[sample.path for sample in outcome.samples]} {reasons}"
    else:
        yield from _differences_of_pixels(case.expected, reader, outcome.samples[0].result)


def _differences_of_pixels(pixels: np.ndarray, reader: Reader, result: np.ndarray) -> Iterator[str]:
    if reader == CHECK:
        if (result != pixels.shape[:2]).any():
            yield f"size {result}"
        return
    preprocess = Preprocess(SIDE)
    if reader.name == "train":
        expected = training_sample(pixels, preprocess)
    else:
        expected = image_to_input(Image.fromarray(pixels), preprocess)
    difference = np.abs((result - expected) / SCALE).mean()
    if difference > (0 if reader.backend == "pil" else MAX_DIFFERENCE):
        yield f"the pixels differ by {difference:.1f} on average"


def _differences_of_samples(listing: Listing, outcome: Outcome) -> Iterator[str]:
    if listing.error:
        if not re.search(listing.error, outcome.error, re.DOTALL):
            yield f"expected {listing.error!r}, got {outcome.error or f'{len(outcome.samples)} samples'}"
        return
    entries = sorted((_below_split(sample.path), sample.label) for sample in outcome.samples)
    if outcome.error or entries != sorted(listing.entries):
        yield f"expected {listing.entries}, got {outcome.error or entries}"


def _differences_of_predictions(reasons: dict[str, str], outcome: Outcome) -> Iterator[str]:
    results = {_below_split(sample.path): sample.result for sample in outcome.samples}
    if outcome.error or sorted(results) != sorted(reasons) or len(outcome.samples) != len(reasons):
        yield f"expected predictions of {sorted(reasons)}, got {outcome.error or sorted(results)}"
        return
    for path, reason in reasons.items():
        if isinstance(results[path], str) != bool(reason) or (reason and reason not in results[path]):
            yield f"{path}: expected {reason or 'pixels'}, got {results[path]}"


def _below_split(path: str) -> str:
    """The path below train or val."""
    parts = Path(path).parts
    at = max(i for i, part in enumerate(parts) if part in ("data", "train", "val"))
    return os.path.join(*parts[at + 1 :])


def d2(cases: int, seed: int) -> dict:
    """Compare the model inputs of eval, predict and infer byte for byte, and the crop of training with the pixels."""
    good = [name for name, case in CORPUS.items() if case.is_good]
    settings = list(product(BACKENDS, ("ignore", "apply")))
    triples = [(*setting, name) for setting in settings for name in good]
    random.Random(seed).shuffle(triples)
    triples, broken, num_rotated = triples[:cases], [], 0
    for backend, exif in settings:
        names = [name for *setting, name in triples if setting == [backend, exif]]
        readers = [reader for reader in READERS if reader.backend == backend]
        with _written(names) as sources:
            outcomes = [list(read_all(reader, sources, exif)) for reader in readers]
        for name, *of_readers in zip(names, *outcomes, strict=True):
            pixels = CORPUS[name].pixels(exif)
            num_rotated += pixels is not CORPUS[name].expected
            inputs = {r.name: _single(outcome).tobytes() for r, outcome in zip(readers, of_readers, strict=True)}
            is_same = inputs["eval"] == inputs["predict"] == inputs["infer"] != b""
            is_exact = backend != "pil" or inputs["train"] == training_sample(pixels, Preprocess(SIDE)).tobytes()
            broken += [] if is_same and is_exact else [f"{name}, {backend}, {exif}"]
    return {
        "cases": len(triples),
        "broken": len(broken),
        "backends": ", ".join(BACKENDS),
        "turned_by_exif": num_rotated,
        "details": broken[:5],
    }


def _single(outcome: Outcome) -> np.ndarray:
    """The model input of the only sample, or an empty array."""
    samples: list[Sample] = outcome.samples
    return samples[0].result if len(samples) == 1 and isinstance(samples[0].result, np.ndarray) else np.zeros(0)
