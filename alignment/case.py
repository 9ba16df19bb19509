"""A case: the YAML file that names a port, its reference, and how the two are compared."""

import typing
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path

from common.cli import did_you_mean
from common.errors import CaseError
from common.regular_files import check_regular, read_regular
from common.yaml_text import parse_yaml

from .rules import BATCH_NORM, COUNTERS, Rules

MAX_CASE_BYTES = 1 << 20
CASES = Path(__file__).parent / "cases"
PROJECT = Path(__file__).parents[1]
# A constructor runs with the rights of the user and with arguments of the case. So a case takes it from files beside
# it, from files of this project, or from these packages, which build models; any other only with --trust_case.
PACKAGES = ("torchvision", "timm", "paddle.vision", "transformers", "models", "alignment.torch_side")
TRUST_CASE = "let the case name any file and any package: it runs what it names, with your rights"
RUNS_CODE = "trust_remote_code"  # an argument of transformers, which then downloads code and runs it


@dataclass(frozen=True)
class Training:
    """Settings of the stages backward and train.

    The default numbers are exact in float32, the type in which Paddle keeps momentum and weight decay. So both sides
    compute with the same numbers, and 20 steps in float64 agree to 1e-10. With 0.9 and 1e-4 the two sides would differ
    by 1e-8 before the first step.

    Attributes:
        shape: of one batch of images.
        steps: number of training steps.
        optimizer: momentum or adamw.
        lr: highest learning rate of the cosine schedule.
        momentum: of the optimizer momentum, in both frameworks' convention (share of the old step).
        weight_decay: of the optimizer.
        smoothing: label smoothing of the loss.
        curve_side: height and width in pixels to which the digits of 8 x 8 pixels are scaled for the two loss curves; 0
            leaves the curves out.
        curve_lr: highest learning rate of the loss curves.
    """

    shape: tuple[int, ...] = (8, 3, 64, 64)
    steps: int = 20
    optimizer: str = "momentum"
    lr: float = 2**-6
    momentum: float = 0.875
    weight_decay: float = 2**-13
    smoothing: float = 0.125
    curve_side: int = 32
    curve_lr: float = 0.02

    def __post_init__(self):
        if self.steps < 1 or self.curve_side < 0 or self.curve_side % 8:
            raise CaseError(
                "train: steps must be at least 1 and curve_side a multiple of 8; "
                f"got {self.steps} and {self.curve_side}"
            )


@dataclass(frozen=True)
class Tolerances:
    """Largest errors that pass, relative to the largest element of the reference's array (docs/alignment.md).

    Attributes:
        float64: of values in float64.
        float32: of the logits in float32.
        gradient: of gradients in float64.
        step: of losses, states and weights during training in float64.
        curve: of a loss curve, as a multiple of the distance between two runs of the reference (stages/train.py).
        absolute: error that is subtracted before the division; only `auto_diff` sets it.
        amplification: how much an error of an operation that rounds to float32 may grow on the way to the logits.
    """

    float64: float = 1e-10
    float32: float = 1e-5
    gradient: float = 1e-7
    step: float = 1e-6
    curve: float = 3.0
    absolute: float = 0.0
    amplification: float = 30.0


