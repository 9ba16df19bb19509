"""`--help` of each script fits a screen of 80 columns, and its example is a command that the script takes."""

import shlex
import subprocess
import sys

import pytest

from configs.help_screen import SCREENS, help_screen
from configs.loader import parse
from tests.source import ROOT

LINES = 48  # of a terminal of usual height


@pytest.mark.parametrize("config_class", SCREENS, ids=lambda config_class: config_class.__doc__)
def test_help_fits_a_screen(config_class, capsys):
    prog = config_class.__doc__
    with pytest.raises(SystemExit):
        parse(config_class, ["--help"], prog=prog)
    text = capsys.readouterr().out
    assert text == help_screen(config_class, prog)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= LINES
    assert all(f"--{name} " in text for names in SCREENS[config_class].groups.values() for name in names)


@pytest.mark.parametrize("config_class", SCREENS, ids=lambda config_class: config_class.__doc__)
def test_the_example_is_a_command_of_the_script(config_class):
    words = shlex.split(" ".join(SCREENS[config_class].example).replace("\\ ", " "))
    assert words[:2] == ["python", config_class.__doc__]
    # The recipe itself is read by the tests of the recipes.
    argv = [word for word in words[2:] if word not in ("--config", "configs/recipes/finetune_own_pictures.yaml")]
    parse(config_class, argv, prog=config_class.__doc__)


def test_all_flags_stand_in_help_all(capsys):
    for config_class in SCREENS:
        with pytest.raises(SystemExit):
            parse(config_class, ["--help_all"], prog="x")
        assert len(capsys.readouterr().out.splitlines()) > LINES


def run_without_packages(*words: str) -> subprocess.CompletedProcess:
    """Start a program by a Python that has its standard library alone."""
    return subprocess.run([sys.executable, "-S", *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("config_class", SCREENS, ids=lambda config_class: config_class.__doc__)
def test_help_needs_no_package(config_class):
    ended = run_without_packages(config_class.__doc__, "--help")
    assert (ended.returncode, ended.stderr) == (0, "") and "usage: python" in ended.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("main.py", "--data_path=x"),
        ("main.py", "--config=configs/recipes/finetune_own_pictures.yaml"),
        ("eval.py", "--resume=x"),
        ("predict.py", "--resume=x", "--infer_imgs=y"),
        ("export_model.py", "--resume=x", "--output_dir=y"),
        ("infer.py", "--model_file=x", "--input_file=y"),
    ],
)
def test_without_the_packages_a_script_names_what_to_install(words):
    ended = run_without_packages(*words)
    assert ended.returncode == 7, ended.stderr
    assert "is not installed: python -m pip install -r requirements.txt" in ended.stderr
    assert "Traceback" not in ended.stderr
