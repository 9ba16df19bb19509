"""An exported folder, ready to answer: finds the program, checks it against its card, and runs images through it."""

import copy
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.errors import ExportedModelError
from datasets.preprocess import Preprocess
from datasets.reading.backends import choose_backend
from datasets.reading.pixels import image_to_input

from .card import CARD_NAME, EXPORT_AGAIN, Card, Program, read_card, verify_files
from .engines import SINGLE, EngineOptions, all_programs, create_engine, engine_programs, last_line
from .operator_allowlist import check_program
from .self_check import ANSWER_NAME, PICTURE_NAME, check_answer, read_self_check
from .topk import topk_records

# PeleeNet, fp32, batch 1, one core: 11.1, 12.3 and at best 11.9 ms (python -m benchmarks.latency); Paddle takes longest
# to load and holds Python's lock
AUTO_ORDER = ("onnxruntime", "openvino", "paddle")


class Exported(NamedTuple):
    """A program on disk, by its name in the card; without a card the name is empty and `card` is a default."""

    card: Card
    program: str
    files: tuple[Path, ...]


def choose_engine(model_path: str | Path, options: EngineOptions) -> tuple[str, EngineOptions]:
    """What --engine auto means: the fastest engine that is installed and has a program in the folder, and its switches.

    On a machine with an NVIDIA GPU that is Paddle, which alone uses it here.
    """
    model_path = Path(model_path)
    folder = model_path if model_path.is_dir() else model_path.parent
    if not (folder / CARD_NAME).exists():
        raise ExportedModelError(
            f"{model_path}: no {CARD_NAME} there, which lists the programs; name an engine instead of --engine auto"
        )
    programs = read_card(folder, verify=False).programs
    if not model_path.is_dir():
        name = _program_at(model_path, programs)
        programs = {name: programs[name]}
    order = ("paddle",) if options.use_gpu and Path("/dev/nvidia0").exists() else AUTO_ORDER
    for engine in order:
        if engine == "openvino" and not options.ir_optim:
            continue  # it always optimises
        usable = [name for name in engine_programs(engine, options) if name in programs]
        if usable and importlib.util.find_spec(engine):
            break
    else:
        raise ExportedModelError(
            f"{folder}: no installed engine runs {' or '.join(programs)}; pip install -r requirements-deploy.txt, or "
            "export the model again with --format paddle,onnx"
        )
    if engine != "paddle" or order != AUTO_ORDER:
        return engine, options
    has_old_form = any(name in programs for name in engine_programs("paddle", replace(options, openvino=True)))
    return engine, replace(options, openvino=has_old_form, onednn=not has_old_form)


def find_exported(
    model_path: str | Path,
    params_path: str | Path | None,
    engine: str,
    options: EngineOptions,
    default_card: Card,
    *,
    trust_program: bool = False,
) -> Exported:
    """The program that `engine` runs: of the folder `model_path`, or the file `model_path` with weights `params_path`.

    Files beside a card.yaml are verified. Without one, `default_card` says how to feed the program. Unless
    `trust_program`, the program may hold only what our exporter writes, and a .pdmodel needs a card.

    Raises:
        ExportedModelError: nothing there that the engine runs, or something that may not be there.
    """
    model_path = Path(model_path)
    folder = model_path if model_path.is_dir() else model_path.parent
    if (folder / CARD_NAME).exists():
        exported = _with_card(model_path, params_path, engine, options)
    else:
        exported = _without_card(model_path, params_path, default_card)
        if model_path.suffix == ".pdmodel" and not trust_program:
            raise ExportedModelError(
                f"{model_path}: no {CARD_NAME} beside it, so nobody says where it is from, and a .pdmodel can write "
                f"files. If you know who made it: --trust_program True; or {EXPORT_AGAIN}"
            )
    if not trust_program:
        check_program(exported.files[0])
    return exported


def _with_card(model_path: Path, params_path: str | Path | None, engine: str, options: EngineOptions) -> Exported:
    folder = model_path if model_path.is_dir() else model_path.parent
    card = read_card(folder, verify=False)
    if model_path.is_dir():
        wanted = engine_programs(engine, options)
        name = next((name for name in wanted if name in card.programs), None)
        if name is None:
            raise ExportedModelError(
                f"{folder}: the {engine} engine runs {' or '.join(wanted)}, the folder holds {_known(card.programs)}; "
                f"export the model again with --format {wanted[0]}"
            )
    else:
        name = _program_at(model_path, card.programs)
        if name not in all_programs(engine):
            raise ExportedModelError(
                f"{model_path}: the {engine} engine runs {' or '.join(all_programs(engine))}, not {name}"
            )
    files = card.programs[name].files
    if params_path is not None and [Path(params_path).resolve()] != [(folder / file).resolve() for file in files[1:]]:
        raise ExportedModelError(
            f"--params_file {params_path}: {folder / CARD_NAME} says that {files[0]} takes "
            f"{', '.join(files[1:]) or 'no such file'}"
        )
    checks = [name for name in (PICTURE_NAME, ANSWER_NAME) if name in card.files]
    verify_files(folder, card, [*files, *checks])
    return Exported(card, name, tuple(folder / file for file in files))


