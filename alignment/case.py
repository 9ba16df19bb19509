"""A case: the YAML file that says which port is held against which reference, and how."""

import difflib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

import yaml

from .errors import CaseError
from .rules import BATCH_NORM, COUNTERS, Rules

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Training:
    """Of the backward and the train rung.

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
    curve_side: int = 32  # digits are scaled to this for the two loss curves; 0 leaves them out
    curve_lr: float = 0.02


@dataclass(frozen=True)
class Tolerances:
    """Relative to the largest element of the reference's tensor; why these values: docs/alignment.md."""

    float64: float = 1e-10
    float32: float = 1e-5
    gradient: float = 1e-7
    step: float = 1e-6
    curve: float = 3.0  # times the distance of the reference from itself, see rungs/train.py
    absolute: float = 0.0  # forgiven beside the relative error; for auto_diff, 0 in every case
    amplification: float = 30.0  # how much the rounding of a listed op may grow on its way to the logits


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
    layouts: dict[str, dict] = field(default_factory=dict)
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
        rename, transpose = tuple(rules.get("rename", {}).items()), tuple(rules.get("transpose", ()))
        return Rules(rename, transpose=transpose, scale=rules.get("scale", {}), drop=rules.get("drop", {}))

    @property
    def reference_spec(self) -> dict:
        return {"callable": located(self.reference, self.folder), "arguments": self.reference_arguments}


def list_cases() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.yaml"))


def read_case(name_or_path: str) -> Case:
    """A shipped case by name, or any YAML file; CaseError names what is unknown or missing in it."""
    path = Path(name_or_path) if name_or_path.endswith((".yaml", ".yml")) else CASES / f"{name_or_path}.yaml"
    if not path.is_file():
        raise CaseError(_unknown("case", name_or_path, list_cases()) + "; or give the path of a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise CaseError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise CaseError(f"{path} must be a table of keys, such as `port: peleenet`")
    return _filled(Case, {"name": path.stem, "folder": path.parent.resolve(), **content}, str(path))


def located(spec: str, folder: Path) -> str:
    """`path/file.py:name` relative to the case becomes absolute; `package.module:name` stays."""
    place, _, name = spec.rpartition(":")
    return f"{(folder / place).resolve()}:{name}" if place.endswith(".py") else spec


def _filled(kind: type, values: dict, where: str):
    """A dataclass from a table: unknown, missing and wrongly typed keys are errors."""
    known = {entry.name: entry for entry in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise CaseError(f"{where}: {_unknown('key', key, known)}")
        expected = known[key].type
        if expected in (Training, Tolerances):
            values = {**values, key: _filled(expected, value, f"{where}: {key}")}
        elif expected is float and isinstance(value, int | str):
            values = {**values, key: _number(value, f"{where}: {key}")}  # YAML 1.1 reads 1e-5 as a text
        elif isinstance(value, list):
            values = {**values, key: tuple(value)}
    required = [name for name, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
    for name in required:
        if name not in values:
            raise CaseError(f"{where}: the key '{name}' is missing")
    return kind(**values)


def _number(value: int | str, where: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise CaseError(f"{where}: expected a number, got {value!r}") from None


def _unknown(kind: str, given: str, known) -> str:
    guess = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean '{guess[0]}'? " if guess else ""
    return f"unknown {kind} '{given}'; {hint}known: {', '.join(known)}"
