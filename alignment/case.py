"""A case: the YAML file that names a port, its reference, and how the two are compared."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.errors import CaseError
from common.regular_files import check_regular, read_regular
from common.yaml_text import parse_yaml

from .adapter import BOOLEAN, FLOAT, INTEGER, Adapter
from .case_settings import Tolerances, Training, check_shape
from .pipeline.parts import DEFAULT_TARGET, NO_PART, NOT_RECORDED, PARTS, Part, Recorded, Target, place_of_function
from .rules import BATCH_NORM, COUNTERS, Reshape, Rules
from .typed_yaml import filled, unknown

MAX_CASE_BYTES = 1 << 20
LEAST_TRAIN_BATCH = 4  # the statistics of a batch norm need some samples
CASES = Path(__file__).parent / "cases"
PROJECT = Path(__file__).parents[1]
# A constructor runs with the rights of the user and with arguments of the case. So a case takes it from files beside
# it, from files of this project, or from these packages, which build models; any other only with --trust_case.
PACKAGES = ("torchvision", "timm", "paddle.vision", "transformers", "models", "alignment.torch_side")
TRUST_CASE = "let the case name any file and any package: it runs what it names, with your rights"
# {package: (framework, side of a case that its models cannot be)}
WRONG_SIDES = dict.fromkeys(("torchvision", "timm", "transformers"), ("PyTorch", "port"))
WRONG_SIDES |= {"paddle.vision": ("Paddle", "reference")}
RUNS_CODE = "trust_remote_code"  # an argument of transformers, which then downloads code and runs it


@dataclass(frozen=True)
class Layout:
    """Layout of another publisher's weights; the attributes are those of `Rules`."""

    rename: dict[str, str] = field(default_factory=dict)
    transpose: tuple[str, ...] = ()
    scale: dict[str, float] = field(default_factory=dict)
    drop: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ShapePair:
    """Shape of an entry in the reference and in the port, before it is transposed; one length of each may be -1."""

    reference: tuple[int, ...]
    port: tuple[int, ...]


INPUT_TYPES = (FLOAT, INTEGER, BOOLEAN)


@dataclass(frozen=True)
class Input:
    """One input of both models; in a case a list alone is the shape.

    Attributes:
        shape: of the tensor.
        range: lowest and highest value that is drawn; None is `input_range` of the case.
        type: float32, int64 or bool; an empty text is float32, or int64 where the reference takes only that.
    """

    SHORT = "shape"

    shape: tuple[int, ...]
    range: tuple[float, float] | None = None
    type: str = ""

    def __post_init__(self):
        if self.type and self.type not in INPUT_TYPES:
            raise CaseError(f"inputs: {unknown('type', self.type, INPUT_TYPES)}")


