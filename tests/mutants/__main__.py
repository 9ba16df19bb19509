"""Plants faults in a copy of the project, one at a time, and says which of them the tests notice.

python -m tests.mutants                       all faults, about an hour on two processors
python -m tests.mutants --package engine      the faults of one package
python -m tests.mutants --only E01 P09        some faults
python -m tests.mutants --all_survivors       all recorded survivors together, against the whole suite

A fault is found if one of the tests named with it fails or hangs; if none does, the tests of its package follow. At the
end the tests that found something run without a fault: one that fails then, too, has found nothing.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from common.cli import run
from common.errors import ProjectError, UsageError
from common.files import write_atomically
from tests.mutants.catalog import PACKAGES, ROOT, Mutant, files_of, read_mutants, tests_of, tracked_files
from tests.mutants.pytest_process import FAILED, HUNG, PASSED, import_libraries, run_pytest

RESULT = Path(__file__).with_name("result.json")
SUITE_SECONDS = 7200.0


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of all files of the repository, with their present content, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        for package in PACKAGES:
            files_of(package)  # which are those that are copied, whatever happens meanwhile
        for name in tracked_files():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
        for words in (["init", "--quiet"], ["add", "--all"]):  # some tests ask git for the files
            subprocess.run(["git", *words], cwd=tree, check=True)
        yield tree


@contextmanager
def planted(mutants: Iterable[Mutant], tree: Path) -> Iterator[None]:
    """Plant faults in a copy, and take them out again.

    Raises:
        UsageError: the text of a fault does not stand exactly once in its package.
    """
    before: dict[Path, tuple[bytes, os.stat_result]] = {}
    try:
        for mutant in mutants:
            places = mutant.places(tree)
            if len(places) != 1:
                raise UsageError(f"{mutant.id}: its text stands {len(places)} times in {mutant.package}: {places}")
            path = tree / places[0]
            before.setdefault(path, (path.read_bytes(), path.stat()))
            path.write_text(mutant.plant(path.read_text(encoding="utf-8")), encoding="utf-8")
            # Python takes compiled code of the same time and size for that of this text.
            os.utime(path, ns=(time.time_ns(), time.time_ns() + 3_600_000_000_000))
        yield
    finally:
        for path, (content, status) in before.items():
            path.write_bytes(content)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


class Outcome(NamedTuple):
    """What became of a fault: how it was found ("" if it was not), and the tests that found it."""

    how: str
    tests: tuple[str, ...] = ()


def failed_tests(output: Path) -> tuple[str, ...]:
    """The functions and files that failed, from the summary of pytest."""
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(match[1] for line in lines if (match := re.match(r"(?:FAILED|ERROR) (tests/[^\s\[]+)", line)))


def notice(mutant: Mutant, tree: Path, output: Path, options: argparse.Namespace) -> Outcome:
    """Plant one fault, and run the tests that are named with it, then those of its package."""
    steps = [("named tests", mutant.tests, options.timeout)]
    if not options.named_only:
        steps.append(("tests of the package", tests_of(mutant.package), SUITE_SECONDS))
    for how, tests, seconds in steps:
        with planted([mutant], tree):
            ended = run_pytest(tree, ["-x", *tests], seconds, output)
        if ended == FAILED:
            return Outcome(how, failed_tests(output) or tests)
        if ended == HUNG and run_pytest(tree, ["-x", *tests], seconds, output) != HUNG:
            return Outcome(f"{how}, by a hang", tests)
    return Outcome("")


def without_false_alarms(outcomes: dict[str, Outcome], tree: Path, output: Path) -> dict[str, Outcome]:
    """The outcomes without those of tests that fail also where no fault is planted."""
    tests = sorted({test for outcome in outcomes.values() for test in outcome.tests})
    whole = {test for test in tests if "::" not in test}
    words = [test for test in tests if test in whole or test.partition("::")[0] not in whole]
    if not words or run_pytest(tree, words, SUITE_SECONDS, output) == PASSED:
        return outcomes
    failing = failed_tests(output)
    if not failing:
        raise ProjectError(f"the tests cannot be run without a fault:\n{output.read_text(errors='replace')[-3000:]}")
    print(f"these tests fail without a fault, and notice nothing: {' '.join(sorted({*failing}))}")
    files = {test.partition("::")[0] for test in failing}
    return {
        name: Outcome("") if {*outcome.tests} & {*failing, *files} else outcome for name, outcome in outcomes.items()
    }


def table(results: dict[str, dict]) -> list[str]:
    """Lines of a table: package, faults planted, found, and the ids of those that were not found."""
    lines = ["package     planted  found  not found"]
    for package in [name for name in PACKAGES if name in results]:
        row = results[package]
        lines.append(f"{package:<10} {row['planted']:8} {row['found']:6}  {' '.join(row['survived'])}".rstrip())
    planted_number = sum(row["planted"] for row in results.values())
    found = sum(row["found"] for row in results.values())
    lines.append(f"{'all':<10} {planted_number:8} {found:6}  {100 * found / max(1, planted_number):.1f} %")
    return lines


def read_result() -> dict[str, dict]:
    """The recorded result by package; {} if there is none."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}


