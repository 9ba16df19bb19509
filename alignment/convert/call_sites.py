"""The lines of a converted project that have to be mended: what PaConvert left, and what Paddle does not have."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MARK = ">>>>>>"  # before a line that PaConvert could not convert; the line is then no Python
MAX_LENGTH = 120  # characters of a statement that are shown
# What to write instead of code that PaConvert 3.3.1 leaves, {regular expression: advice}.
ADVICE = {
    r"torch\.optim\.SGD\(.*momentum": "paddle.optimizer.Momentum(learning_rate=..., momentum=..., parameters=...)",
    r"torch\.optim\.SGD": "paddle.optimizer.SGD(learning_rate=..., parameters=...)",
    r"param_groups": "optimizer.set_lr(value), or optimizer.get_lr()",
    r"register_buffer": "self.register_buffer(name, tensor)",
    r"\.cuda\(\)|\.to\(device": "paddle.set_device; a tensor needs no call",
    r"\.zero_grad\(set_to_none": "optimizer.clear_grad()",
}
LEFT = re.compile(r"\.param_groups\b|\.zero_grad\(set_to_none")  # attributes that no object of Paddle has


class CallSite(NamedTuple):
    """A line of the converted project that has to be mended by hand."""

    file: str
    line: int
    text: str
    advice: str


def call_sites(folder: Path) -> list[CallSite]:
    """The statements that PaConvert marked, and uses of names and arguments that Paddle does not have, in order."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        lines, name = text.splitlines(), str(path.relative_to(folder))
        nodes = _nodes(code := text.replace(MARK, ""))
        statements = _statements(nodes, code)
        sites = {}
        for number, line in enumerate(lines, 1):
            if MARK in line or LEFT.search(line):
                statement = statements.get(number) or line.replace(MARK, "").strip()
                sites[number] = CallSite(name, number, statement, advice_for(statement))
        for number, advice in _not_in_paddle(nodes):
            shown = lines[number - 1].replace(MARK, "").strip()
            sites.setdefault(number, CallSite(name, number, shown, advice_for(shown) or advice))
        found += [sites[number] for number in sorted(sites)]
    return found


def advice_for(text: str) -> str:
    """What to write instead of a statement, or an empty text."""
    return next((advice for pattern, advice in ADVICE.items() if re.search(pattern, text)), "")


def _statements(nodes: list[ast.AST], text: str) -> dict[int, str]:
    """{line: simple statement that begins there, on one line}; empty if the text is no Python."""
    return {
        node.lineno: " ".join((ast.get_source_segment(text, node) or "").split())[:MAX_LENGTH]
        for node in nodes
        if isinstance(node, ast.stmt) and not hasattr(node, "body")
    }


def _nodes(text: str) -> list[ast.AST]:
    """All nodes of a file; none if the text is no Python."""
    try:
        return list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return []


def _not_in_paddle(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) of each name and keyword that the installed Paddle does not have."""
    for node in nodes:
        if isinstance(node, ast.Call) and (name := _dotted(node.func)).startswith("paddle."):
            value = _value_of(name)
            if value is None:
                yield node.lineno, f"another function: Paddle has no {name}"
            elif not callable(value):
                yield node.lineno, f"another function: {name} is a module"
            elif unknown := _unknown_keywords(value, node):
                yield node.lineno, f"the call without {', '.join(unknown)}, which {name} does not have"


def _dotted(node: ast.AST) -> str:
    """`paddle.nn.ReLU` of an expression, or an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    inner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner else ""


def _value_of(name: str) -> object | None:
    import paddle

    value = paddle
    for part in name.split(".")[1:]:
        value = getattr(value, part, None)
    return value


def _unknown_keywords(value: object, call: ast.Call) -> list[str]:
    """Keywords of a call that the function does not have.

    A function that takes any keyword has all, and so has one that is decorated: it may take the names of torch, too.
    """
    try:
        function = value.__init__ if inspect.isclass(value) else value
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return []
    if hasattr(function, "__wrapped__") or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    ):
        return []
    return [keyword.arg for keyword in call.keywords if keyword.arg and keyword.arg not in parameters]
