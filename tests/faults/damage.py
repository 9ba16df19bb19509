"""D3, D4: damaged image files: what the manifest finds, and what training with --on_bad_image skip does."""

import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from common.errors import BadImage
from datasets.reading.decode import decode
from tests.datasets.corpus import CORPUS, jpeg_pixels
from tests.datasets.fake_images import encode_image, fake_image

from .job import ROOT, run_forked
from .running import Tally, images_of_steps

REAL = ROOT.parent / "shared" / "data" / "imagenet_lite"


def d3(cases: int, seed: int) -> dict:
    """Flip one bit in each of `cases` JPEGs, beside some undamaged ones, and count what manifest and decoder report."""
    rng, folder = random.Random(seed), Path(tempfile.mkdtemp(prefix="faults-d3-"))
    (folder / "train" / "a").mkdir(parents=True)
    originals = _jpegs()
    for i in range(cases + cases // 20 + 1):
        (folder / "train" / "a" / f"{i:05}.jpg").write_bytes(originals[i % len(originals)])
    assert _check(folder, "--write_manifest") == {}
    pixels, outcomes = [jpeg_pixels(data) for data in originals], Counter()
    for i in range(cases):
        path, good = folder / "train" / "a" / f"{i:05}.jpg", i % len(originals)
        data = bytearray(originals[good])
        place = rng.randrange(8 * len(data))
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        outcomes[_decoded(bytes(data), pixels[good])] += 1
    counts = _check(folder, "--manifest")
    shutil.rmtree(folder)
    return {
        "cases": cases,
        "broken": abs(cases - counts["changed"]),
        "files": f"{len(originals)} {'photographs' if REAL.is_dir() else 'generated images'}",
        "found_by_the_manifest": counts["changed"],
        "refused_by_the_decoder": outcomes["refused"],
        "complained_of_by_simplejpeg": counts.get("suspect", 0),
        "silently_other_pixels": outcomes["other"],
    }


def _jpegs() -> list[bytes]:
    return [path.read_bytes() for path in sorted(REAL.rglob("*.JPEG"))] or [
        encode_image(fake_image(200, 150, i), "JPEG") for i in range(16)
    ]


def _check(folder: Path, flag: str) -> dict[str, int]:
    """Run datasets.check; returns the number of findings by kind, without the copies that this data consists of."""
    command = [sys.executable, "-m", "datasets.check", folder, flag, folder / "manifest.txt", "--output_dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    report = json.loads((folder / "check.json").read_text())
    return {finding["kind"]: finding["count"] for finding in report["findings"] if finding["kind"] != "copies"}


def _decoded(data: bytes, pixels: np.ndarray) -> str:
    """Whether the decoder refuses the file, or gives the same or other pixels."""
    try:
        decoded = np.asarray(decode(data, "x"))
    except BadImage:
        return "refused"
    return "same" if np.array_equal(decoded, pixels) else "other"


NUM_TRAIN, NUM_VAL, NUM_BAD = 200, 16, 2  # 1 % of them


def d4(cases: int, seed: int) -> dict:
    """Train with --on_bad_image skip on 1 % damaged files; one case in three exceeds --max_bad_images."""
    tally = Tally("d4", seed)
    _write_data(tally.folder / "good")
    code, *whole = _train(tally.folder / "good", tally.folder / "whole", NUM_BAD)
    assert code == 0, f"see {tally.folder}"
    damages = [case.data for case in CORPUS.values() if not case.is_good]
    for case in range(cases):
        data, out = tally.folder / f"data-{case}", tally.folder / f"case-{case}"
        shutil.copytree(tally.folder / "good", data)
        bad = sorted(tally.rng.sample(range(NUM_TRAIN), NUM_BAD))
        for index in bad:
            (data / f"{index}.png").write_bytes(tally.rng.choice(damages))
        is_allowed = case % 3 < 2
        code, steps, samples = _train(data, out, NUM_BAD if is_allowed else NUM_BAD - 1)
        reported = re.findall(r"skipped: image (\d+) of at most \d+: \S*/(\d+)\.png", Path(f"{out}.log").read_text())
        if is_allowed:
            expected = _without(bad, *whole)
            tally.add_case(
                f"{bad}; {out}",
                code and f"exit code {code}",
                (steps, samples) != expected and "order or augmentations changed",
                (sorted(int(name) for _, name in reported), [int(count) for count, _ in reported]) != (bad, [1, 2])
                and f"reported {reported}",
            )
        else:
            tally.add_case(
                f"{bad}, one allowed; {out}", code != 3 and f"exit code {code}", len(reported) != 1 and f"{reported}"
            )
        shutil.rmtree(data)
    return tally.line(of_images=NUM_TRAIN, damaged=NUM_BAD, samples_compared=len(whole[1]))


def _write_data(folder: Path) -> None:
    folder.mkdir()
    for i in range(NUM_TRAIN + NUM_VAL):
        fake_image(40 + i % 7, 34 + i % 5, seed=i).save(folder / f"{i}.png")
    lines = [f"{i}.png {i % 4}\n" for i in range(NUM_TRAIN + NUM_VAL)]
    (folder / "train.txt").write_text("".join(lines[:NUM_TRAIN]))
    (folder / "val.txt").write_text("".join(lines[NUM_TRAIN:]))


def _train(data: Path, out: Path, max_bad_images: int) -> tuple[int, dict, dict]:
    """Train; returns exit code, images of each step, and checksum of each sample by epoch and index."""
    notes = {name: Path(f"{out}.{name}") for name in ("steps", "samples")}
    code = run_forked(
        out,
        fault={"record": {"file": str(notes["steps"])}, "record_samples": {"file": str(notes["samples"])}},
        data_path=data,
        cls_label_path_train=data / "train.txt",
        cls_label_path_val=data / "val.txt",
        epochs=2,
        batch_size=8,
        on_bad_image="skip",
        max_bad_images=max_bad_images,
    )
    samples = [json.loads(line) for line in notes["samples"].read_text().splitlines()]
    return code, images_of_steps(notes["steps"]), {(epoch, index): digest for epoch, index, digest in samples}


def _without(bad: list[int], steps: dict, samples: dict) -> tuple[dict, dict]:
    kept = {place: [index for index in images if index not in bad] for place, images in steps.items()}
    return kept, {place: digest for place, digest in samples.items() if place[1] not in bad}
