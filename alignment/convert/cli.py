"""`python -m alignment convert SRC --output_dir DST`: convert a PyTorch project to Paddle and compare its models."""

import argparse
import os
import sys
from pathlib import Path

from common.errors import ProjectError, UsageError
from common.files import disk_errors, write_atomically
from common.printable import print_safely

from ..case import TRUST_CASE, checked_case
from ..mapping.init import mapping_lines, write_case
from ..mapping.names import content_of_names
from ..reference import Reference
from ..runner import run_stages
from ..session import Session
from ..verdict import PASS
from .call_sites import CallSite, call_sites
from .paconvert import convert_code

REPORT = "alignment_report.md"
STAGES = ("weights", "forward", "backward", "train")
EPILOG = """
Each --model is `file.py:callable`, the same in the project and in its port. For it a case is written into DST, and the
stages are run. The file alignment_report.md in DST has the verdicts and the lines to mend. Exit codes: 0 converted, and
all models match, 2 usage, 6 a model does not match or cannot be judged, 7 PaConvert or PyTorch is missing.
"""


def main(argv: list[str]) -> int:
    """Convert, compare and write the report; returns the exit code.

    Raises:
        ProjectError: PaConvert is missing or fails, or a file cannot be written.
    """
    options = _parse(argv)
    target = options.output_dir
    if target.exists() and any(target.iterdir()):
        raise UsageError(f"{target} is not empty; give another folder with --output_dir")
    convert_code(options.source, target, options.paconvert)
    sites = call_sites(target)
    lines = [f"# {options.source.name}, converted to Paddle", "", *_site_lines(sites)]
    is_match = True
    with Reference(options.python) as reference:
        for model in options.model:
            found, is_right = _compare(model, options, reference)
            lines += ["", f"## {model}", "", *found]
            is_match = is_match and is_right
    text = "\n".join(lines) + "\n"
    with disk_errors(target / REPORT):
        write_atomically(target / REPORT, text)
    print_safely(text.rstrip())
    print_safely(f"wrote {target / REPORT}")
    return 0 if is_match else 6


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m alignment convert", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("source", type=Path, help="folder of the PyTorch project")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write; it must be empty or not there")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        help="a model to compare, file.py:callable or file.py:callable@4,6 with the shape of its input; repeatable",
    )
    parser.add_argument("--shape", default="", help="of the input of the models, by default 1,3,224,224")
    parser.add_argument("--paconvert", default="paconvert", help="program of PaConvert 3.3.1")
    parser.add_argument("--trust_case", action="store_true", help=TRUST_CASE)
    parser.add_argument("--python", default=sys.executable, help="Python interpreter that has PyTorch")
    return parser.parse_args(argv)


def _site_lines(sites: list[CallSite]) -> list[str]:
    if not sites:
        return ["No line has to be mended."]
    lines = [f"{len(sites)} lines to mend:", ""]
    for site in sites:
        advice = f"; write {site.advice}" if site.advice else ""
        lines.append(f"- {site.file}:{site.line}: `{site.text}`{advice}")
    return lines


def _compare(model: str, options: argparse.Namespace, reference: Reference) -> tuple[list[str], bool]:
    """Lines about one model of the project, and whether it matches; an error of one does not stop the others."""
    target, lines = options.output_dir, []
    source = os.path.relpath(options.source.resolve(), target.resolve())
    model, _, shape = model.partition("@")
    content = content_of_names(model, f"{source}/{model}", shape or options.shape)
    path = target / f"{content['port'].rpartition(':')[2]}.yaml"
    try:
        case = checked_case(
            content, str(path), name=path.stem, folder=target.resolve(), is_trusted=options.trust_case
        )  # fmt: skip
        session = Session(case, reference)
        text, mapping = write_case(session, content), session.mapping
        with disk_errors(path):
            write_atomically(path, text)
        lines += [f"case: {path.name}", *mapping_lines(session.case, mapping), "", "```"]
        verdict = run_stages(session.case, STAGES, reference, report_progress=lines.append)
        return [*lines, "```"], verdict.status == PASS
    except ProjectError as error:
        return [*lines, f"not compared: {error}"], False
