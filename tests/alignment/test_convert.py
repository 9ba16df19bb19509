"""A PyTorch project becomes a port with a case and a list of lines to mend; PaConvert itself is a program beside it."""

import shutil
import sys
from pathlib import Path

import pytest

from alignment.cli import main
from alignment.convert.paconvert import advice_for, call_sites
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


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.skipif(shutil.which("paconvert") is None, reason="PaConvert is missing: pip install paconvert==3.3.1")
def test_the_real_program_converts_the_project(project, tmp_path, capsys):
    words = [
        "convert",
        str(project),
        "--output_dir",
        str(tmp_path / "out"),
        "--model",
        "net.py:Net@4,6",
        "--trust_case",
    ]
    assert main(words) == 0
    assert "Net: match" in capsys.readouterr().out
