"""Another package called `datasets`, and the installation of this project by its metadata."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from common import own_packages
from common.errors import ShadowedPackageError
from common.own_packages import check_own_packages
from tests.source import PACKAGES, ROOT


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of installed packages with Hugging Face's `datasets`."""
    folder = tmp_path / "site-packages"
    (folder / "datasets").mkdir(parents=True)
    (folder / "datasets/__init__.py").write_text("")
    (folder / "datasets/arrow_dataset.py").write_text("")
    return folder


def import_in_a_new_process(folder: Path, *paths: Path, code: str = "import deploy") -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_own_packages_are_found():
    check_own_packages()


def test_an_installed_package_that_comes_first_is_named_with_what_to_do(elsewhere, tmp_path):
    last = import_in_a_new_process(tmp_path, elsewhere, ROOT).stderr.splitlines()[-1]
    assert f"import datasets finds an installed package of Hugging Face, {elsewhere}/datasets" in last
    assert f"cd {ROOT}, or set PYTHONPATH={ROOT}" in last and "pip uninstall datasets" in last
    assert import_in_a_new_process(tmp_path, ROOT, elsewhere).returncode == 0  # what the message says
    begin = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import deploy"
    done = import_in_a_new_process(tmp_path, elsewhere, code=begin)
    assert done.returncode == 0, done.stderr


def test_a_script_ends_with_a_message_and_exit_code_7(elsewhere, tmp_path):
    code = "import runpy, sys; sys.argv = ['main.py']; from common.cli import run; run(print)"
    done = import_in_a_new_process(tmp_path, elsewhere, ROOT, code=code)
    assert done.returncode == 7 and done.stderr.startswith("error: import datasets finds") and not done.stdout
    (tmp_path / "work/models").mkdir(parents=True)
    (tmp_path / "work/models/__init__.py").write_text("")
    done = import_in_a_new_process(tmp_path / "work", ROOT, code=code)  # the working folder comes first with -c
    assert done.returncode == 7 and f"import models finds {tmp_path}/work/models" in done.stderr


def test_a_package_that_was_imported_before_is_named(elsewhere, monkeypatch):
    other = type(sys)("datasets")
    other.__file__, other.__path__ = str(elsewhere / "datasets/__init__.py"), [str(elsewhere / "datasets")]
    monkeypatch.setitem(sys.modules, "datasets", other)
    with pytest.raises(ShadowedPackageError, match="this process has imported the other one already, so start a new"):
        check_own_packages()


def test_a_copied_part_of_the_project_needs_no_other_part(tmp_path, monkeypatch):
    monkeypatch.setattr(own_packages, "ROOT", tmp_path)
    check_own_packages()


def test_the_metadata_names_packages_and_requirements(tmp_path):
    """Built by setuptools without network, in a copy: it writes beside pyproject.toml."""
    pytest.importorskip("setuptools", minversion="69")
    names = ("common", "configs", "datasets", "deploy", "engine", "factory", "models", "alignment")
    for path in (ROOT / "pyproject.toml", ROOT / "README.md", *ROOT.glob("requirements*.txt")):
        shutil.copy(path, tmp_path)
    for name in PACKAGES:
        for path in (ROOT / name).rglob("__init__.py"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    code = "import setuptools.build_meta as b; b.prepare_metadata_for_build_editable('out')"
    (tmp_path / "out").mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "out").glob("*.dist-info")
    metadata = Distribution.at(folder).metadata
    assert metadata["Name"] == "peleenet-paddle" and metadata["Requires-Python"] == ">=3.10"
    required = [re.match(r"[\w-]+", line)[0] for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    listed = re.findall(r"^([\w-]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert required == listed
    assert set((folder / "top_level.txt").read_text().split()) == set(names)
