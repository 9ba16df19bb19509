"""Tables of YAML as dataclasses: unknown, missing and wrongly typed keys are errors that name the place."""

import types
import typing
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass

from common.cli import did_you_mean
from common.errors import CaseError

TYPE_NAMES = {
    dict: "a table, `key: value` lines",
    list: "a list",
    str: "a text",
    int: "a whole number",
    bool: "true or false",
}


def filled(kind: type, values: object, where: str, **given: object):
    """A dataclass from a table of YAML and the fields in `given`.

    A dataclass with the class attribute `SHORT` may also be given by the value of that one key, and one with the class
    method `of_text` by a text.

    Args:
        kind: the dataclass.
        values: the table, as the YAML reader returns it.
        where: path of the file and keys, for messages.
        given: fields that are not keys of the table.

    Raises:
        CaseError: a key is unknown, missing or of a wrong type.
    """
    known = {entry.name: entry for entry in fields(kind) if entry.name not in given}
    if isinstance(values, str) and hasattr(kind, "of_text"):
        return kind.of_text(values)
    short = getattr(kind, "SHORT", "")
    values = {short: values} if short and not isinstance(values, dict) else values
    table = dict(given)
    for key, value in _checked(dict, values, where).items():
        if key not in known:
            raise CaseError(f"{where}: {unknown('key', str(key), known)}")
        table[key] = _typed(known[key].type, value, f"{where}: {key}")
    for name, entry in known.items():
        if name not in table and entry.default is MISSING and entry.default_factory is MISSING:
            raise CaseError(f"{where}: the key '{name}' is missing")
    return kind(**table)


def _typed(kind: type, value: object, where: str):
    """A value of YAML as a dataclass, a number, a text, a tuple or a table of these."""
    parts = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        fitting = (part for part in parts if isinstance(part, type) and type(value) is part)
        return _typed(next(fitting, parts[0]), value, where)
    if is_dataclass(kind):
        return filled(kind, value, where)
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


def _checked(kind: type, value: object, where: str):
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise CaseError(f"{where}: expected {TYPE_NAMES[kind]}, got {value!r}")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):  # YAML 1.1 reads 1e-5 as a text
        with suppress(ValueError):
            return float(value)
    raise CaseError(f"{where}: expected a number, got {value!r}")


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """A sentence about a name that is not known, with the nearest one that is."""
    return f"unknown {kind} '{given}'{did_you_mean(given, known) or ';'} known: {', '.join(known)}"
