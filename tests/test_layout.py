"""Holds the layout of docs/design.md: what may import, start and read what, and the form of every file."""

import ast
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.source import (
    PARTS,
    ROOT,
    SCRIPTS,
    files,
    functions_of,
    imported,
    imports_of,
    module_of,
    nodes,
    num_parameters,
    part_of,
    read,
    started,
    text_of,
    tree_of,
)

BELOW_SCRIPTS = {"common", "configs", "models", "datasets", "engine", "deploy"}

# What each part may import of the project, beside itself. To change this table is to change docs/design.md.
ALLOWED = {
    "common": set(),
    "configs": {"common"},
    "models": {"common", "configs.schema"},
    "datasets": {"common", "configs.schema"},
    "engine": {"common", "configs.schema"},
    "deploy": {"common", "configs.schema", "datasets.preprocess", "datasets.reading", "datasets.class_names"},
    "factory": BELOW_SCRIPTS,
    "main": BELOW_SCRIPTS | {"factory"},
    "eval": BELOW_SCRIPTS | {"factory"},
    "predict": BELOW_SCRIPTS | {"factory"},
    "export_model": BELOW_SCRIPTS | {"factory"},
    "infer": BELOW_SCRIPTS - {"models", "engine"},
    "alignment": BELOW_SCRIPTS,
    "benchmarks": BELOW_SCRIPTS | {"alignment.torch_side"},  # PyTorch's networks, for the step beside them
    "demo": BELOW_SCRIPTS,
    "test_tipc": BELOW_SCRIPTS,
    "tests": {*PARTS},
}
# Single files that may import more, inside a function: `deploy.load` opens trained weights through `factory`.
EXCEPTIONS = {"deploy/__init__.py": {"factory.trained_predictor"}}
# What these may start as a program of their own, or read by its path, beside what they may import.
MAY_START = {part: set(SCRIPTS) for part in ("alignment", "benchmarks", "demo", "test_tipc")}
# The direction inside a package: the first never imports the others.
NOT_INSIDE = {
    "datasets.reading": ("datasets.augment", "datasets.loading", "datasets.check"),
    "datasets.augment": ("datasets.loading", "datasets.check"),
    "datasets.loading": ("datasets.check",),
    "alignment.stages": ("alignment.selftest", "alignment.compat"),
}
# Parts whose import must not import Paddle, but for the files named: `--help`, the workers and the ONNX path do not
# wait for it.
PADDLE_FREE = {"factory": set(), "common": set(), "configs": set(), "datasets": {"loader"}, "deploy": set()}

MAX_PARAMETERS = 8
# A signature that another project fixes.
PEER_SIGNATURES = {"alignment/compat/padiff.py: auto_diff"}

# Words of this project's past that no other engineer would search for. docs/journal.md may name what was.
FORBIDDEN_WORDS = ("crew", "in_turns", "knobs?", "rungs?", "bury_orphans", "say_hello", "farewell", "a folder a class",
                   "images a second", "a line each")  # fmt: skip

# Words that no file, class or function has in its name: of the same past, and those that name no subject.
FORBIDDEN_NAMES = set("bury chance climb crew door doors hall helper helpers house knob lively misc room rung teaching "
                      "turns twin util utils".split())  # fmt: skip

PYTHON = files("*.py")


def is_allowed(part: str, name: str, allowed: set[str]) -> bool:
    """Whether a part may import a dotted name: its own, that of no part, or one that the table allows."""
    top = name.split(".")[0]
    return (
        top == part
        or top not in PARTS
        or any(name == one or name.startswith(f"{one}.") or one.startswith(f"{name}.") for one in allowed)
    )


def test_every_part_is_in_the_table():
    parts = {part_of(path) for path in PYTHON}
    assert parts == ALLOWED.keys(), "a new part: give it a row in ALLOWED, in tests/source.py and in docs/design.md"


def test_imports():
    wrong = [
        f"{path}: {part_of(path)} may not import {name}"
        for path in PYTHON
        for name in imports_of(path)
        if not is_allowed(part_of(path), name, ALLOWED[part_of(path)] | EXCEPTIONS.get(path, set()))
    ]
    assert wrong == []


def test_the_exceptions_are_needed_and_not_at_the_top():
    for path, names in EXCEPTIONS.items():
        assert names <= set(imports_of(path))
        assert not names & set(imports_of(path, top_level_only=True))
        assert all(f"`{name}`" in text_of("docs/design.md") for name in names)


def test_programs_that_are_started():
    wrong = [
        f"{path}:{line}: {part_of(path)} may not start {name}"
        for path in PYTHON
        for line, name in started(tree_of(path))
        if not is_allowed(part_of(path), name, ALLOWED[part_of(path)] | MAY_START.get(part_of(path), set()))
    ]
    assert wrong == []


