"""S4: exported folders with damaged, exchanged or foreign programs, each read in a process that it may kill."""

import multiprocessing
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from common.errors import ExportedModelError
from deploy.card import CARD_NAME, Card, read_card
from deploy.engines import EngineOptions
from deploy.predictor import open_predictor
from deploy.self_check import SELF_CHECK_IMAGE, SELF_CHECK_LOGITS

LONG = 1000  # from this number of cases on PeleeNet with 224 pixels and 1000 classes; below it a smaller network
CASES_PER_PROCESS = 100
ENGINES = {
    "paddle": "paddle",
    "pdmodel": "paddle",
    "pdmodel-b1": "paddle",
    "onnx": "onnxruntime",
    "onnx-int8": "onnxruntime",
}
OPTIONS = EngineOptions(num_threads=1)

# part of a message -> the check that refuses
REFUSED_BY = {
    "card.yaml: damaged": "card",
    "card.yaml says": "size_or_checksum",
    "never writes": "operators",
    "not a program": "form",
    "logits for check.png": "answer",
}


class Case(NamedTuple):
    """Damage of one file of a folder.

    Attributes:
        kind: "foreign", "exchanged", "cut" or "flipped".
        name: the file.
        damage: changes the file.
        true_checksums: write the checksums of the changed files into the card.
    """

    kind: str
    name: str
    damage: Callable[[Path], None]
    true_checksums: bool = False


def s4(cases: int, seed: int) -> dict:
    """Read foreign and exchanged programs, then flipped bits and cuts of any file until there are `cases`."""
    folder, rng = Path(tempfile.mkdtemp(prefix="faults-s4-")), random.Random(seed)
    two_exports(folder, is_small=cases < LONG)
    card = read_card(folder / "exported")
    todo = [*foreign(), *exchanged(folder, card)]
    todo += [accident(rng, folder / "exported", [*card.files, CARD_NAME]) for _ in range(cases - len(todo))]
    counts, crashes = Counter(), 0
    for start in range(0, len(todo), CASES_PER_PROCESS):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try_all(todo[start : start + CASES_PER_PROCESS], folder / "exported", card, writer)
        os.close(writer)
        with os.fdopen(reader) as file:
            counts.update(file.read().splitlines())
        crashes += os.waitpid(pid, 0)[1] != 0
    shutil.rmtree(folder)
    refused = {key: number for key, number in sorted(counts.items()) if key.startswith("refused_by")}
    wrong = [key for key in counts if key.startswith("wrong")]
    return {
        "cases": len(todo),
        "broken": crashes + sum(counts[key] for key in wrong) + (counts["tried"] != len(todo)),
        **Counter(case.kind for case in todo),
        "crashes": crashes,
        **refused,
        "details": wrong[:10],
    }


def two_exports(folder: Path, *, is_small: bool, formats: tuple[str, ...] | None = None) -> None:
    """Export one network with different weights to `exported` and `other`, in a process of its own.

    The calling process must not compute before it forks. `formats` are all without a value.
    """
    writing = multiprocessing.get_context("fork").Process(target=_write_exports, args=(folder, is_small, formats))
    writing.start()
    writing.join()
    assert writing.exitcode == 0


def _write_exports(folder: Path, is_small: bool, formats: tuple[str, ...] | None) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the last line of stdout is the result of the promise
    import paddle

    from configs.schema import EXPORT_FORMATS
    from datasets.preprocess import Preprocess
    from deploy.engines import EagerEngine
    from deploy.export.export_folder import export_folder
    from deploy.export.parity import parity_images
    from deploy.export.quantize import Calibration, Quantization
    from deploy.predictor import Predictor
    from export_model import program_writer
    from models import create_model

    side, num_classes = (32, 4) if is_small else (224, 1000)
    images = parity_images()
    images[0].save(folder / "picture.png")
    for seed, name in enumerate(("exported", "other")):
        paddle.seed(seed)
        blocks = {"block_config": [1, 1, 1, 1]} if is_small else {}
        model = create_model("peleenet", num_classes=num_classes, **blocks)
        names = tuple(f"{name} {label}" for label in range(num_classes))
        card = Card("peleenet", "PeleeNet", num_classes, Preprocess(input_size=side), names)
        eager = Predictor(EagerEngine(model), card)
        logits = eager.logits(eager.preprocess(images))
        quantization = Quantization(Calibration([str(folder / "picture.png")]))
        writer = program_writer(model, side)
        export_folder(folder / name, formats or EXPORT_FORMATS, card, writer, images, logits, quantization)


