"""How a flag is declared: `flag(default, meaning, ...)` is a dataclass field that carries all that is said about it."""

import dataclasses
import types
import typing
from typing import Any

from common.errors import UsageError

ON_RESUME = ("refuse", "refuse_inside_epoch", "warn", "ignore")


def flag(
    default: Any,
    meaning: str,
    *,
    choices: tuple = (),
    low: float | None = None,
    high: float | None = None,
    style: str = "value",
    on_resume: str | None = None,
    **rare: Any,
) -> Any:
    """Declare a flag of a script; its name is the name of the dataclass field.

    Args:
        default: value where neither a recipe nor the command line gives one.
        meaning: text of `--help` and of docs/flags.md.
        choices: allowed values; empty allows any.
        low: smallest allowed number, inclusive.
        high: largest allowed number, inclusive.
        style: how a boolean is written: "flag" (`--eval`), "pair" (`--x`, `--no_x`) or "text" (`--use_gpu True`); and
            "optional", a text whose value may be left out, which means "auto" (`--pretrained`, `--pretrained NAME`).
        on_resume: what a resumed run of main.py does when the value changed. "refuse": the weights or the optimizer
            state would not fit. "refuse_inside_epoch": images would be seen twice or never; between two epochs as
            "warn". "warn": the run goes on and says that its numbers are no longer those of one command. "ignore":
            the value changes no number, or another fact in the checkpoint is compared instead.
        rare: `aliases`, other names of the flag; `compat`, True for a flag that is accepted for old command lines and
            that nothing reads; `spelled`, the name of the flag where the field has a shorter one.
    """
    assert on_resume in (None, *ON_RESUME) and rare.keys() <= {"aliases", "compat", "spelled"}
    metadata = {
        "meaning": meaning,
        "choices": choices,
        "low": low,
        "high": high,
        "style": style,
        "on_resume": on_resume,
        "aliases": rare.get("aliases", ()),
        "compat": rare.get("compat", False),
        "spelled": rare.get("spelled"),
    }
    return dataclasses.field(default=default, metadata=metadata)


def flag_name(field: dataclasses.Field) -> str:
    """The name of a flag on the command line and in a recipe, without dashes."""
    return field.metadata["spelled"] or field.name


def value_type(field: dataclasses.Field) -> tuple[type, bool]:
    """The type of one value of a flag, and whether the flag takes many: (int, False) for `int | None`."""
    kind = field.type
    if isinstance(kind, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        return typing.get_args(kind)[0], True
    return kind, False


def default_text(field: dataclasses.Field) -> str:
    """The default of a flag as it is typed on the command line; "" where the meaning says what None stands for."""
    if field.metadata["style"] == "flag" or field.default is None or field.metadata["compat"]:
        return ""
    if isinstance(field.default, tuple):
        return " ".join(map(str, field.default))
    return "''" if field.default == "" else str(field.default)


def check_two(name: str, values: tuple[float, ...], *, example: str) -> None:
    """Check that a flag has exactly two values.

    Raises:
        UsageError: names the flag, and an `example` of two values.
    """
    if len(values) != 2:
        raise UsageError(f"--{name} takes two values, got {len(values)}; for example {example}")


def check_range(name: str, values: tuple[float, ...], *, example: str) -> None:
    """Check that a flag has exactly two values, the smaller one first.

    Raises:
        UsageError: names the flag, and an `example` of two values.
    """
    check_two(name, values, example=example)
    if values[0] > values[1]:
        raise UsageError(f"--{name} {values[0]} {values[1]}: the smaller value comes first; for example {example}")
