"""What every inference engine has: options, a description, `run`, and what it cannot do."""

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from common.cli import without_paddle_warnings
from common.cpus import has_bfloat16, usable_cpus
from common.errors import ExportedModelError, MissingDependencyError

BATCH_1_PROGRAM = "pdmodel-b1"  # the program of the card whose batch size is fixed to 1


@dataclass(frozen=True)
class EngineOptions:
    """Settings of an engine. An engine refuses an option that it does not have; it never ignores one."""

    use_gpu: bool = False
    gpu_id: int = 0
    gpu_mem_mb: int = 8000
    num_threads: int | None = None  # of one engine; None: one per processor that this process may use
    precision: str = "fp32"  # fp32, bf16 (of a CPU), fp16 or int8
    num_clones: int = 1  # engines on the same weights that run at the same time, each with num_threads threads
    max_batch_size: int = 1  # TensorRT builds for this size; 1 prefers the program with a fixed batch size of 1
    ir_optim: bool = True  # optimise the program when it is loaded
    onednn: bool = False
    openvino: bool = False  # Paddle Inference runs model.pdmodel through the OpenVINO runtime in Paddle's wheel
    tensorrt: bool = False

    @property
    def threads(self) -> int:
        """Number of threads of one engine."""
        return self.num_threads or usable_cpus()


class Engine(ABC):
    """A program loaded by a runtime: `run(images) -> logits`.

    A subclass declares the class attributes below; a row in `deploy.engines.ENGINES` makes it a value of `--engine`.
    """

    name: ClassVar[str]  # value of --engine, and the Python package of the runtime
    programs: ClassVar[tuple[str, ...]]  # names of programs in a card that the engine runs, the fastest first
    int8_programs: ClassVar[tuple[str, ...]] = ()  # the same for --precision int8
    requirements: ClassVar[str] = "requirements-deploy.txt"  # installs the runtime
    releases_gil: ClassVar[bool] = True  # whether `run` lets other Python threads work meanwhile

    description: str  # runtime, program and device, for people
    device: str = "cpu"  # cpu or gpu
    onednn_is_on: bool = False
    memory_optim_is_on: bool = False

    @abstractmethod
    def __init__(self, files: Sequence[Path], options: EngineOptions):
        """Load the program `files[0]` with its weights `files[1:]`."""

    @abstractmethod
    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits [B, C] float32 of preprocessed `images` [B, 3, S, S] float32."""

    @abstractmethod
    def clone(self) -> "Engine":
        """Return an engine for another thread that shares the weights of this one."""

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the Python package of the runtime can be imported."""
        return bool(importlib.util.find_spec(cls.name))

    @classmethod
    def finds_gpu(cls, options: EngineOptions) -> bool:
        """Whether the runtime is installed and would compute on the GPU that `options` name."""
        return False

    @classmethod
    def unsupported_reason(cls, options: EngineOptions) -> str | None:
        """Say why the engine cannot do what `options` ask for; None if it can."""
        for flag, is_on in (
            ("--use_tensorrt", options.tensorrt),
            ("--enable_mkldnn", options.onednn),
            ("--enable_openvino", options.openvino),
            ("--precision fp16", options.precision == "fp16"),
        ):
            if is_on:
                return f"--engine {cls.name} has no {flag}: that is an option of --engine paddle"
        if options.precision == "bf16":
            return f"--engine {cls.name} has no --precision bf16: that is an option of --engine openvino"
        if options.precision == "int8" and not cls.int8_programs:
            return f"--engine {cls.name} has no --precision int8"
        return None

    @classmethod
    def programs_for(cls, options: EngineOptions) -> tuple[str, ...]:
        """Names of the programs in a card that the engine runs with `options`, the fastest first."""
        return cls.int8_programs if options.precision == "int8" else cls.programs

    @classmethod
    def all_programs(cls) -> tuple[str, ...]:
        """Names of the programs in a card that the engine runs with any options."""
        return tuple(dict.fromkeys(cls.programs + cls.int8_programs))

    @classmethod
    def fastest_cpu_options(cls, options: EngineOptions, programs: Collection[str]) -> EngineOptions:
        """Choose the fastest settings on a CPU for a folder with these `programs`, where `options` leave a choice."""
        return options


def import_runtime(engine: type[Engine], module: str):
    """Import `module` of the runtime of `engine`.

    Raises:
        MissingDependencyError: the module is not installed.
    """
    try:
        with without_paddle_warnings():
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"--engine {engine.name}: {error}; pip install -r {engine.requirements}, or choose another --engine"
        ) from None


def require_bfloat16(precision: str = "bf16") -> None:
    """Refuse a processor without bfloat16, where it would be emulated: slower than fp32, and less exact.

    Args:
        precision: value of the flag that asks for it; fp16 does so on a CPU.

    Raises:
        MissingDependencyError: the processor does not have it, or the operating system does not tell.
    """
    if not has_bfloat16():
        raise MissingDependencyError(
            f"--precision {precision}: this processor has no bfloat16 (avx512_bf16, amx_bf16 or bf16 in "
            "/proc/cpuinfo); take --precision fp32"
        )


def require_utf8(*paths: Path) -> None:
    """Refuse a path that is not UTF-8 text, for which Paddle and ONNX Runtime raise a TypeError of many lines.

    Raises:
        ExportedModelError: a path is not UTF-8.
    """
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise ExportedModelError(
                f"{path}: not UTF-8; Paddle and ONNX Runtime cannot open such a path: rename the folder"
            ) from None


def only_name(names: Sequence[str], kind: str, place: object) -> str:
    """Return the single item of `names`, the inputs or outputs (`kind`) of the program at `place`.

    Raises:
        ExportedModelError: there is not exactly one.
    """
    if len(names) != 1:
        raise ExportedModelError(
            f"{place}: {len(names)} {kind}, {', '.join(names)}: not an image classifier, which has one input and one "
            "output"
        )
    return names[0]


def format_threads(number: int) -> str:
    """Format a number of threads: `1 thread`, `2 threads`."""
    return f"{number} thread" if number == 1 else f"{number} threads"


def last_line(error: Exception) -> str:
    """Return the last line of the message of an exception: runtimes write a stack trace above it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
