"""The notebook runs from its first cell to its last, and is kept without outputs."""

import json
from pathlib import Path

import pytest

from tests.forked_python import run_python

ROOT = Path(__file__).parents[2]
NOTEBOOK = json.loads((ROOT / "demo" / "own_pictures.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]

# Runs the cells as a kernel does: one namespace; the value of a last expression is displayed, as HTML where it has it.
RUN = """
import ast, json, sys
namespace, shown = {"__name__": "__main__"}, []
for code in json.load(sys.stdin):
    body = ast.parse(code).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
        shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
print(json.dumps(shown))
"""


def test_the_notebook_is_small_and_without_outputs():
    assert NOTEBOOK["nbformat"] == 4 and len(NOTEBOOK["cells"]) <= 15
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in NOTEBOOK["cells"])
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    headings = [cell["source"][0].strip("# \n") for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown"]
    assert headings == ["Your own pictures", "Check", "Train", "Load", "Predict", "Show"]


def test_every_cell_runs(tmp_path):
    pytest.importorskip("matplotlib", reason="the training draws its curves")
    for entry in ROOT.iterdir():  # its files, but not its output folder
        if entry.name not in ("output", "build", ".git") and not entry.name.startswith(".venv"):
            (tmp_path / entry.name).symlink_to(entry)
    cells = [code.replace("--epochs 6", "--epochs 1") for code in CODE]
    assert cells != CODE
    done = run_python(["-c", RUN], cwd=tmp_path, stdin=json.dumps(cells), timeout=240)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    assert shown[-4].startswith("<Classifier ") and "3 classes, 64 x 64" in shown[-4]
    assert "brick_000.jpg" in shown[-3] and "label_names" in shown[-3]
    assert shown[-2].count("data:image/jpeg;base64,") == 6
    assert "Image" in shown[-1]
    assert (tmp_path / "output" / "own_pictures" / "run" / "checkpoint-best.pd").exists()