def _program_at(path: Path, programs: dict[str, Program]) -> str:
    """The name of the program whose file is `path`."""
    for name, program in programs.items():
        if program.files[0] == path.name:
            return name
    raise ExportedModelError(f"{path}: {path.with_name(CARD_NAME)} does not list it, only {_known(programs)}")


def _known(programs: dict[str, Program]) -> str:
    return ", ".join(f"{name} ({program.files[0]})" for name, program in programs.items()) or "no program"


def _without_card(model_path: Path, params_path: str | Path | None, default_card: Card) -> Exported:
    if model_path.is_dir():
        raise ExportedModelError(
            f"{model_path}: no {CARD_NAME} in it, so name the files: --model_file and --params_file; or {EXPORT_AGAIN}"
        )
    files = [model_path] if params_path is None else [model_path, Path(params_path)]
    for file in files:
        if not file.is_file():
            raise ExportedModelError(f"{file}: no such file; export_model.py writes it")
    if len(files) == 1 and model_path.suffix in (".json", ".pdmodel"):
        raise ExportedModelError(f"{model_path}: its weights are missing; name them with --params_file")
    return Exported(default_card, "", tuple(files))


def predecessor_card(class_names: Sequence[str], interpolation: str = "bicubic") -> Card:
    """How PeleeNet-paddle's infer.py feeds every model: short side 256, centre crop 224, ImageNet classes."""
    return Card(
        model="peleenet",
        architecture="PeleeNet",
        num_classes=len(class_names),
        preprocess=Preprocess(interpolation=interpolation),
        class_names=tuple(class_names),
    )


class Predictor:
    """Images in, records out. One predictor serves one thread; `clone()` makes another on the same weights."""

    _is_one_by_one = False  # whether the program takes one image at a time

    def __init__(
        self,
        model_path: str | Path,
        params_path: str | Path | None = None,
        *,
        engine: str = "paddle",
        options: EngineOptions | None = None,
        default_card: Card | None = None,
        trust_program: bool = False,
    ):
        """Load the exported folder or program file at `model_path`, and try it on the picture that was kept at export.

        With `trust_program`, also one that our exporter did not write, whatever its operators do.

        Raises:
            ExportedModelError: the program is damaged, does not fit its card, or answers otherwise than at export.
            MissingDependencyError: the engine or the card's image backend is not installed, or the machine lacks what
                a switch asks for.
        """
        options = options or EngineOptions()
        default_card = default_card or predecessor_card([])
        exported = find_exported(model_path, params_path, engine, options, default_card, trust_program=trust_program)
        self.card, self.has_card = exported.card, bool(exported.program)
        choose_backend(self.card.preprocess.image_backend)
        self.engine = create_engine(engine, exported.files, options)
        self._is_one_by_one = exported.program == SINGLE
        # a GPU may multiply in TF32, with three digits
        is_exact = options.precision == "fp32" and exported.program != "onnx-int8" and self.engine.device == "cpu"
        self._try(exported.files[0], is_exact=is_exact)

    def _try(self, program: Path, *, is_exact: bool) -> None:
        side = self.card.preprocess.input_size
        picture, expected = Image.new("RGB", (side, side)), None
        if ANSWER_NAME in self.card.files:
            picture, expected = read_self_check(program.parent)
        try:
            [logits] = self.engine.run(self.arrays([picture]))
        except Exception as error:  # each runtime has its own types for a wrong shape
            raise ExportedModelError(f"{program}: does not run on a {side}x{side} image: {last_line(error)}") from None
        if logits.ndim != 1:
            raise ExportedModelError(f"{program}: gives {list(logits.shape)} for an image, not a number for each class")
        if not self.has_card and len(logits) != self.card.num_classes:
            self.card = replace(self.card, num_classes=len(logits), class_names=None)
        if len(logits) != self.card.num_classes:
            raise ExportedModelError(
                f"{program}: gives {len(logits)} classes, {CARD_NAME} says {self.card.num_classes}; {EXPORT_AGAIN}"
            )
        if expected is not None and is_exact:
            check_answer(program, logits, expected)

    def clone(self) -> "Predictor":
        """A predictor for another thread."""
        twin = copy.copy(self)
        twin.engine = self.engine.clone()
        return twin

    def arrays(self, images: Sequence[Image.Image]) -> np.ndarray:
        """The preprocessed batch [B, 3, S, S] float32 of RGB `images`."""
        return np.stack([image_to_input(image, self.card.preprocess) for image in images])

    def logits(self, arrays: np.ndarray) -> np.ndarray:
        """Logits [B, C] of preprocessed `arrays` [B, 3, S, S]."""
        if self._is_one_by_one:
            logits = np.concatenate([self.engine.run(array[None]) for array in arrays])
        else:
            logits = self.engine.run(arrays)
        if not np.isfinite(logits).all():
            raise ExportedModelError(f"{self.card.model}: the program gives nan or inf; {EXPORT_AGAIN}")
        return logits

    def predict(
        self, images: Sequence[Image.Image], file_names: Sequence[str], k: int = 5, threshold: float = 0.0
    ) -> list[dict]:
        """A record for each of the RGB `images`, which run as one batch; see `topk_records`."""
        return topk_records(self.logits(self.arrays(images)), file_names, self.card.class_names, k, threshold)