def run_mutants(mutants: Sequence[Mutant], options: argparse.Namespace) -> dict[str, dict]:
    """Plant the faults one after the other, and return the result by package."""
    import_libraries()
    outcomes: dict[str, Outcome] = {}
    with copied_tree() as tree, tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        output = Path(folder) / "output.txt"
        with planted(mutants, tree):  # each of them has a place
            pass
        for mutant in mutants:
            start = time.monotonic()
            outcomes[mutant.id] = notice(mutant, tree, output, options)
            how, seconds = outcomes[mutant.id].how or "NOT FOUND", time.monotonic() - start
            print(f"{mutant.id:6} {how:22} {seconds:6.1f} s  {mutant.fault}", flush=True)
        outcomes = without_false_alarms(outcomes, tree, output)
    results: dict[str, dict] = {}
    for mutant in mutants:
        row = results.setdefault(mutant.package, {"planted": 0, "found": 0, "survived": []})
        row["planted"] += 1
        row["found"] += bool(outcomes[mutant.id].how)
        row["survived"] += [] if outcomes[mutant.id].how else [mutant.id]
    return results


def run_survivors() -> str:
    """Plant all recorded survivors together and run the whole suite; return how it ended, in words.

    Raises:
        UsageError: no result is recorded.
    """
    names = {name for row in read_result().values() for name in row["survived"]}
    if not names:
        raise UsageError("no survivor is recorded; python -m tests.mutants --record first")
    mutants = [mutant for mutant in read_mutants() if mutant.id in names]
    import_libraries()
    with copied_tree() as tree, planted(mutants, tree), tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        output = Path(folder) / "output.txt"
        ended = run_pytest(tree, ["tests"], SUITE_SECONDS, output)
        print(output.read_text(encoding="utf-8", errors="replace")[-2000:])
    return f"{len(mutants)} survivors together: the suite {ended}"


def present_commit() -> str:
    """The first digits of the commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def record(results: dict[str, dict], commit: str) -> None:
    """Write the results of whole packages into the file of the last results, with date and commit."""
    facts = {"date": time.strftime("%Y-%m-%d"), "commit": commit}
    kept = read_result() | {package: row | facts for package, row in results.items()}
    write_atomically(RESULT, json.dumps({name: kept[name] for name in PACKAGES if name in kept}, indent=1) + "\n")


def main(argv: list[str]) -> int:
    """Run the command; the exit code is 0 if every fault without an explanation was found, else 1."""
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--package", nargs="+", choices=PACKAGES, default=PACKAGES, help="faults of these packages")
    parser.add_argument("--only", nargs="+", metavar="ID", help="these faults alone")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds until a hang is found (%(default)s)")
    parser.add_argument("--named_only", action="store_true", help="do not run the tests of the package for survivors")
    parser.add_argument("--record", action="store_true", help=f"write the result into {RESULT.name}")
    parser.add_argument("--all_survivors", action="store_true", help="all recorded survivors against the whole suite")
    options = parser.parse_args(argv)
    if options.all_survivors:
        print(run_survivors())
        return 0
    mutants = [one for one in read_mutants() if one.package in options.package]
    if options.only:
        unknown = set(options.only) - {mutant.id for mutant in mutants}
        if unknown or options.record:
            raise UsageError(f"--only: no fault {', '.join(unknown)}" if unknown else "--record: only whole packages")
        mutants = [mutant for mutant in mutants if mutant.id in options.only]
    commit, results = present_commit(), run_mutants(mutants, options)
    print("\n".join(table(results)))
    if options.record:
        record(results, commit)
    explained = {mutant.id for mutant in mutants if mutant.survives}
    return int(any(set(row["survived"]) - explained for row in results.values()))


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    run(main)