def test_files_that_are_read_by_their_path():
    wrong = [
        f"{path}:{line}: {part_of(path)} may not read files of {part}"
        for path in PYTHON
        for line, part in read(tree_of(path))
        if not is_allowed(part_of(path), part, ALLOWED[part_of(path)] | MAY_START.get(part_of(path), set()))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("find", "code", "found"),
    [
        (started, 'run([sys.executable, "-m", "alignment.weights", "convert"])', "alignment.weights"),
        (started, 'run(shlex.split(f"{python} -m alignment.weights convert {path}"))', "alignment.weights"),
        (started, 'run("python main.py --eval".split())', "main"),
        (started, 'run([sys.executable, "main.py"])', "main"),
        (started, 'importlib.import_module("engine.fit")', "engine.fit"),
        (started, '"""Docstring."""\nraise Error("run python -m alignment.weights")', None),
        (read, 'LIST = Path(__file__).parents[2] / "demo" / "list.txt"', "demo"),
        (read, 'ROOT = Path(__file__).parent.parent\nLIST = ROOT / "demo/list.txt"', "demo"),
        (read, 'ROOT = Path(__file__).parent.parent\nLIST = ROOT.joinpath("demo", "list.txt")', "demo"),
        (read, 'LIST = os.path.join(os.path.dirname(__file__), "../demo/list.txt")', "demo"),
        (read, 'LIST = folder / "demo"', None),
    ],
)
def test_these_tests_see_a_name_in_a_text(find, code, found):
    assert [name for _, name in find(ast.parse(code))] == ([found] if found else [])


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from . import rng", ["datasets.reading", "datasets.reading.rng"]),
        ("from ..rng import generator", ["datasets.rng", "datasets.rng.generator"]),
        ("def f():\n    import engine.fit", ["engine.fit"]),
    ],
)
def test_these_tests_see_an_import(code, names):
    assert list(imported(ast.parse(code), "datasets.reading.decode", is_package=False)) == names


def test_the_direction_inside_a_package():
    wrong = [
        f"{path} may not import {name}"
        for path in PYTHON
        for package, others in NOT_INSIDE.items()
        if module_of(path).startswith(f"{package}.")
        for name in imports_of(path)
        if name.startswith(others)
    ]
    assert wrong == []


def test_no_circle_of_imports():
    modules = {module_of(path): path for path in PYTHON}

    def resolved(name: str) -> str | None:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name or None

    graph = {module: {resolved(name) for name in imports_of(path)} - {None, module} for module, path in modules.items()}
    while True:  # drop what imports nothing of the rest, and what nothing of the rest imports
        needed = set().union(*graph.values())
        ends = [module for module in graph if not graph[module] & graph.keys() or module not in needed]
        if not ends:
            break
        for module in ends:
            del graph[module]
    assert list(graph) == []


def test_torch_is_imported_in_one_folder():
    wrong = [
        path
        for path in PYTHON
        if "torch_side" not in path and part_of(path) not in ("tests", "benchmarks")
        if {"torch", "torchvision"} & {name.split(".")[0] for name in imports_of(path)}
    ]
    assert wrong == []


