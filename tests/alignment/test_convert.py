"""A PyTorch project becomes a port with a case and a list of lines to mend; PaConvert itself is a program beside it."""

import shutil
import sys
from pathlib import Path

import pytest

from alignment.case import Case, Training
from alignment.cli import main
from alignment.convert.call_sites import advice_for, call_sites
from alignment.runner import run_stages
from common.errors import MissingDependencyError, UsageError

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))
"""
TRAIN = """
import torch
from net import Net

def train(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.param_groups[0]["lr"] = 0.2
"""
# In place of PaConvert: the names that it writes, and its mark before a line that it cannot convert.
PROGRAM = """#!{python}
import sys
from pathlib import Path
source, target = Path(sys.argv[sys.argv.index("--in_dir") + 1]), Path(sys.argv[sys.argv.index("--out_dir") + 1])
target.mkdir()
for path in source.glob("*.py"):
    lines = path.read_text().splitlines()
    lines = [">>>>>>" + line if "optim.SGD" in line else line for line in lines]
    text = "\\n".join(lines).replace("import torch\\nfrom torch import nn", "import paddle\\nfrom paddle import nn")
    text = text.replace("nn.Module", "nn.Layer").replace("nn.Linear", "paddle.compat.nn.Linear")
    (target / path.name).write_text(text.replace("torch.relu", "paddle.nn.functional.relu"))
"""


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "project").mkdir()
    for name, text in (("net.py", NET), ("train.py", TRAIN)):
        (tmp_path / "project" / name).write_text(text)
    return tmp_path / "project"


@pytest.fixture
def program(tmp_path) -> str:
    path = tmp_path / "paconvert_stub"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


def test_the_lines_to_mend_are_listed_with_advice(project, program, tmp_path, capsys):
    assert main(["convert", str(project), "--output_dir", str(tmp_path / "out"), "--paconvert", program]) == 0
    output = capsys.readouterr().out
    assert "2 lines to mend" in output and "train.py:6: `optimizer = torch.optim.SGD(" in output
    assert "write paddle.optimizer.Momentum(" in output and "optimizer.set_lr(value)" in output
    assert (tmp_path / "out" / "alignment_report.md").read_text().startswith("# project, converted to Paddle")
    assert call_sites(project)[0].line == 7 and advice_for("x = 1") == ""
    (project / "more.py").write_text(
        "import paddle\n"
        "x = paddle.nn.ReLU(inplace=True)\n"
        "y = paddle.no_such_function(x)\n"
        ">>>>>>z = torch.optim.SGD(\n    weights, lr=0.1,\n    momentum=0.9)\n"
        "a = paddle.cat([x, y], dim=1)\n"
        "b = paddle.nn.functional(1)\n"
    )
    sites = {site.line: site.advice for site in call_sites(project) if site.file == "more.py"}
    assert sites == {
        2: "the call without inplace, which paddle.nn.ReLU does not have",
        3: "another function: Paddle has no paddle.no_such_function",
        4: "paddle.optimizer.Momentum(learning_rate=..., momentum=..., parameters=...)",
        8: "another function: paddle.nn.functional is a module",
    }
    with pytest.raises(UsageError, match="is not empty"):
        main(["convert", str(project), "--output_dir", str(tmp_path / "out"), "--paconvert", program])


def test_a_missing_program_and_a_missing_folder_are_named(project, tmp_path):
    with pytest.raises(MissingDependencyError, match=r"pip install paconvert==3\.3\.1"):
        main(["convert", str(project), "--output_dir", str(tmp_path / "out"), "--paconvert", "no_such_program"])
    with pytest.raises(UsageError, match="no such folder"):
        main(["convert", str(tmp_path / "none"), "--output_dir", str(tmp_path / "out")])


@pytest.mark.torch
def test_a_model_of_the_project_is_compared_with_its_port(project, program, tmp_path, capsys):
    words = ["convert", str(project), "--output_dir", str(tmp_path / "out"), "--paconvert", program]
    assert main([*words, "--model", "net.py:Net@4,6", "--trust_case"]) == 0
    assert "Net: match" in capsys.readouterr().out and (tmp_path / "out" / "Net.yaml").is_file()
    words[3] = str(tmp_path / "other")
    assert main([*words, "--model", "net.py:Net@4,6"]) == 6  # the reference is not in the folder of the case
    assert "add --trust_case" in capsys.readouterr().out


PROJECTS = Path(__file__).parent / "torch_projects"
# {project: (shape of the input of its model, lines of the port to mend, corrections of net.py before it matches)}
CONVERTED = {
    "tabular": ("4,12", {"net.py": [12], "train.py": [17, 32]}, [("nn.ReLU(inplace=True)", "nn.ReLU()")]),
    "pictures": ("2,3,32,32", {"train.py": [32]}, []),
    "text": ("4,7", {"train.py": [9, 29]}, []),
}


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.skipif(shutil.which("paconvert") is None, reason="PaConvert is missing: pip install paconvert==3.3.1")
@pytest.mark.parametrize("name", CONVERTED)
def test_the_real_program_converts_three_projects(name, tmp_path, capsys, reference):
    """The model of each port matches, once the listed lines of its file are mended."""
    shape, lines, corrections = CONVERTED[name]
    words = ["convert", str(PROJECTS / name), "--output_dir", str(tmp_path), "--model", f"net.py:Net@{shape}"]
    code = main([*words, "--trust_case"])
    assert code == (6 if corrections else 0)
    sites: dict[str, list[int]] = {}
    for site in call_sites(tmp_path):
        sites.setdefault(site.file, []).append(site.line)
    assert sites == lines
    assert ("Net: match" in capsys.readouterr().out) == (not corrections)
    if corrections:
        path = tmp_path / "net.py"
        for old, new in corrections:
            path.write_text(path.read_text().replace(old, new))
        shape = tuple(int(length) for length in shape.split(","))
        case = Case("Net", tmp_path, "net.py:Net", f"{PROJECTS / name / 'net.py'}:Net", shape=shape, is_trusted=True,
                    train=Training(shape=shape, steps=3, curve_side=0))  # fmt: skip
        assert run_stages(case, ("weights", "forward", "backward", "train"), reference).status == "pass"
