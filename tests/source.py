"""Reads the source of the project for the tests of the layout: files, imports, programs started, files read."""

import ast
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPTS = ("main", "eval", "predict", "export_model", "infer")
PACKAGES = ("factory", "common", "configs", "models", "datasets", "engine", "deploy", "alignment", "benchmarks", "demo",
            "test_tipc", "tests")  # fmt: skip
PARTS = {*PACKAGES, *SCRIPTS}
SKIPPED = {"output", "build", "log", "dataset", "__pycache__", "__cache__"}  # what runs leave in a checkout


@cache
def _all_files() -> tuple[str, ...]:
    paths = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not re.match(r"\.(?!ci$)", name))
        paths += [str((Path(folder) / name).relative_to(ROOT)) for name in sorted(names)]
    return tuple(paths)


@cache
def files(pattern: str) -> tuple[str, ...]:
    """Paths of the project whose name matches a pattern, relative to its root, without hidden and generated folders."""
    return tuple(path for path in _all_files() if fnmatch(Path(path).name, pattern))


@cache
def text_of(path: str) -> str:
    """The text of a file of the project."""
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def tree_of(path: str) -> ast.Module:
    """The syntax tree of a Python file of the project."""
    return ast.parse(text_of(path))


@cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """All nodes of a syntax tree; to walk through all files takes seconds, and many tests look at them."""
    return tuple(ast.walk(tree))


def part_of(path: str) -> str:
    """The package or the script that a file belongs to."""
    return Path(path).parts[0].removesuffix(".py")


def module_of(path: str) -> str:
    """`datasets.reading.decode` for datasets/reading/decode.py, `datasets` for datasets/__init__.py."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def imported(tree: ast.Module, module: str, *, is_package: bool, top_level_only: bool = False) -> Iterator[str]:
    """Yield the absolute names of the modules, and of the names in them, that a module imports.

    Args:
        tree: syntax tree of the module.
        module: name of the module; imports with a leading dot are relative to it.
        is_package: whether the tree is that of an `__init__.py`.
        top_level_only: leave out imports inside functions and below `if TYPE_CHECKING`.
    """
    for node in tree.body if top_level_only else nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
            base = ".".join([*(parents if node.level else []), *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def imports_of(path: str, *, top_level_only: bool = False) -> tuple[str, ...]:
    """The absolute names that a file of the project imports."""
    is_package = path.endswith("__init__.py")
    return tuple(imported(tree_of(path), module_of(path), is_package=is_package, top_level_only=top_level_only))


def started(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of the modules that the code names in texts, to start or to import them.

    A text that is exactly a dotted name of a module of the project, such as the word after "-m" in a list of words, a
    text that is exactly a script, such as "main.py", and `-m package.module` in a text that is split into words.
    """
    docstrings = {id(node.value) for node in nodes(tree) if isinstance(node, ast.Expr)}
    for node in nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if re.fullmatch(r"[a-z_]\w*(\.\w+)+", node.value):
                name = node.value.removesuffix(".py")
                if name in SCRIPTS or ("." in name and is_module(name)):
                    yield node.lineno, name
        elif isinstance(node, ast.Call) and "split" in ast.unparse(node.func):
            for match in re.finditer(r"-m ([a-z_][\w.]*)|\b(\w+)\.py\b", ast.unparse(node)):
                name = match[1] or match[2]
                if name in SCRIPTS or (match[1] and is_module(name)):
                    yield node.lineno, name


def is_module(name: str) -> bool:
    """Whether a dotted name is that of a module or a package of the project."""
    if name.split(".")[0] not in PACKAGES:
        return False
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or path.is_dir()


def read(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, part) of the parts whose files the code names by a path from its own `__file__`.

    `Path(__file__).parents[1] / "demo" / "list.txt"` yields demo, also where the first factor has a name of its own.
    """
    anchors = {"__file__"}
    for _ in range(2):  # a name may be built from a name
        for node in tree.body:
            if isinstance(node, ast.Assign) and anchors & set(re.findall(r"\w+", ast.unparse(node.value))):
                anchors |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in nodes(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            base, parts = node.left, [node.right]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".joinpath", "path.join")):
            base, parts = node, node.args
        else:
            continue
        if not anchors & set(re.findall(r"\w+", ast.unparse(base))):
            continue
        for part in parts:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                steps = [step.removesuffix(".py") for step in part.value.split("/") if step != ".."]
                yield from ((node.lineno, step) for step in steps[:1] if step in PARTS)


@cache
def functions_of(path: str) -> tuple[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef], ...]:
    """(Qualified name, node) of all functions of a file, inner ones and methods too."""

    def walk(node: ast.AST, prefix: str) -> Iterator:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{prefix}{child.name}", child
                yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")
            elif not isinstance(child, ast.expr):
                yield from walk(child, prefix)

    return tuple(walk(tree_of(path), ""))


def num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of parameters of a function, without `self` and `cls`."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([a for a in every if a.arg not in ("self", "cls")]) + bool(arguments.vararg) + bool(arguments.kwarg)