@dataclass(frozen=True)
class Layout:
    """Layout of another publisher's weights; the attributes are those of `Rules`."""

    rename: dict[str, str] = field(default_factory=dict)
    transpose: tuple[str, ...] = ()
    scale: dict[str, float] = field(default_factory=dict)
    drop: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A pair of models and how they are compared; the defaults are for an ImageNet classifier.

    The keys of the YAML file are the attributes without `name`, `folder` and `is_trusted`; docs/alignment.md has a
    table of them.

    Attributes:
        name: of the case.
        folder: paths in `port` and `reference` are relative to it.
        port: the Paddle model, a name of models/, `path/file.py:callable` or `package.module:callable`.
        reference: the torch model, `path/file.py:callable` or `package.module:callable`.
        port_arguments: keyword arguments of the port.
        reference_arguments: keyword arguments of the reference.
        shape: of the images of the stage forward, [B, 3, H, W].
        input_range: lowest and highest value of the random images.
        seed: of images, labels, weights and dropout masks.
        rename: {name of a weight in the reference: name in the port}, with `*`.
        transpose: names in the port of matrices that are transposed.
        drop: as in `Rules`.
        layouts: {name of a publisher: layout of its weights}.
        layers: {path of a layer in the reference: path in the port}, with `*`.
        train: settings of the stages backward and train.
        tolerances: largest errors that pass.
        is_trusted: `port` and `reference` may name any file and any package.
    """

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
    is_trusted: bool = False

    def rules(self, layout: str = "torch") -> Rules:
        """Rules for the weights of the reference ("torch"), of the port ("paddle"), or of a publisher in `layouts`.

        Raises:
            CaseError: the case has no such layout.
        """
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
        """What the other process needs to build the reference."""
        spec = {"callable": absolute_spec(self.reference, self.folder), "arguments": self.reference_arguments}
        package = package_of(self.reference)
        return spec if self.is_trusted or not package else spec | {"package": package}

    def check_constructors(self) -> None:
        """Check that a case that is not trusted takes both models from places that it may name.

        Raises:
            CaseError: `port` or `reference` names another file or package, or an argument asks for code to be run.
        """
        for key, spec, arguments in (
            ("port", self.port, self.port_arguments),
            ("reference", self.reference, self.reference_arguments),
        ):
            place, separator, _ = spec.rpartition(":")
            if not separator:
                continue  # a name of models/
            if place.endswith(".py"):
                path = (self.folder / place).resolve()
                is_known = path.is_relative_to(self.folder) or path.is_relative_to(PROJECT)
            else:
                is_known = bool(package_of(spec))
            if not is_known or RUNS_CODE in arguments:
                raise CaseError(
                    f"the case {self.name}: {key}: {spec[:200]}{f' with {RUNS_CODE}' * (RUNS_CODE in arguments)} could "
                    "run any code. A model is taken from a file in the folder of the case or below it, or from "
                    f"{', '.join(PACKAGES)}; add --trust_case if you have read the case"
                )

    def check_files(self) -> None:
        """Check that the files of `port` and `reference` are regular files.

        Raises:
            CaseError: names the file that is missing, or is a pipe, a device or a folder.
        """
        for key, spec in (("port", self.port), ("reference", self.reference)):
            place = spec.rpartition(":")[0]
            if place.endswith(".py"):
                try:
                    check_regular(self.folder / place)
                except OSError as error:
                    raise CaseError(
                        f"the case {self.name}: {key}: {self.folder / place}: {error.strerror or error}"
                    ) from None


def list_cases() -> list[str]:
    """Names of the cases in alignment/cases/."""
    return sorted(path.stem for path in CASES.glob("*.yaml"))


def package_of(spec: str) -> str | None:
    """The package in PACKAGES that `package.module:name` is in; None for a file, and for another package."""
    module = spec.rpartition(":")[0]
    return next((package for package in PACKAGES if f"{module}.".startswith(f"{package}.")), None)


def read_case(name_or_path: str, *, is_trusted: bool = False) -> Case:
    """Read a case of alignment/cases/ by its name, or a YAML file by its path.

    A case is a program: its models are built by the functions that it names. `is_trusted` lets it name any.

    Raises:
        CaseError: there is no such case, or the file is not YAML, has a key that is unknown, missing or of a wrong
            type, or takes a model from a place that only a trusted case may name.
    """
    path = Path(name_or_path) if name_or_path.endswith((".yaml", ".yml")) else CASES / f"{name_or_path}.yaml"
    if not path.exists() and path.parent == CASES:
        raise CaseError(_unknown("case", name_or_path, list_cases()) + "; or give the path of a YAML file")
    try:
        content = parse_yaml(read_regular(path, MAX_CASE_BYTES).decode("utf-8"))
    except FileNotFoundError:
        raise CaseError(f"{path}: no such file") from None
    except OSError as error:
        raise CaseError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise CaseError(f"{path} is not YAML: {error}") from None
    case = _filled(Case, content, str(path), name=path.stem, folder=path.parent.resolve(), is_trusted=is_trusted)
    if not is_trusted:
        case.check_constructors()
    case.check_files()
    return case


def absolute_spec(spec: str, folder: Path) -> str:
    """`path/file.py:name` with a path relative to `folder` becomes absolute; `package.module:name` is unchanged."""
    place, _, name = spec.rpartition(":")
    return f"{(folder / place).resolve()}:{name}" if place.endswith(".py") else spec


def _filled(kind: type, values: object, where: str, **given: object):
    """A dataclass from a table of YAML and the fields in `given`; CaseError for unknown, missing and wrong keys."""
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
    """A value of YAML as a dataclass, a number, a text, a tuple or a table of these."""
    parts = typing.get_args(kind)
    if is_dataclass(kind):
        return _filled(kind, value, where)
    if kind is float:
        return _number(value, where)
    if typing.get_origin(kind) is tuple:
        items = _checked(list, value, where)
        if parts[-1] is not ... and len(items) != len(parts):
            raise CaseError(f"{where}: expected {len(parts)} values, got {value!r}")
        return tuple(_typed(parts[0], item, where) for item in items)
    if typing.get_origin(kind) is dict:
        table = _checked(dict, value, where)
        return {_typed(parts[0], key, where): _typed(parts[1], item, f"{where}: {key}") for key, item in table.items()}
    return _checked(kind, value, where)


TYPE_NAMES = {dict: "a table, `key: value` lines", list: "a list", str: "a text", int: "a whole number"}


def _checked(kind: type, value: object, where: str):
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CaseError(f"{where}: expected {TYPE_NAMES[kind]}, got {value!r}")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):  # YAML 1.1 reads 1e-5 as a text
        with suppress(ValueError):
            return float(value)
    raise CaseError(f"{where}: expected a number, got {value!r}")


def _unknown(kind: str, given: str, known: Iterable[str]) -> str:
    return f"unknown {kind} '{given}'{did_you_mean(given, known) or ';'} known: {', '.join(known)}"
