"""What the README and the pages promise: goals of make, files, two languages; the commands on ImageNet run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.readme_commands import ROOT, commands, commands_to_run, create_checkout, run_in_order, value_of
from tests.source import files

PAGES = (
    "reliability data deployment alignment pretrained finetuning compatibility own_pictures serving "
    "performance gpu_checklist"
).split()


def test_the_commands_on_imagenet_run(tmp_path):
    """Those that come of the first training, and beside them the rest; tests/test_own_pictures.py has the others."""
    folder = create_checkout(tmp_path)
    lines = commands_to_run("README.md", own_pictures=False)
    assert len(lines) >= 9
    first = [line for line in lines if re.search(r"output/(peleenet|exported)\b", line)]
    assert len(first) >= 6
    with ThreadPoolExecutor(1) as beside:
        rest = beside.submit(run_in_order, folder, [line for line in lines if line not in first])
        run_in_order(folder, first)
    rest.result()
    assert (folder / "output" / "answers.csv").read_text().startswith("file_name,label_name,score,class_id,error")


def test_logs_of_the_launcher_are_in_the_output_folder():
    """The launcher writes the whole environment into its logs, by default into `log/` of the current folder."""
    launched = [line for line in commands("README.md") if "paddle.distributed.launch" in line]
    assert launched
    for line in launched:
        assert value_of("--log_dir", line).startswith(value_of("--output_dir", line) + "/"), line


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
GOALS = sorted(
    {command.split()[1] for command in commands("README.md") if command.startswith("make ")}
    | set(re.findall(r'"make ([\w-]+)', MAKEFILE))  # those of `make help`
    | set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE))
)


def clone(folder: Path, *, is_installed: bool) -> Path:
    """What make needs, and a folder by the name of every goal, as demo/ and deploy/ are: make must not look at them."""
    marks = re.findall(r"^\$\(VENV\)/(\S+):", MAKEFILE, re.MULTILINE)
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("requirements*.txt")):
        shutil.copy(path, folder)
        os.utime(folder / path.name, (1000, 1000))
    if is_installed:
        (folder / ".venv" / "bin").mkdir(parents=True)
        for mark in marks:
            mark = folder / ".venv" / mark
            mark.touch()
            os.utime(mark, (2000, 2000))
    for goal in GOALS:
        (folder / goal).mkdir()  # newer than all
    return folder


@pytest.fixture(scope="module")
def fresh_clone(tmp_path_factory) -> Path:
    return clone(tmp_path_factory.mktemp("fresh"), is_installed=False)


@pytest.fixture(scope="module")
def installed_clone(tmp_path_factory) -> Path:
    return clone(tmp_path_factory.mktemp("installed"), is_installed=True)


def dry_run(folder: Path, goal: str) -> list[str]:
    """The commands that `make` would run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-n", goal]  # not as a part of the `make test` that may run this
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "is up to date" not in done.stdout, f"make takes the folder {goal} for the goal {goal}"
    return [line for line in done.stdout.splitlines() if not line.startswith("make: Nothing to be done")]


@pytest.mark.parametrize("goal", GOALS)
def test_every_make_goal_does_something(fresh_clone, installed_clone, goal):
    """In a fresh clone it installs what it needs; later it does its work alone, if it is more than to install."""
    assert {"demo", "deploy", "test", "test-all"} <= set(GOALS)
    first, later = ([line for line in dry_run(folder, goal) if not line.startswith("touch ")]
                    for folder in (fresh_clone, installed_clone))  # fmt: skip
    assert first and first[-1].startswith((".venv/bin/python -m ", "echo ", "find ")), first
    assert not any(" -m pip install" in line for line in later)
    assert later == first[len(first) - len(later) :]
    assert bool(later) == (" -m pip install" not in first[-1])


@pytest.mark.parametrize(
    ("goal", "tests"),
    [("test", ["deploy", "plain", "torch"]), ("test-all", ["cpp", "deploy", "plain", "slow", "torch"])],
)
def test_make_test_all_leaves_no_test_out(fresh_clone, goal, tests, tmp_path):
    """The command of the goal, on one test of each mark and one of none."""
    shutil.copy(fresh_clone / "pyproject.toml", tmp_path)
    marks = ("torch", "deploy", "cpp", "slow")
    functions = [f"@pytest.mark.{mark}\ndef test_{mark}(): pass\n" for mark in marks]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_marks.py").write_text("\n".join(["import pytest\ndef test_plain(): pass", *functions]))
    interpreter, *words = shlex.split(dry_run(fresh_clone, goal)[-1])
    assert interpreter == ".venv/bin/python"
    done = subprocess.run([sys.executable, *words, "--collect-only"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(re.findall(r"test_marks\.py::test_(\w+)", done.stdout)) == tests


def test_files_that_the_readme_names_exist():
    for readme in ("README.md", "README_ch.md"):
        text = (ROOT / readme).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
            assert (ROOT / target).exists(), f"{readme} links to {target}"


def test_paths_on_the_pages_exist():
    """Every source file that a page names in backticks by its path; the journal names what was."""
    folders = "|".join(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists() or path.name == "tests")
    pages = [ROOT / page for page in files("*.md") if page != "docs/journal.md"]
    named = [
        (page.name, path)
        for page in pages
        for path in re.findall(rf"`((?:{folders})/[a-z0-9_/]+\.(?:py|yaml|sh))`", page.read_text(encoding="utf-8"))
    ]
    assert len(named) > 30
    assert [f"{page}: {path}" for page, path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    "page",
    ["README", *(f"docs/{name}" for name in PAGES)],
)
def test_both_languages_say_the_same(page):
    english, chinese = ((ROOT / f"{page}{end}.md").read_text(encoding="utf-8") for end in ("", "_ch"))
    lines = [[line.split(" #")[0].rstrip() for line in commands(f"{page}{end}.md")] for end in ("", "_ch")]
    assert lines[0] == lines[1]  # but for the comments
    assert set(re.findall(r"`(--\w+)", english)) == set(re.findall(r"`(--\w+)", chinese))
    for pattern in (r"^#+ ", r"^\|", r"^- ", r"^!\["):
        counts = [len(re.findall(pattern, text, re.MULTILINE)) for text in (english, chinese)]
        assert counts[0] == counts[1], pattern