def test_modules_that_import_without_paddle():
    paths = [
        path
        for part, but in PADDLE_FREE.items()
        for path in PYTHON
        if part_of(path) == part and Path(path).stem not in but
    ]
    wrong = [
        path
        for path in [*paths, "models/__init__.py", *(f"{script}.py" for script in SCRIPTS)]
        if {"paddle", "torch"} & {name.split(".")[0] for name in imports_of(path, top_level_only=True)}
    ]
    assert wrong == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_without_paddle(script):
    code = (
        "import runpy, sys; sys.modules['paddle'] = None; sys.argv = [sys.argv[1], '--help'];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code, f"{script}.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout


# ---------------------------------------------------------------------------------------------------- form


def test_every_file_opens_with_one_sentence():
    wrong = []
    for path in PYTHON:
        opening = (ast.get_docstring(tree_of(path)) or "").split("\n\n")[0]
        if not re.fullmatch(r"\S.*[.:?`]", opening, re.DOTALL):
            wrong.append(path)
    for path in (*files("*.sh"), *files("*.sbatch"), *files("*.yaml"), *files("*.toml"), *files("*.cpp"), *files("*.h"),
                 *files("Makefile"), *files("run"), *files("CMakeLists.txt"), *files("requirements*.txt")):  # fmt: skip
        if not re.match(r"(#!.*\n|#pragma once\n|\n)*(#|//) \w.*", text_of(path)):
            wrong.append(path)
    assert wrong == []


def test_public_functions_describe_their_parameters_and_errors():
    """Four parameters or more have `Args:`, or the place that describes the arguments; a `raise` has `Raises:`."""
    wrong = []
    for path in PYTHON:
        if part_of(path) in ("tests", *SCRIPTS) or path == "alignment/torch_side/peleenet.py":
            continue
        classes = {
            node.name: ast.get_docstring(node) or "" for node in nodes(tree_of(path)) if isinstance(node, ast.ClassDef)
        }
        functions = dict(functions_of(path))
        for name, function in functions.items():
            owner, _, last = name.rpartition(".")
            if last == "main" or owner in functions or re.search(r"(^|\.)_(?!_init__)", name):
                continue
            text = (ast.get_docstring(function) or "") + (classes.get(owner, "") if last == "__init__" else "")
            raises = [node for node in ast.walk(function) if isinstance(node, ast.Raise) and node.exc]
            if num_parameters(function) >= 4 and not re.search("Args:|arguments", text):
                wrong.append(f"{path}: {name} has no Args")
            if raises and "Raises:" not in text:
                wrong.append(f"{path}: {name} has no Raises")
    assert wrong == []


def test_no_function_has_more_than_eight_parameters():
    wrong = [
        f"{path}: {name} has {num_parameters(function)} parameters"
        for path in PYTHON
        for name, function in functions_of(path)
        if num_parameters(function) > MAX_PARAMETERS and f"{path}: {name}" not in PEER_SIGNATURES
    ]
    assert wrong == [], "hand over an object that has a name in the field"


@pytest.mark.parametrize("word", FORBIDDEN_WORDS)
def test_forbidden_words(word):
    pattern = re.compile(rf"(?<![a-z]){word}(?![a-z])".replace(" ", r"\s+"), re.IGNORECASE)
    found = [
        f"{path}:{text_of(path).count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path in (*PYTHON, *files("*.md"))
        if path not in ("docs/journal.md", "tests/test_layout.py")
        for match in pattern.finditer(text_of(path))
    ]
    assert found == []


def test_forbidden_words_in_names():
    found = []
    for path in PYTHON:
        if part_of(path) == "tests":
            continue
        names = [(1, path.removesuffix(".py").replace("/", "_"))]
        names += [(n.lineno, n.name) for n in nodes(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        for line, name in names:
            words = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_")
            found += [f"{path}:{line}: {name}"] * bool(FORBIDDEN_NAMES & set(words))
    assert found == []


@pytest.mark.filterwarnings("always:layout")
def test_sizes():
    """Sizes are warnings: a table may be long, and a folder may have one file too many for a good reason."""

    def warn(title: str, sizes: dict[str, int]) -> None:
        if sizes:
            warnings.warn(f"layout: {title}: " + ", ".join(f"{k} {v}" for k, v in sizes.items()), stacklevel=2)

    code = [path for path in PYTHON if part_of(path) != "tests"]
    folders = {str(Path(path).parent) for path in code} - {"."}
    num_files = {
        f: len([p for p in PYTHON if str(Path(p).parent) == f and Path(p).name != "__init__.py"]) for f in folders
    }
    lines = {path: text_of(path).count("\n") for path in code if Path(path).name != "__init__.py"}
    lengths = {
        f"{path}: {name}": function.end_lineno - function.lineno + 1
        for path in code
        for name, function in functions_of(path)
    }
    warn("folders of other than 3 to 15 files", {f: n for f, n in sorted(num_files.items()) if not 3 <= n <= 15})
    warn("files of more than 350 lines", {path: n for path, n in lines.items() if n > 350})
    warn("functions of more than 60 lines", {name: n for name, n in lengths.items() if n > 60})
    assert lines["main.py"] <= 230


# ---------------------------------------------------------------------------------------------------- security

FORBIDDEN_CALLS = {
    "paddle.load", "pickle.load", "pickle.loads", "paddle.jit.load", "yaml.load", "os.system", "eval", "exec",
    "paddle.static.load_program_state", "paddle.hub.load", "marshal.loads",
}  # fmt: skip


def test_no_call_that_runs_code_from_a_file():
    wrong = []
    for path in PYTHON:
        if part_of(path) == "tests":
            continue
        for node in nodes(tree_of(path)):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            is_unsafe = (
                name in FORBIDDEN_CALLS
                or keywords.get("shell") == "True"
                or keywords.get("allow_pickle") == "True"
                or (name == "torch.load" and keywords.get("weights_only") != "True")
            )
            if is_unsafe:
                wrong.append(f"{path}:{node.lineno}: {name}")
    assert wrong == []