def foreign() -> Iterator[Case]:
    """Yield the programs that tests/deploy/test_operator_allowlist.py plants."""
    from tests.deploy.test_operator_allowlist import PLANTED

    for name, plants in PLANTED.items():
        for plant, _ in plants:
            yield Case("foreign", name, plant, true_checksums=True)


def exchanged(folder: Path, card: Card) -> Iterator[Case]:
    """Yield each file of the other folder alone, and each program with its weights and true checksums."""
    for name in (*card.files, CARD_NAME):
        if (folder / "other" / name).read_bytes() != (folder / "exported" / name).read_bytes():
            yield Case("exchanged", name, lambda path: shutil.copy(folder / "other" / path.name, path))
    for program in ("paddle", "pdmodel", "pdmodel-b1", "onnx"):  # INT8 differs by processor and is not compared
        files = card.programs[program].files
        yield Case(
            "exchanged", files[0], lambda path, files=files: _copy_all(folder / "other", path.parent, files), True
        )


def _copy_all(source: Path, folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        shutil.copy(source / name, folder)


def accident(rng: random.Random, folder: Path, names: list[str]) -> Case:
    """Draw a cut or a flipped bit of a file."""
    name = rng.choice(names)
    size = (folder / name).stat().st_size
    if rng.random() < 0.3:
        length = rng.randrange(size)
        return Case("cut", name, lambda path: os.truncate(path, length))
    place, bit = rng.randrange(size), rng.randrange(8)

    def flip(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << bit]))

    return Case("flipped", name, flip)


def try_all(cases: list[Case], folder: Path, card: Card, report_to: int) -> None:
    """Read all cases in this process and end it; writes one line per case and per result of a reader.

    Args:
        cases: what is damaged.
        folder: the undamaged folder.
        card: its card.
        report_to: file descriptor of the lines.
    """
    from tests.deploy.test_operator_allowlist import true_checksums

    work = Path(tempfile.mkdtemp(prefix="faults-s4-work-")) / "exported"
    shutil.copytree(folder, work)
    for case in cases:
        case.damage(work / case.name)
        if case.true_checksums:
            true_checksums(work)
        lines = ["tried"] + [outcome(load, case) for load in loads(work, card, case)]
        os.write(report_to, ("\n".join(lines) + "\n").encode())
        for name in (case.name, CARD_NAME, "model.pdiparams") if case.true_checksums else (case.name,):
            shutil.copy(folder / name, work)
    shutil.rmtree(work.parent)
    os._exit(0)


def loads(folder: Path, card: Card, case: Case) -> Iterator[Callable[[], object]]:
    """Yield the functions that read the damaged file."""
    if not case.true_checksums:
        yield lambda: read_card(folder)
    for name, engine in ENGINES.items():
        files = card.programs[name].files
        if case.name in (*files, CARD_NAME, SELF_CHECK_IMAGE, SELF_CHECK_LOGITS):
            yield lambda file=files[0], engine=engine: open_predictor(folder / file, engine=engine, options=OPTIONS)


def outcome(load: Callable[[], object], case: Case) -> str:
    """Call a reader; returns the line of its result."""
    try:
        load()
    except ExportedModelError as error:
        return "refused_by_" + next((by for text, by in REFUSED_BY.items() if text in str(error)), "the_engine")
    except Exception as fault:
        return f"wrong: {case.kind} {case.name}: {fault!r}"
    return f"wrong: {case.kind} {case.name} was accepted"
