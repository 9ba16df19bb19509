"""A case from the names of two models, `package.module:callable` or `file.py:callable(argument=value)`."""

import ast
import os
from pathlib import Path

from common.errors import CaseError

from ..case import Case, checked_case


def case_of_names(
    port: str, reference: str, *, shape: str = "", folder: Path | None = None, is_trusted: bool = False
) -> Case:
    """The case of a port and a reference without a YAML file.

    Args:
        port: name of a model of models/, or `place:callable`, or `place:callable(argument=value, ...)`.
        reference: `place:callable`, also with arguments.
        shape: of the input, for example 2,3,64,64; by default 1,3,224,224.
        folder: of the case; by default the working directory. The two files may be anywhere.
        is_trusted: as in `Case`.

    Raises:
        CaseError: a name cannot be read, or the case may not take a model from there.
    """
    content = content_of_names(port, reference, shape)
    name = content["port"].rpartition(":")[2]
    typed, folder = (content["port"], content["reference"]), (folder or Path.cwd()).resolve()
    return checked_case(content, "the command line", name=name, folder=folder, is_trusted=is_trusted, typed=typed)


def content_of_names(port: str, reference: str, shape: str = "") -> dict:
    """The keys of a case from the command line.

    Raises:
        CaseError: a name or the shape cannot be read.
    """
    content: dict = {}
    for key, text in (("port", port), ("reference", reference)):
        content[key], arguments = _parse(key, text)
        if arguments:
            content[f"{key}_arguments"] = arguments
    if shape:
        content["shape"] = _shape(shape)
    return content


def _parse(key: str, text: str) -> tuple[str, dict]:
    """`place:callable` and the arguments in parentheses behind it."""
    spec, parenthesis, rest = text.partition("(")
    if not parenthesis:
        return text, {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("arguments are given by name")
        return spec, {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError) as error:
        raise CaseError(f"{key}: {text}: expected place:callable(name=value, ...): {error}") from None


def _shape(text: str) -> list[int]:
    try:
        return [int(length) for length in text.replace("x", ",").split(",")]
    except ValueError:
        raise CaseError(f"--shape {text}: expected whole numbers with commas between, for example 2,3,64,64") from None


def relative_to(spec: str, folder: Path) -> str:
    """`path/file.py:callable` with the path relative to another folder; other names unchanged."""
    place, separator, name = spec.rpartition(":")
    if not place.endswith(".py"):
        return spec
    return f"{os.path.relpath(Path(place).resolve(), folder.resolve())}{separator}{name}"
