"""Find the program of an exported folder that an engine runs, and verify it: checksums of the card, operators."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from common.cli import did_you_mean_path
from common.errors import EngineOptionError, ExportedModelError
from common.regular_files import check_regular
from datasets.preprocess import Preprocess

from .card import (
    CARD_NAME,
    EXPORT_AGAIN,
    Card,
    Program,
    exported_folder,
    folder_of_files,
    has_card,
    read_card,
    verify_files,
)
from .engine_base import Engine, EngineOptions
from .engines import ENGINES, check_options
from .operator_allowlist import check_operators
from .self_check import SELF_CHECK_IMAGE, SELF_CHECK_LOGITS

GPU_DEVICE = Path("/dev/nvidia0")


class ExportedProgram(NamedTuple):
    """A program on disk: its card, its name in the card ("" without a card), and its files (program, then weights)."""

    card: Card
    name: str
    files: tuple[Path, ...]


def choose_engine(model_path: str | Path, options: EngineOptions) -> tuple[str, EngineOptions]:
    """Choose the engine of `--engine auto` and its fastest options.

    The first engine of `ENGINES` that is installed, can do what `options` ask for and has a program in the exported
    folder is chosen. On a machine with an NVIDIA GPU only engines that run on it are tried, if `options.use_gpu` and
    there is such an engine: Paddle may be a build for CPUs.

    Raises:
        EngineOptionError: engines are installed and have a program, but none can do what `options` ask for.
        ExportedModelError: no such path, no card, or no installed engine runs a program of the folder.
    """
    model_path, folder = Path(model_path), exported_folder(model_path)
    if not has_card(model_path):
        if not model_path.exists():
            raise _no_such_file(model_path)
        raise ExportedModelError(
            f"{model_path}: no {CARD_NAME} in {folder}, and only {CARD_NAME} lists the programs; name an engine "
            "instead of --engine auto"
        )
    programs = read_card(folder, verify=False).programs
    if not model_path.is_dir():
        name = _name_of_file(model_path, programs)
        programs = {name: programs[name]}
    on_gpu = []
    if options.use_gpu and GPU_DEVICE.exists():
        runnable = [engine for engine in ENGINES.values() if _runs_one_of(engine, programs, options)]
        on_gpu = [engine.name for engine in runnable if engine.finds_gpu(options)]
    reasons = []
    for name, engine in ENGINES.items():
        if on_gpu and name not in on_gpu:
            continue
        if not _runs_one_of(engine, programs, options) or not engine.is_installed():
            continue
        if reason := engine.unsupported_reason(options):
            reasons.append(reason)
        else:
            return name, options if on_gpu else engine.fastest_cpu_options(options, programs)
    if reasons:
        raise EngineOptionError(f"--engine auto: no engine can do what the flags ask for: {'; '.join(reasons)}")
    raise ExportedModelError(
        f"{folder}: no installed engine runs {' or '.join(programs)}; pip install -r requirements-deploy.txt, or "
        "export the model again with --format paddle,onnx"
    )


def _runs_one_of(engine: type[Engine], programs: Mapping[str, Program], options: EngineOptions) -> bool:
    return any(name in programs for name in engine.programs_for(options))


def find_program(
    model_path: str | Path,
    params_path: str | Path | None,
    engine: str,
    options: EngineOptions,
    default_card: Card,
    *,
    trust_program: bool = False,
) -> ExportedProgram:
    """Find the program that an engine runs with `options`, and verify its files.

    Files beside a card.yaml are compared with the checksums in it.

    Args:
        model_path: an exported folder, or the file of a program.
        params_path: the file of the weights; None where the card names it, or the program holds the weights.
        engine: name in `ENGINES`.
        options: the program must run with them: int8 and OpenVINO in Paddle need programs of their own.
        default_card: preprocessing and class names of a program without a card.
        trust_program: accept operators that our exporter does not write, and a .pdmodel without a card.

    Raises:
        EngineOptionError: the engine does not have one of the `options`.
        ExportedModelError: no program there that the engine runs; a file that does not have its checksum; an operator
            that our exporter does not write.
    """
    check_options(engine, options)
    model_path = Path(model_path)
    if has_card(model_path):
        program = _find_with_card(model_path, params_path, ENGINES[engine], options)
    else:
        program = _find_without_card(model_path, params_path, default_card)
        if model_path.suffix == ".pdmodel" and not trust_program:
            raise ExportedModelError(
                f"{model_path}: no {CARD_NAME} beside it, so the origin of the program is unknown, and a .pdmodel can "
                f"write files. If you trust the origin: --trust_program True; or {EXPORT_AGAIN}"
            )
    if not trust_program:
        check_operators(program.files[0])
    return program


def _find_with_card(
    model_path: Path, params_path: str | Path | None, engine: type[Engine], options: EngineOptions
) -> ExportedProgram:
    folder = exported_folder(model_path)
    source = folder_of_files(folder)
    card = read_card(source, verify=False)
    if model_path.is_dir():
        runnable = engine.programs_for(options)
        name = next((name for name in runnable if name in card.programs), None)
        if name is None:
            formats = ",".join((*card.programs, runnable[0]))  # an export without the present ones would remove them
            raise ExportedModelError(
                f"{folder}: the {engine.name} engine runs {_either(runnable)}, the folder holds "
                f"{_listed(card.programs)}; export the model again with --format {formats}"
            )
    else:
        name = _name_of_file(model_path, card.programs)
        if name not in engine.all_programs():
            raise ExportedModelError(
                f"{model_path}: the {engine.name} engine runs {_either(engine.all_programs())}, not {name}"
            )
    files = card.programs[name].files
    if params_path is not None and [Path(params_path).resolve()] != [(folder / file).resolve() for file in files[1:]]:
        raise ExportedModelError(
            f"--params_file {params_path}: {folder / CARD_NAME} says that the weights of {files[0]} are in "
            f"{', '.join(files[1:]) or 'the program itself'}; leave --params_file out"
        )
    self_check = [name for name in (SELF_CHECK_IMAGE, SELF_CHECK_LOGITS) if name in card.files]
    verify_files(source, card, [*files, *self_check])
    return ExportedProgram(card, name, tuple(source / file for file in files))


def _find_without_card(model_path: Path, params_path: str | Path | None, default_card: Card) -> ExportedProgram:
    if model_path.is_dir():
        raise ExportedModelError(
            f"{model_path}: no {CARD_NAME} in it, so name the files: --model_file and --params_file; or {EXPORT_AGAIN}"
        )
    files = [model_path] if params_path is None else [model_path, Path(params_path)]
    for file in files:
        try:
            check_regular(file)
        except FileNotFoundError:
            raise _no_such_file(file) from None
        except OSError as error:
            raise ExportedModelError(f"{file}: {error.strerror or error}") from None
    if len(files) == 1 and model_path.suffix in (".json", ".pdmodel"):
        raise ExportedModelError(f"{model_path}: its weights are missing; name their file with --params_file")
    return ExportedProgram(default_card, "", tuple(files))


def _no_such_file(path: Path) -> ExportedModelError:
    return ExportedModelError(f"{path}: no such file{did_you_mean_path(path) or '; export_model.py writes it'}")


def _name_of_file(path: Path, programs: Mapping[str, Program]) -> str:
    for name, program in programs.items():
        if program.files[0] == path.name:
            return name
    raise ExportedModelError(f"{path}: {path.with_name(CARD_NAME)} does not list it, only {_listed(programs)}")


def _listed(programs: Mapping[str, Program]) -> str:
    return ", ".join(f"{name} ({program.files[0]})" for name, program in programs.items()) or "no program"


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)


def predecessor_card(class_names: Sequence[str], interpolation: str = "bicubic") -> Card:
    """Make the card of a program without one, by the preprocessing of infer.py in PeleeNet-paddle.

    That is: short side to 256, centre crop of 224, the mean and standard deviation of ImageNet.
    """
    return Card(
        model="peleenet",
        architecture="PeleeNet",
        num_classes=len(class_names),
        preprocess=Preprocess(interpolation=interpolation),
        class_names=tuple(class_names),
    )
