"""The card beside exported weights: how to feed the programs, what their answers mean, checksums of the files."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.errors import DataError, ExportedModelError
from datasets.preprocess import Preprocess

CARD_NAME = "card.yaml"
CARD_FORMAT = 1
EXPORT_AGAIN = "export the model again with export_model.py"
SEAL = "# sha256 of the lines above: "  # the last line of a card
MAX_BYTES = 1 << 21  # that of ImageNet-21k's class names has 0.8 MB; the worst YAML of this size takes 0.7 GB to read
MAX_SIDE = 4096  # one image of it is 200 MB of float32


@dataclass(frozen=True)
class Program:
    """One form of the network: its files (program first, then weights) and the names of its input and output."""

    files: tuple[str, ...]
    input_name: str
    output_name: str


@dataclass(frozen=True)
class FileRecord:
    """Size and checksum of a file as it was written."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Card:
    """All that a runtime must know of an exported folder. `class_names` is None where nobody named the classes."""

    model: str
    architecture: str
    num_classes: int
    preprocess: Preprocess
    class_names: tuple[str, ...] | None
    programs: dict[str, Program] = dataclasses.field(default_factory=dict)
    files: dict[str, FileRecord] = dataclasses.field(default_factory=dict)
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    created: str = ""
    output: str = "logits"

    def __post_init__(self):
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ExportedModelError(
                f"class_names: {len(self.class_names)} names for num_classes {self.num_classes}; "
                "give the label list that the model was trained with"
            )
        if self.preprocess.input_size > MAX_SIDE:
            raise ExportedModelError(f"input_size: expected at most {MAX_SIDE}, got {self.preprocess.input_size}")


def write_card(folder: str | Path, card: Card) -> Path:
    """Write `card` as `folder`/card.yaml; the file is either the old one or the whole new one, never a part."""
    path = Path(folder) / CARD_NAME
    temporary = path.with_name(f".{CARD_NAME}.{os.getpid()}")
    text = yaml.safe_dump(_to_dict(card), sort_keys=False, allow_unicode=True, width=float("inf"))
    with temporary.open("wb") as file:
        file.write(sealed(text.encode()))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return path


def sealed(text: bytes) -> bytes:
    """The lines of a card, and the line that shows whether they are still as they were written."""
    return text + f"{SEAL}{hashlib.sha256(text).hexdigest()}\n".encode()


def read_card(folder: str | Path, *, verify: bool = True) -> Card:
    """Read `folder`/card.yaml and, with `verify`, compare every file it lists with its checksum.

    Raises:
        ExportedModelError: no card, a card or file that was changed, a file or field missing, a field of a wrong type.
    """
    path = Path(folder) / CARD_NAME
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ExportedModelError(f"{path}: more than {MAX_BYTES} bytes: no card of ours; {EXPORT_AGAIN}")
        if SEAL.encode() not in content:
            raise ExportedModelError(f"{path}: its last line, a checksum, is missing; {EXPORT_AGAIN}")
        if sealed(content.rpartition(SEAL.encode())[0]) != content:
            raise ExportedModelError(
                f"{path}: damaged, or changed since it was written; copy the whole folder again or {EXPORT_AGAIN}"
            )
        fields = _CardLoader(content).get_single_data()
    except FileNotFoundError:
        raise ExportedModelError(f"{path}: no such card; {EXPORT_AGAIN}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ExportedModelError(f"{path}: cannot be read: {' '.join(str(error).split())}; {EXPORT_AGAIN}") from None
    card = _from_dict(fields, path)
    if verify:
        verify_files(folder, card, card.files)
    return card


class _CardLoader(yaml.SafeLoader):
    """Without aliases: a few lines of them are more values than fit into memory, as soon as an error prints them."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias, *{self.peek_event().anchor}, which our exporter never writes")
        return super().compose_node(parent, index)


def verify_files(folder: str | Path, card: Card, names: Iterable[str]) -> None:
    """Compare the files called `names` with the card.

    Raises:
        ExportedModelError: a file is missing, of another size, or of another content.
    """
    for name in names:
        path = Path(folder) / name
        if name not in card.files:
            raise ExportedModelError(
                f"{path}: {CARD_NAME} has no checksum of it, only of {', '.join(card.files)}; {EXPORT_AGAIN}"
            )
        if not path.is_file():
            raise ExportedModelError(f"{path}: missing, but {CARD_NAME} lists it; copy the whole folder")
        expected, found = card.files[name], file_record(path)
        if found.bytes != expected.bytes:
            raise ExportedModelError(
                f"{path}: {found.bytes} bytes, {CARD_NAME} says {expected.bytes}; copy the file again or {EXPORT_AGAIN}"
            )
        if found.sha256 != expected.sha256:
            raise ExportedModelError(
                f"{path}: sha256 {found.sha256[:12]}..., {CARD_NAME} says {expected.sha256[:12]}...: damaged, or of "
                f"another model; copy the file again or {EXPORT_AGAIN}"
            )


def file_record(path: str | Path) -> FileRecord:
    """Size and checksum of the file at `path`."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileRecord(bytes=file.tell(), sha256=digest.hexdigest())


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


# field: type; every one is required, so that a card that lost a line is noticed
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
}
_PROGRAM_TYPES = {"files": list, "input_name": str, "output_name": str}
_FILE_TYPES = {"bytes": int, "sha256": str}


def _from_dict(fields, path: Path) -> Card:
    _check(fields, _TYPES, path, "")
    if fields["format"] != CARD_FORMAT:
        raise ExportedModelError(f"{path}: format {fields['format']}, this version reads {CARD_FORMAT}; {EXPORT_AGAIN}")
    if fields["output"] != "logits":
        raise ExportedModelError(f"{path}: output: expected 'logits', got {fields['output']!r}; {EXPORT_AGAIN}")
    for name, program in fields["programs"].items():
        _check(program, _PROGRAM_TYPES, path, f"programs.{name}.")
        if not (isinstance(name, str) and program["files"]):
            raise ExportedModelError(f"{path}: programs.{name}: expected a name and its files; {EXPORT_AGAIN}")
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
            wanted = kind.__name__ if isinstance(kind, type) else kind[0].__name__
            raise ExportedModelError(
                f"{path}: field {prefix}{name}: expected {wanted}, got {fields[name]!r:.80}; {EXPORT_AGAIN}"
            )
    for name in fields:
        if name not in types:
            raise ExportedModelError(f"{path}: unknown field {prefix}{name}; {EXPORT_AGAIN}")