@dataclass(frozen=True)
class Case:
    """A pair of models and how they are compared; the defaults are for an ImageNet classifier.

    The keys of the YAML file are the attributes without `name`, `folder`, `is_trusted` and `adapter`; docs/alignment.md
    has a table of them.

    Attributes:
        name: of the case.
        folder: paths in `port` and `reference` are relative to it.
        port: the Paddle model, a name of models/, `path/file.py:callable` or `package.module:callable`.
        reference: the torch model, `path/file.py:callable`, `package.module:callable`, or a short name such as
            `timm:resnet18` (torch_side/named_models.py).
        port_arguments: keyword arguments of the port.
        reference_arguments: keyword arguments of the reference.
        shape: of the images of the stage forward, [B, 3, H, W], or of the input whatever it is.
        input_range: lowest and highest value of the random images.
        inputs: {name of an argument of forward: input}, of models that take other inputs than images of `shape`.
        output: the output that is compared: a key, a position, or keys with dots between; empty compares all.
        seed: of images, labels, weights and dropout masks.
        rename: {name of a weight in the reference: name in the port}, with `*`.
        transpose: names in the port of matrices that are transposed; None transposes the weights of linear layers.
        drop: as in `Rules`.
        split, concat: as in `Rules`.
        reshape: {name in the port: shapes on both sides}.
        keep: names in the port of entries without a match in the reference, which keep their values.
        layouts: {name of a publisher: layout of its weights}.
        layers: {path of a layer in the reference: path in the port}, with `*`.
        train: settings of the stages backward and train.
        tolerances: largest errors that pass.
        preprocess, dataset, loader, loss, optimizer, schedule, metric, step: the user's own functions, see `pipeline`.
        target: what the user's loss and metric compare the output with.
        recorded: files of arrays in the place of `reference`.
        is_trusted: `port` and `reference` may name any file and any package.
        adapter: how several inputs and outputs are packed; it is found when the case is run.
    """

    name: str
    folder: Path
    port: str
    reference: str = ""
    port_arguments: dict = field(default_factory=dict)
    reference_arguments: dict = field(default_factory=dict)
    shape: tuple[int, ...] = (1, 3, 224, 224)
    input_range: tuple[float, float] = (-2.0, 2.0)
    inputs: dict[str, Input] = field(default_factory=dict)
    output: str | int = ""
    seed: int = 0
    rename: dict[str, str] = field(default_factory=dict)
    transpose: tuple[str, ...] | None = None
    drop: dict[str, str] = field(default_factory=dict)
    split: dict[str, tuple[str, ...]] = field(default_factory=dict)
    concat: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reshape: dict[str, ShapePair] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    layouts: dict[str, Layout] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    train: Training = field(default_factory=Training)
    tolerances: Tolerances = field(default_factory=Tolerances)
    preprocess: Part = NO_PART
    dataset: Part = NO_PART
    loader: Part = NO_PART
    loss: Part = NO_PART
    optimizer: Part = NO_PART
    schedule: Part = NO_PART
    metric: Part = NO_PART
    step: Part = NO_PART
    target: Target = DEFAULT_TARGET
    recorded: Recorded = NOT_RECORDED
    is_trusted: bool = False
    adapter: Adapter | None = None

    def rules(self, layout: str = "torch") -> Rules:
        """Rules for the weights of the reference ("torch"), of the port ("paddle"), or of a publisher in `layouts`.

        Raises:
            CaseError: the case has no such layout.
        """
        if layout == "torch":
            return Rules(
                tuple(self.rename.items()), BATCH_NORM, tuple(self.transpose or ()), COUNTERS | self.drop, "module.",
                split=self.split, concat=self.concat,
                reshape={name: Reshape(pair.reference, pair.port) for name, pair in self.reshape.items()},
            )  # fmt: skip
        if layout == "paddle":
            return Rules()
        if layout not in self.layouts:
            raise CaseError(unknown("layout", layout, ["torch", "paddle", *self.layouts]))
        rules = self.layouts[layout]
        return Rules(tuple(rules.rename.items()), transpose=rules.transpose, scale=rules.scale, drop=rules.drop)

    def split_names(self, *, is_port: bool) -> list[str]:
        """Patterns of names of one side whose entries are divided or joined on the way to the other."""
        wholes, parts = (self.concat, self.split) if is_port else (self.split, self.concat)
        return [*wholes, *(name for names in parts.values() for name in names)]

    @property
    def reference_spec(self) -> dict:
        """What the other process needs to build the reference."""
        spec = self._named_spec(self.reference) | {"arguments": self.reference_arguments}
        return spec | {"adapter": self.adapter.as_message()} if self.adapter else spec

    def function_spec(self, key: str, side: str) -> dict:
        """What a process needs to import the function of the part `key`; side is port or reference.

        Raises:
            CaseError: the part has no function on this side.
        """
        spec = place_of_function(self, key, side)
        if not spec:
            raise CaseError(f"the case {self.name}: {key}: the function of the {side} is missing")
        return self._named_spec(spec)

    def _named_spec(self, spec: str) -> dict:
        """A callable with an absolute path, and its package where the case is not trusted."""
        found, package = {"callable": absolute_spec(spec, self.folder)}, package_of(spec)
        return found if self.is_trusted or not package else found | {"package": package}

    def _named(self) -> Iterator[tuple[str, str, dict]]:
        """(key, callable, its arguments) of everything that the case names and this tool runs."""
        yield "port", self.port, self.port_arguments
        if self.reference:
            yield "reference", self.reference, self.reference_arguments
        for key in PARTS:
            for side in ("port", "reference") if self.reference else ("port",):
                if spec := place_of_function(self, key, side):
                    yield f"{key}: {side}", spec, {}

    def __post_init__(self):
        check_shape("shape", self.shape)
        if self.seed < 0:
            raise CaseError(f"seed: expected a number of at least 0; got {self.seed}")

    def check_constructors(self, typed: Collection[str] = ()) -> None:
        """Check that a case that is not trusted takes models and functions from places that it may name.

        Args:
            typed: models of the command line, whose files the user has chosen as those of `python FILE`.

        Raises:
            CaseError: it names another file or package, or an argument asks for code to be run.
        """
        for key, spec, arguments in self._named():
            place, separator, _ = spec.rpartition(":")
            if not separator:
                continue  # a name of models/
            if place.endswith(".py"):
                path = (self.folder / place).resolve()
                is_known = spec in typed or path.is_relative_to(self.folder) or path.is_relative_to(PROJECT)
            else:
                is_known = bool(package_of(spec))
            if not is_known or RUNS_CODE in arguments:
                raise CaseError(
                    f"the case {self.name}: {key}: {spec[:200]}{f' with {RUNS_CODE}' * (RUNS_CODE in arguments)} could "
                    "run any code. A model is taken from a file in the folder of the case or below it, or from "
                    f"{', '.join(PACKAGES)}; add --trust_case if you have read the case"
                )

    def check_sides(self) -> None:
        """Check that the port is not of a package of PyTorch, nor the reference of one of Paddle.

        Raises:
            CaseError: it is; two names may be in the wrong order.
        """
        for key, spec in (("port", self.port), ("reference", self.reference)):
            framework, wrong_side = WRONG_SIDES.get(package_of(spec), ("", ""))
            if key == wrong_side:
                raise CaseError(
                    f"the case {self.name}: {key}: {spec} is a model of {framework}; the port is the Paddle model, "
                    "the first of two names, and the reference the PyTorch model"
                )

    def check_files(self) -> None:
        """Check that the files of models and functions are regular files, and that a function has a file.

        Raises:
            CaseError: names the file that is missing, or is a pipe, a device or a folder.
        """
        for key, spec, _ in self._named():
            place = spec.rpartition(":")[0]
            if not place and key not in ("port", "reference"):
                raise CaseError(f"the case {self.name}: {key}: {spec}: expected path/file.py:name")
            if place.endswith(".py"):
                try:
                    check_regular(self.folder / place)
                except OSError as error:
                    raise CaseError(
                        f"the case {self.name}: {key}: {self.folder / place}: {error.strerror or error}"
                    ) from None
        for key, path in self.recorded.files.items():
            try:
                check_regular(self.folder / path)
            except OSError as error:
                raise CaseError(
                    f"the case {self.name}: recorded: {key}: {self.folder / path}: {error.strerror or error}"
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
        raise CaseError(unknown("case", name_or_path, list_cases()) + "; or give the path of a YAML file")
    try:
        content = parse_yaml(read_regular(path, MAX_CASE_BYTES).decode("utf-8"))
    except FileNotFoundError:
        raise CaseError(f"{path}: no such file") from None
    except OSError as error:
        raise CaseError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise CaseError(f"{path} is not YAML: {error}") from None
    return checked_case(content, str(path), name=path.stem, folder=path.parent.resolve(), is_trusted=is_trusted)


def checked_case(
    content: object, where: str, *, name: str, folder: Path, is_trusted: bool, typed: Collection[str] = ()
) -> Case:
    """A case from the keys and values of its YAML file, with its constructors and files checked.

    If only the shape of the stage forward is given, the training has batches of that shape, of at least 4 samples.

    Args:
        content: the table of the YAML file.
        where: its path, for messages.
        name: of the case.
        folder: paths of files in the case are relative to it.
        is_trusted: as in `Case`.
        typed: as in `Case.check_constructors`.

    Raises:
        CaseError: as `read_case`.
    """
    case = filled(Case, content, where, name=name, folder=folder, is_trusted=is_trusted, adapter=None)
    if not case.reference and not case.recorded.files:
        raise CaseError(f"{where}: the key 'reference' is missing, or 'recorded' with files of arrays in its place")
    if case.reference and case.recorded.files:
        raise CaseError(f"{where}: 'reference' and 'recorded' are both given; a port is compared with one of them")
    if "shape" in content and "shape" not in content.get("train", {}):
        shape = (max(LEAST_TRAIN_BATCH, case.shape[0]), *case.shape[1:])
        case = replace(case, train=replace(case.train, shape=shape))
    if not is_trusted:
        case.check_constructors(typed)
        case.check_sides()
    case.check_files()
    return case


def absolute_spec(spec: str, folder: Path) -> str:
    """`path/file.py:name` with a path relative to `folder` becomes absolute; `package.module:name` is unchanged."""
    place, _, name = spec.rpartition(":")
    return f"{(folder / place).resolve()}:{name}" if place.endswith(".py") else spec
