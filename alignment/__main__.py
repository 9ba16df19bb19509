"""`python -m alignment STAGE CASE`: does the port match its reference, and where does it differ first?"""

import argparse
import importlib
import signal
import sys
import time
import warnings
from pathlib import Path

from common.cli import die_of_signal
from common.errors import DiskError, WeightsError
from datasets.reading.image_folder import find_images

from .case import list_cases, read_case
from .reference import Reference
from .verdict import FAIL, PASS, Check, StageResult, Verdict, write_json, write_junit

STAGES = ("weights", "forward", "data", "metric", "loss", "backward", "train")
EPILOG = f"""
STAGE is all, or one of {", ".join(STAGES)}; shipped cases: {", ".join(list_cases())}; or give a YAML file.
Other commands: `python -m alignment.weights convert --help`, `python -m alignment compare A.npy B.npy`,
`python -m alignment selftest`.
Exit codes: 0 match, 2 usage, 3 images cannot be read, 4 weights cannot be used, 6 no match or inconclusive,
7 PyTorch is missing, 74 a report cannot be written.
"""


def main(argv: list[str]) -> int:
    """Run the stages, print what was found, write the files that were asked for; returns the exit code."""
    if argv[:1] == ["selftest"]:
        from .selftest.cli import main as selftest

        return selftest(argv[1:])
    if argv[:1] == ["compare"]:
        from .reprod import main as compare_files

        return compare_files(argv[1:])
    options = _parse(argv)
    case = read_case(options.case)
    if options.images:
        find_images(options.images)  # a wrong folder is an error of every stage, though only one looks into it
    names = STAGES if options.stage == "all" else (options.stage,)
    weights = None
    with Reference(options.python, options.recordings) as reference:
        if options.weights:
            from .weights import read_for_reference

            weights = read_for_reference(options.weights, case, reference)
        verdict = run(case, names, reference, weights=weights, images=options.images, report_progress=print)
        verdict.versions = _versions(reference)
    write_files(verdict, options)
    return verdict.exit_code


def run(case, names, reference: Reference, *, port=None, weights=None, images=None, report_progress=None) -> Verdict:
    """Run the named stages; a stage that cannot even start is a failed check, the stages above it are still tried."""
    from .session import Session

    session = Session(case, reference, port, weights)
    verdict = Verdict(case.name, [])
    for name in names:
        start = time.perf_counter()
        run_stage = importlib.import_module(f".stages.{name}", __package__).run
        try:
            result = run_stage(session, images) if name == "data" else run_stage(session)
        except Exception as error:
            if isinstance(error, WeightsError) and verdict.stages and verdict.stages[0].status == FAIL:
                break  # the weights stage has said it
            exit_code = getattr(error, "exit_code", 0)
            if exit_code == 7 or (exit_code in (2, 3, 4) and port is None):
                raise  # the question itself is wrong, or cannot be asked on this machine
            text = f"{type(error).__name__}: {str(error)[:400]}"
            result = StageResult(name, [Check("the stage runs", FAIL, detail=text)])
        result.seconds = time.perf_counter() - start
        verdict.stages.append(result)
        if report_progress:
            print_stage(result, report_progress)
    if report_progress:
        report_progress(_conclusion(verdict))
    return verdict


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m alignment", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("all", *STAGES))
    parser.add_argument("case", help="a shipped case, or the path of a YAML file")
    parser.add_argument("--weights", type=Path, help="a file of the reference's weights, instead of drawn ones")
    parser.add_argument("--images", type=Path, help="a folder for the data stage, of which 64 images are taken")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the reference")
    parser.add_argument("--recordings", type=Path, help="keep the reference's answers here, and use those that are")
    parser.add_argument("--report", type=Path, help="write the HTML report here")
    parser.add_argument("--json", type=Path, help="write the verdict here")
    parser.add_argument("--junit", type=Path, help="write JUnit XML here, for CI")
    return parser.parse_args(argv)


def _versions(reference: Reference) -> dict[str, str]:
    import numpy
    import paddle

    theirs = reference.ask("versions")
    return {"paddle": paddle.__version__, "torch": theirs["torch"], "numpy": numpy.__version__}


def print_stage(result: StageResult, write) -> None:
    write(f"{result.name:<9} {result.status:<12} {result.seconds:6.1f} s")
    for check in result.checks:
        number = "" if check.value is None else f"{check.value:.2e}"
        limit = "" if check.tolerance is None else f" {'>' if _is_beyond(check) else '<='} {check.tolerance:.0e}"
        mark = " " if check.status == PASS else "!"
        write(f"  {mark} {check.name:<44} {number + limit:<20} {check.detail}")
        for hint in check.hints:
            write(f"      hint: {hint}")


def _is_beyond(check: Check) -> bool:
    return check.status == FAIL or (check.value or 0) > check.tolerance


def _conclusion(verdict: Verdict) -> str:
    problem = verdict.first_problem()
    if problem is None:
        return f"{verdict.case}: match"
    word = "no match" if verdict.status == FAIL else "inconclusive"
    place = f", at {problem.layer}" if problem.layer else ""
    hint = f"; {problem.hints[0]}" if problem.hints else ""
    return f"{verdict.case}: {word}: {problem.name}{place}: {problem.detail}{hint}"


def write_files(verdict: Verdict, options: argparse.Namespace) -> None:
    """What --json, --junit and --report ask for."""
    from .report import write_report

    for path, write in ((options.json, write_json), (options.junit, write_junit), (options.report, write_report)):
        if path:
            try:
                write(verdict, path)
            except OSError as error:
                raise DiskError(f"cannot write {path}: {error.strerror or error}") from None
            print(f"wrote {path}")


def start(main) -> None:
    """Run `main` of a command of this room; errors of the project become one message and an exit code."""
    warnings.filterwarnings("ignore", message="No ccache found")
    warnings.filterwarnings("ignore", message="When training, we now always track")
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        die_of_signal(signal.SIGINT)
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if code is None:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(code)


if __name__ == "__main__":
    start(main)
