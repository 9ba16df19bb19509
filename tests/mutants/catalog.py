"""Reads the planted faults of `*.yaml` beside this file, and finds the place of each in the source of its package.

A fault is a small edit: a text that the package has exactly once, whatever the file, and what takes its place. So it
survives that code moves. A table is named as its package; `scripts.yaml` belongs to the five scripts, the Makefile and
the TIPC harness.
"""

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from common.errors import UsageError

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
PACKAGES = ("common", "configs", "datasets", "deploy", "engine", "factory", "models", "alignment", "scripts")
# Where the faults of a name that is no package lie, and which tests belong to it.
PLACES = {"scripts": ("main.py", "eval.py", "predict.py", "export_model.py", "infer.py", "Makefile", "test_tipc")}
TESTS = {
    "configs": ("tests/test_configs.py", "tests/test_help_screen.py"),
    "factory": ("tests/factory", "tests/scripts"),
    "models": ("tests/models", "tests/test_models.py", "tests/test_model_table.py"),
    "scripts": ("tests/scripts", "tests/test_readme.py", "tests/test_tipc.py", "tests/deploy/test_export_script.py"),
}
KEYS = {"fault", "find", "put", "tests"}


@dataclass(frozen=True)
class Mutant:
    """One fault that can be planted.

    Args:
        id: its name; the first 42 have the ids of the audit of November 2026.
        package: name of PACKAGES.
        fault: what is wrong, in words.
        find: text that stands once in the package.
        put: text in its place.
        tests: files or node ids of pytest that should notice the fault, below tests/.
        survives: why no test can notice it; "" if one should.
    """

    id: str
    package: str
    fault: str
    find: str
    put: str
    tests: tuple[str, ...]
    survives: str = ""

    def places(self, root: Path = ROOT) -> list[str]:
        """The files of the package that have the text, as often as they have it."""
        return [path for path in files_of(self.package) for _ in range(_text(root / path).count(self.find))]

    def plant(self, text: str) -> str:
        """The text of a file with the fault in it."""
        return text.replace(self.find, self.put)


@cache  # a fault is planted and taken out again, so that the text stays true
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


@cache
def tracked_files() -> tuple[str, ...]:
    """Paths of all files of the repository, new ones included, relative to its root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return tuple(name for name in names if name and os.path.lexists(ROOT / name))


@cache
def files_of(package: str) -> tuple[str, ...]:
    """The files in which the faults of a package are looked for."""
    names = PLACES.get(package, (package,))
    found = []
    for name in names:
        paths = [ROOT / name] if (ROOT / name).is_file() else sorted((ROOT / name).rglob("*.py"))
        found += [path.relative_to(ROOT).as_posix() for path in paths]
    return tuple(found)


def tests_of(package: str) -> tuple[str, ...]:
    """The tests of a package: the folder of its name below tests/, or those of TESTS."""
    return TESTS.get(package, (f"tests/{package}",))


@cache
def read_mutants() -> tuple[Mutant, ...]:
    """All faults, in the order of the files and of their lines.

    Raises:
        UsageError: an entry has a missing or an unknown key.
    """
    mutants = []
    for package in PACKAGES:
        for name, entry in yaml.safe_load((FOLDER / f"{package}.yaml").read_text(encoding="utf-8")).items():
            if not KEYS <= entry.keys() <= KEYS | {"survives"}:
                raise UsageError(f"{package}.yaml: {name}: expected the keys {', '.join(sorted(KEYS))}, got {[*entry]}")
            tests = tuple(f"tests/{test}" for test in entry["tests"].split())
            mutants.append(Mutant(name, package, **entry | {"tests": tests}))
    return tuple(mutants)
