"""A case: the YAML file that says which port is held against which reference, and how."""

import difflib
import typing
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path

import yaml

from common.errors import CaseError

from .rules import BATCH_NORM, COUNTERS, Rules

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Training:
    """Of the backward and the train stage.

    The default numbers are exact in float32, where Paddle keeps momentum and decay: so both sides compute with the same
    ones, and in float64 20 steps agree to 1e-10. With 0.9 and 1e-4 they would differ by 1e-8 before the first step.
    """

    shape: tuple[int, ...] = (8, 3, 64, 64)
    steps: int = 20
    optimizer: str = "momentum"
    lr: float = 2**-6
    momentum: float = 0.875
    weight_decay: float = 2**-13
    smoothing: float = 0.125
    curve_side: int = 32  # digits of 8 x 8 are scaled to this for the two loss curves; 0 leaves them out
    curve_lr: float = 0.02

    def __post_init__(self):
        if self.steps < 1 or self.curve_side < 0 or self.curve_side % 8:
            raise CaseError(
                f"train: steps is a number from 1, curve_side a multiple of 8; got {self.steps} and {self.curve_side}"
            )


@dataclass(frozen=True)
class Tolerances:
    """Relative to the largest element of the reference's tensor; why these values: docs/alignment.md."""

    float64: float = 1e-10
    float32: float = 1e-5
    gradient: float = 1e-7
    step: float = 1e-6
    curve: float = 3.0  # times the distance of the reference from itself, see stages/train.py
    absolute: float = 0.0  # forgiven beside the relative error; for auto_diff, 0 in every case
    amplification: float = 30.0  # how much the rounding of a listed op may grow on its way to the logits


@dataclass(frozen=True)
class Layout:
    """Of another publisher's weights, as `Rules` has it."""

    rename: dict[str, str] = field(default_factory=dict)
    transpose: tuple[str, ...] = ()
    scale: dict[str, float] = field(default_factory=dict)
    drop: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Everything about one pair of models; the defaults serve an ImageNet classifier."""

    name: str
    folder: Path
    port: str
    reference: str
    port_arguments: dict = field(default_factory=dict)
    reference_arguments: dict = field(default_factory=dict)
    shape: tuple[int, ...] = (1, 3, 224, 224)
    input_range: tuple[float, float] = (-2.0, 2.0)
    seed: int = 0
    rename: dict[str, str] = field(default_factory=dict)
    transpose: tuple[str, ...] = ()
    drop: dict[str, str] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    train: Training = field(default_factory=Training)
    tolerances: Tolerances = field(default_factory=Tolerances)

    def rules(self, layout: str = "torch") -> Rules:
        """Of the reference ("torch"), of the port's own files ("paddle"), or of a publisher that the case lists."""
        if layout == "torch":
            rename = tuple(self.rename.items())
            return Rules(rename, BATCH_NORM, tuple(self.transpose), COUNTERS | self.drop, prefix="module.")
        if layout == "paddle":
            return Rules()
        if layout not in self.layouts:
            raise CaseError(_unknown("layout", layout, ["torch", "paddle", *self.layouts]))
        rules = self.layouts[layout]
        return Rules(tuple(rules.rename.items()), transpose=rules.transpose, scale=rules.scale, drop=rules.drop)

    @property
    def reference_spec(self) -> dict:
        return {"callable": located(self.reference, self.folder), "arguments": self.reference_arguments}


def list_cases() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.yaml"))


def read_case(name_or_path: str) -> Case:
    """A shipped case by name, or any YAML file; CaseError names what is unknown or missing in it."""
    path = Path(name_or_path) if name_or_path.endswith((".yaml", ".yml")) else CASES / f"{name_or_path}.yaml"
    if not path.is_file() and path.parent != CASES:
        raise CaseError(f"{path}: no such file")
    if not path.is_file():
        raise CaseError(_unknown("case", name_or_path, list_cases()) + "; or give the path of a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CaseError(f"{path} is not YAML: {error}") from None
    return _filled(Case, content, str(path), name=path.stem, folder=path.parent.resolve())


def located(spec: str, folder: Path) -> str:
    """`path/file.py:name` relative to the case becomes absolute; `package.module:name` stays."""
    place, _, name = spec.rpartition(":")
    return f"{(folder / place).resolve()}:{name}" if place.endswith(".py") else spec


def _filled(kind: type, values: object, where: str, **given: object):
    """A dataclass from a table, beside what is `given`: unknown, missing and wrongly typed keys are errors."""
    known = {entry.name: entry for entry in fields(kind) if entry.name not in given}
    filled = dict(given)
    for key, value in _checked(dict, values, where).items():
        if key not in known:
            raise CaseError(f"{where}: {_unknown('key', str(key), known)}")
        filled[key] = _typed(known[key].type, value, f"{where}: {key}")
    for name, entry in known.items():
        if name not in filled and entry.default is MISSING and entry.default_factory is MISSING:
            raise CaseError(f"{where}: the key '{name}' is missing")
    return kind(**filled)


def _typed(kind: type, value: object, where: str):
    """`value` of a YAML file as a dataclass, a number, a text, a tuple or a table of these."""
    parts = typing.get_args(kind)
    if is_dataclass(kind):
        return _filled(kind, value, where)
    if kind is float:
        return _number(value, where)
    if typing.get_origin(kind) is tuple:
        items = _checked(list, value, where)
        if parts[-1] is not ... and len(items) != len(parts):
            raise CaseError(f"{where}: expected {len(parts)} values, got {value!r}")
        return tuple(_typed(parts[0], one, where) for one in items)
    if typing.get_origin(kind) is dict:
        return {_typed(parts[0], key, where): _typed(parts[1], one, f"{where}: {key}")
                for key, one in _checked(dict, value, where).items()}  # fmt: skip
    return _checked(kind, value, where)


WORDS = {dict: "a table, `key: value` lines", list: "a list", str: "a text", int: "a whole number"}


def _checked(kind: type, value: object, where: str):
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CaseError(f"{where}: expected {WORDS[kind]}, got {value!r}")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):  # YAML 1.1 reads 1e-5 as a text
        with suppress(ValueError):
            return float(value)
    raise CaseError(f"{where}: expected a number, got {value!r}")


def _unknown(kind: str, given: str, known) -> str:
    guess = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean '{guess[0]}'? " if guess else ""
    return f"unknown {kind} '{given}'; {hint}known: {', '.join(known)}"
