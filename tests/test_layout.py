"""Holds the doors of the house: who may import whom (docs/design.md), and that importing is free."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HALL = ("main", "eval", "predict", "export_model", "infer")
PACKAGES = {"models", "datasets", "engine", "deploy", "configs", "common"}

# What each part may import of the project beside itself. To change this table is to change docs/design.md.
DOORS = {
    "common": set(),
    "configs": {"common"},
    "models": {"common", "configs.schema"},
    "datasets": {"common", "configs.schema"},
    "engine": {"common", "configs.schema"},
    "deploy": {"common", "configs.schema", "datasets.preprocess", "datasets.reading", "datasets.class_names"},
    "factory": PACKAGES,
    "main": PACKAGES | {"factory"},
    "eval": PACKAGES | {"factory"},
    "predict": PACKAGES | {"factory"},
    "export_model": PACKAGES | {"factory"},
    "infer": PACKAGES - {"models", "engine"},
    "alignment": PACKAGES,
    "benchmarks": PACKAGES,
    "demo": PACKAGES,
    "test_tipc": PACKAGES,
    "tests": PACKAGES | {"alignment", "benchmarks", "demo", "factory", *HALL},
}
# Parts whose import must not import Paddle, but for the files named: `--help`, the workers and the ONNX path do not
# wait for it.
PADDLE_FREE = {"common": set(), "configs": set(), "datasets": {"loader"}, "deploy": set()}


def python_files() -> list[Path]:
    skipped = {".venv", "output", "build"}
    return [path for path in sorted(ROOT.rglob("*.py")) if not skipped & set(path.relative_to(ROOT).parts)]


def imports(path: Path, *, top_level_only: bool = False) -> list[str]:
    """The modules that `path` names in absolute imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = []
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_doors(path):
    part = part_of(path)
    if "torch_side" in path.parts:
        return  # runs in a process of its own, beside other repositories' folders of the same names
    assert part in DOORS, f"{part}: a new part of the house; give it a row in DOORS and in docs/design.md"
    own = {*DOORS, *HALL}
    for name in imports(path):
        top = name.split(".")[0]
        if top not in own or top == part:
            continue
        opened = any(name == door or name.startswith(door + ".") or door.startswith(name + ".") for door in DOORS[part])
        assert opened, f"{path.relative_to(ROOT)}: {part} may not import {name}"
        assert top not in HALL or part == "tests", f"{path.relative_to(ROOT)}: nothing imports the script {top}.py"


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_lives_in_one_folder(path):
    if "torch_side" in path.parts or part_of(path) in ("tests", "benchmarks"):
        return
    assert not {"torch", "torchvision"} & {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_opens_with_one_sentence(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{path.relative_to(ROOT)} has no opening sentence"


def test_paddle_free_parts():
    files = [p for part, excepted in PADDLE_FREE.items() for p in (ROOT / part).rglob("*.py") if p.stem not in excepted]
    for path in [*files, ROOT / "models" / "__init__.py", *(ROOT / f"{script}.py" for script in HALL)]:
        top = {name.split(".")[0] for name in imports(path, top_level_only=True)}
        assert not top & {"paddle", "torch"}, f"{path.relative_to(ROOT)} imports Paddle at import"


@pytest.mark.parametrize("script", HALL)
def test_help_answers_without_paddle(script):
    code = (
        "import runpy, sys; sys.modules['paddle'] = None; sys.argv = [sys.argv[1], '--help'];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code, f"{script}.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout


FORBIDDEN = {
    "paddle.load", "pickle.load", "pickle.loads", "paddle.jit.load", "yaml.load", "os.system", "eval", "exec",
    "paddle.static.load_program_state", "paddle.hub.load", "marshal.loads",
}  # fmt: skip


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_call_that_runs_code_from_a_file(path):
    if part_of(path) == "tests":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        place = f"{path.relative_to(ROOT)}:{node.lineno}"
        name = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert name not in FORBIDDEN, f"{place}: {name}"
        assert keywords.get("shell") != "True" and keywords.get("allow_pickle") != "True", place
        assert name != "torch.load" or keywords.get("weights_only") == "True", place
