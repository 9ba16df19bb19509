"""Show the lines of code of both sides that build a pair of layers."""

import ast
import linecache
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..trace import short_path

if TYPE_CHECKING:
    from .table import LayerTable

MAX_LENGTH = 120  # characters of a line that are shown
MAX_LINES = 3  # of a constructor that is written over several lines


def both_sources(port_node: dict, reference_node: dict) -> list[str]:
    """`side  file:line  code` for the port and for the reference, as far as the files are on this machine."""
    lines = []
    for side, node in (("port", port_node), ("reference", reference_node)):
        place = node.get("built") or node.get("place", "")
        if code := source_line(place):
            lines.append(f"{side:<9} {place}  {code}")
    return lines


def code_before(table: "LayerTable", path: str) -> list[str]:
    """The lines of both models between the layer of this path and the pair of layers before it."""
    pairs = table.pairing.pairs
    number = next((k for k, (index, _, _) in enumerate(pairs) if table.port.nodes[index]["path"] == path), None)
    if number is None:
        return []
    lines = []
    for side, trace, which in (("port", table.port, 0), ("reference", table.reference, 1)):
        before = trace.nodes[pairs[number - 1][which]] if number else None
        lines += _code_between(before, trace.nodes[pairs[number][which]], side)
    return lines


def _code_between(first: dict | None, last: dict, side: str) -> list[str]:
    """The lines from the call of one layer to the call of a later one in the same file, at most four.

    Args:
        first: node of the earlier layer, or None.
        last: node of the later one.
        side: port or reference.
    """
    name, _, number = last.get("place", "").rpartition(":")
    if not number.isdigit():
        return []
    start = int(number)
    if first and first.get("place", "").rpartition(":")[0] == name:
        start = int(first["place"].rpartition(":")[2])
    start = min(max(start, int(number) - MAX_LINES), int(number))
    lines = [(line, source_line(f"{name}:{line}")) for line in range(start, int(number) + 1)]
    return [f"{side:<9} {name}:{line}  {code}" for line, code in lines if code]


def definition_line(spec: str) -> str:
    """`file:line  code` of the function or class `path/file.py:name`; an empty text if it is not at its top level."""
    name, _, function = spec.rpartition(":")
    try:
        tree = ast.parse(Path(name).read_bytes())
    except (OSError, SyntaxError, ValueError):  # a module's name, or an error that its import says
        return ""
    kinds = ast.FunctionDef | ast.ClassDef
    number = next((one.lineno for one in tree.body if isinstance(one, kinds) and one.name == function), None)
    return f"{short_path(name)}:{number}  {source_line(f'{name}:{number}')}" if number else ""


def whole_numbers(spec: str) -> set[int]:
    """The whole numbers in the function or class `path/file.py:name`, also by name; none of a package."""
    name, _, function = spec.rpartition(":")
    try:
        tree = ast.parse(Path(name).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    known = {
        one.targets[0].id: one.value
        for one in tree.body
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
    }
    body = next((one for one in tree.body if getattr(one, "name", "") == function), None)
    nodes = [known.get(one.id, one) if isinstance(one, ast.Name) else one for one in ast.walk(body)] if body else []
    found = [_whole_number(one) for one in nodes]
    return {number for number in found if number is not None}


def _whole_number(node: ast.AST) -> int | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def source_line(place: str) -> str:
    """The statement at `file:line`, at most three lines as one; an empty text if the file is not on this machine."""
    name, _, number = place.rpartition(":")
    path = next((path for folder in ("", *sys.path) if (path := Path(folder, name)).is_file()), None)
    if path is None or not number.isdigit():
        return ""
    code = ""
    for line in range(int(number), int(number) + MAX_LINES):
        code += linecache.getline(str(path), line).strip()
        if code.count("(") <= code.count(")"):
            break
    return code[: MAX_LENGTH - 3] + "..." if len(code) > MAX_LENGTH else code
