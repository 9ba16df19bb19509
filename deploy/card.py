"""The card of an exported folder: preprocessing, class names, programs, and the size and checksum of every file."""

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.errors import DataError, ExportedModelError
from common.files import sha256_of_file, write_atomically
from common.regular_files import open_regular, read_regular
from common.yaml_text import parse_yaml
from datasets.preprocess import Preprocess

from .temperature import NO_TEMPERATURE, is_temperature

CARD_NAME = "card.yaml"
EXPORT_PREFIX = ".export-"  # of the folders inside an exported folder in which a new export is made
CARD_FORMAT = 1
EXPORT_AGAIN = "export the model again with export_model.py"
CHECKSUM_LINE = "# sha256 of the lines above: "  # start of the last line of a card
# The card of a model with ImageNet-21k's class names has 0.8 MB.
MAX_CARD_BYTES = 1 << 21
MAX_INPUT_SIZE = 4096  # an image of this side is 200 MB of float32


@dataclass(frozen=True)
class Program:
    """A network in the form of one runtime: files (program first, then weights), names of its input and output."""

    files: tuple[str, ...]
    input_name: str
    output_name: str


@dataclass(frozen=True)
class FileRecord:
    """Size and checksum of a file when it was written."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Card:
    """What a runtime must know about an exported folder.

    Raises:
        ExportedModelError: the number of class names is not `num_classes`, the input is too large, or the temperature
            is no finite number above 0.
    """

    model: str
    architecture: str
    num_classes: int
    preprocess: Preprocess
    class_names: tuple[str, ...] | None  # None: the classes have no names
    programs: dict[str, Program] = dataclasses.field(default_factory=dict)
    files: dict[str, FileRecord] = dataclasses.field(default_factory=dict)
    metrics: dict = dataclasses.field(default_factory=dict)  # of the checkpoint, for people
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    created: str = ""
    output: str = "logits"
    temperature: float = NO_TEMPERATURE  # the logits are divided by it before the softmax; the programs do not do that

    def __post_init__(self):
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ExportedModelError(
                f"class_names: {len(self.class_names)} names for num_classes {self.num_classes}; "
                "give the label list that the model was trained with"
            )
        for name, largest in (("input_size", MAX_INPUT_SIZE), ("resize_size", 2 * MAX_INPUT_SIZE)):
            if (side := getattr(self.preprocess, name)) > largest:
                raise ExportedModelError(f"{name}: expected at most {largest}, got {side}")
        if not is_temperature(self.temperature):
            raise ExportedModelError(f"temperature: expected a finite number above 0, got {self.temperature!r:.80}")


def exported_folder(model_path: str | Path) -> Path:
    """Return the folder of `model_path`, which is an exported folder or a program in one."""
    model_path = Path(model_path)
    return model_path if model_path.is_dir() else model_path.parent


def has_card(model_path: str | Path) -> bool:
    """Whether a card.yaml belongs to `model_path`, which is an exported folder or a program."""
    return (exported_folder(model_path) / CARD_NAME).exists()


def folder_of_files(folder: str | Path) -> Path:
    """Return the folder that holds all files of `folder`/card.yaml.

    That is `folder`, except between the two halves of an exchange of exports, or after it was killed there: then it is
    the folder inside `folder` in which the export was made, which has the same card (see `deploy.exchange`).
    """
    folder = Path(folder)
    if made_in := sorted(folder.glob(f"{EXPORT_PREFIX}*/{CARD_NAME}")):
        card = card_bytes(folder)
        for path in made_in:
            if card is not None and card_bytes(path.parent) == card:
                return path.parent
    return folder


def card_bytes(folder: Path, name: str = CARD_NAME) -> bytes | None:
    """The bytes of a card, at most one more than a card may have; None without such a file."""
    try:
        with open_regular(folder / name) as file:
            return file.read(MAX_CARD_BYTES + 1)
    except OSError:
        return None


def write_card(folder: str | Path, card: Card) -> Path:
    """Write `card` to `folder`/card.yaml: whole or not at all.

    Raises:
        OSError: the file cannot be written; an older card is untouched.
    """
    path = Path(folder) / CARD_NAME
    text = yaml.safe_dump(_to_dict(card), sort_keys=False, allow_unicode=True, width=float("inf"))
    write_atomically(path, add_checksum_line(text.encode()))
    return path


def add_checksum_line(text: bytes) -> bytes:
    """Append the last line of a card, the SHA-256 of the lines before it."""
    return text + f"{CHECKSUM_LINE}{hashlib.sha256(text).hexdigest()}\n".encode()


def read_card(folder: str | Path, *, verify: bool = True, name: str = CARD_NAME) -> Card:
    """Read `folder`/card.yaml and, with `verify`, compare every file that the card lists with its checksum.

    Args:
        folder: the folder of the card.
        verify: compare the files in `folder_of_files(folder)` with the card.
        name: name of the card's file.

    Raises:
        ExportedModelError: the card or a file is missing or was changed; a field is missing or has a wrong type.
    """
    path = Path(folder) / name
    try:
        content = read_regular(path, MAX_CARD_BYTES)
        if CHECKSUM_LINE.encode() not in content:
            raise ExportedModelError(f"{path}: the last line, a checksum, is missing; {EXPORT_AGAIN}")
        if add_checksum_line(content.rpartition(CHECKSUM_LINE.encode())[0]) != content:
            raise ExportedModelError(
                f"{path}: damaged, or changed after the export; copy the whole folder again or {EXPORT_AGAIN}"
            )
        fields = parse_yaml(content)
    except FileNotFoundError:
        raise ExportedModelError(f"{path}: no such card; {EXPORT_AGAIN}") from None
    except OSError as error:
        raise ExportedModelError(f"{path}: cannot be read: {error.strerror or error}; {EXPORT_AGAIN}") from None
    except ValueError as error:
        raise ExportedModelError(f"{path}: cannot be read: {' '.join(str(error).split())}; {EXPORT_AGAIN}") from None
    card = _from_dict(fields, path)
    if verify:
        verify_files(folder_of_files(folder), card, card.files)
    return card


def verify_files(folder: str | Path, card: Card, names: Iterable[str]) -> None:
    """Compare the size and the checksum of the files `names` with those in the card.

    Raises:
        ExportedModelError: a file is missing, or has another size or checksum.
    """
    for name in names:
        path = Path(folder) / name
        if name not in card.files:
            raise ExportedModelError(
                f"{path}: {CARD_NAME} has no checksum for it, only for {', '.join(card.files)}; {EXPORT_AGAIN}"
            )
        if not path.is_file():
            raise ExportedModelError(f"{path}: missing, but {CARD_NAME} lists it; copy the whole folder")
        expected, actual = card.files[name], file_record(path)
        if actual.bytes != expected.bytes:
            raise ExportedModelError(
                f"{path}: {actual.bytes} bytes, {CARD_NAME} says {expected.bytes}; copy the file again, or "
                f"{EXPORT_AGAIN}"
            )
        if actual.sha256 != expected.sha256:
            raise ExportedModelError(
                f"{path}: sha256 {actual.sha256[:12]}..., {CARD_NAME} says {expected.sha256[:12]}...: damaged, or of "
                f"another model; copy the file again or {EXPORT_AGAIN}"
            )


def file_record(path: str | Path) -> FileRecord:
    """Compute size and checksum of the file at `path`."""
    return FileRecord(bytes=Path(path).stat().st_size, sha256=sha256_of_file(path))


def _to_dict(card: Card) -> dict:
    fields = {field.name: getattr(card, field.name) for field in dataclasses.fields(card)}
    fields["preprocess"] = card.preprocess.to_dict()
    fields["class_names"] = None if card.class_names is None else list(card.class_names)
    fields["programs"] = {
        name: {"files": list(program.files), "input_name": program.input_name, "output_name": program.output_name}
        for name, program in card.programs.items()
    }
    fields["files"] = {name: dataclasses.asdict(record) for name, record in card.files.items()}
    return {"format": CARD_FORMAT, **fields}


# Type of every field. All are required, so that a lost line is an error. Only older cards lack those of _LATER_FIELDS,
# whose values say what was always done.
_TYPES = {
    "format": int,
    "model": str,
    "architecture": str,
    "num_classes": int,
    "preprocess": dict,
    "class_names": (list, type(None)),
    "programs": dict,
    "files": dict,
    "metrics": dict,
    "versions": dict,
    "created": str,
    "output": str,
    "temperature": (float, int),
}
_LATER_FIELDS = {"temperature": NO_TEMPERATURE}
_PROGRAM_TYPES = {"files": list, "input_name": str, "output_name": str}
_FILE_TYPES = {"bytes": int, "sha256": str}


def _from_dict(fields, path: Path) -> Card:
    if isinstance(fields, dict):
        fields = _LATER_FIELDS | fields
    _check(fields, _TYPES, path, "")
    if fields["format"] != CARD_FORMAT:
        raise ExportedModelError(f"{path}: format {fields['format']}, this version reads {CARD_FORMAT}; {EXPORT_AGAIN}")
    if fields["output"] != "logits":
        raise ExportedModelError(f"{path}: output: expected 'logits', got {fields['output']!r}; {EXPORT_AGAIN}")
    for name, program in fields["programs"].items():
        _check(program, _PROGRAM_TYPES, path, f"programs.{name}.")
        if not (isinstance(name, str) and program["files"]):
            raise ExportedModelError(f"{path}: programs.{name}: expected a name and a list of files; {EXPORT_AGAIN}")
    for name, record in fields["files"].items():
        _check(record, _FILE_TYPES, path, f"files.{name}.")
        if name == ".." or Path(str(name)).name != name:
            raise ExportedModelError(
                f"{path}: files.{name}: expected the name of a file in this folder; {EXPORT_AGAIN}"
            )
    try:
        return Card(
            model=fields["model"],
            architecture=fields["architecture"],
            num_classes=fields["num_classes"],
            preprocess=Preprocess.from_dict(fields["preprocess"]),
            class_names=None if fields["class_names"] is None else tuple(map(str, fields["class_names"])),
            programs={
                name: Program(tuple(map(str, program["files"])), program["input_name"], program["output_name"])
                for name, program in fields["programs"].items()
            },
            files={name: FileRecord(**record) for name, record in fields["files"].items()},
            metrics=fields["metrics"],
            versions=fields["versions"],
            created=fields["created"],
            temperature=float(fields["temperature"]),
        )
    except (DataError, ExportedModelError) as error:
        raise ExportedModelError(f"{path}: {error}; {EXPORT_AGAIN}") from None


def _check(fields, types: dict, path: Path, prefix: str) -> None:
    if not isinstance(fields, dict):
        raise ExportedModelError(f"{path}: {prefix or 'the card'}: expected `field: value` lines; {EXPORT_AGAIN}")
    for name, kind in types.items():
        if name not in fields:
            raise ExportedModelError(f"{path}: field {prefix}{name} is missing; {EXPORT_AGAIN}")
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            expected = kind.__name__ if isinstance(kind, type) else kind[0].__name__
            raise ExportedModelError(
                f"{path}: field {prefix}{name}: expected {expected}, got {fields[name]!r:.80}; {EXPORT_AGAIN}"
            )
    for name in fields:
        if name not in types:
            raise ExportedModelError(f"{path}: unknown field {prefix}{name}; {EXPORT_AGAIN}")
