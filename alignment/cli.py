"""`python -m alignment STAGE CASE`: does the port match its reference, and where does it differ first?"""

import argparse
import importlib
import sys
from dataclasses import replace
from pathlib import Path

from common.files import disk_errors
from common.printable import print_safely
from datasets.reading.image_folder import find_images

from .case import TRUST_CASE, Case, list_cases, read_case
from .mapping.names import case_of_names
from .reference import Reference
from .report.json_junit import write_json, write_junit
from .runner import STAGES, run_stages
from .verdict import Verdict

EPILOG = f"""
STAGE is all, or one of {", ".join(STAGES)}; shipped cases: {", ".join(list_cases())}; or give a YAML file, or two
models: `python -m alignment all paddle.vision:resnet50 torchvision:resnet50` (also timm:NAME, transformers:CLASS).
Other commands: `python -m alignment init PORT REFERENCE`, which writes a case, `python -m alignment selftest`,
`python -m alignment convert SRC --output_dir DST`, which ports a project, `python -m alignment zoo`, 13 networks,
`python -m alignment train_full --help`, a whole training on both sides, `python -m alignment compare A.npy B.npy`,
`python -m alignment.weights convert --help`.
Exit codes: 0 match, 2 usage, 3 images cannot be read, 4 weights cannot be used, 6 no match or inconclusive,
7 PyTorch or the package of the reference is missing, 74 a report cannot be written.
"""
# {command beside the stages: module whose `main` runs it}, imported when it is run.
COMMANDS = {
    "selftest": ".selftest.cli",
    "convert": ".convert.cli",
    "zoo": ".mapping.zoo",
    "init": ".mapping.init",
    "compare": ".compat.reprod_log",
    "train_full": ".train_full.cli",
}


def main(argv: list[str]) -> int:
    """Run the stages, print their results, write the files that the flags name; returns the exit code.

    Raises:
        ProjectError: the question cannot be answered; the exception has the exit code.
    """
    if argv and argv[0] in COMMANDS:
        return importlib.import_module(COMMANDS[argv[0]], __package__).main(argv[1:])
    options = _parse(argv)
    case = _case(options)
    if options.images:
        find_images(options.images)  # a wrong folder is an error of every stage, though only `data` reads images
    stages = STAGES if options.stage == "all" else (options.stage,)
    weights = None
    if options.weights and case.recorded.files:
        case = replace(case, recorded=replace(case.recorded, weights=str(options.weights.resolve())))
    elif options.weights:
        from engine.weights import load_weights

        from .weights import read_for_reference

        load_weights(options.weights)  # a file that cannot be read is an error of every stage
        # A case that names its matrices has the rules of a file; the rules of another are found when it is run.
        weights = options.weights if case.transpose is None else read_for_reference(options.weights, case)
    with Reference(options.python, options.recordings) as reference:
        verdict = run_stages(
            case, stages, reference, weights=weights, image_folder=options.images, report_progress=print_safely
        )
        verdict.versions = _versions(None if case.recorded.files else reference)
    write_files(verdict, options)
    return verdict.exit_code


def _case(options: argparse.Namespace) -> Case:
    if options.reference is None:
        return read_case(options.case, is_trusted=options.trust_case)
    return case_of_names(options.case, options.reference, shape=options.shape, is_trusted=options.trust_case)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m alignment", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("all", *STAGES))
    parser.add_argument("case", help="name of a shipped case, path of a YAML file, or the Paddle model")
    parser.add_argument(
        "reference", nargs="?", help="the PyTorch model, if CASE is the Paddle model; for example timm:resnet18"
    )
    parser.add_argument("--shape", default="", help="of the input of two models, by default 1,3,224,224")
    parser.add_argument("--trust_case", action="store_true", help=TRUST_CASE)
    parser.add_argument("--weights", type=Path, help="file of weights for both models; by default random weights")
    parser.add_argument("--images", type=Path, help="folder of images for the stage data, which takes 64 of them")
    parser.add_argument("--python", default=sys.executable, help="Python interpreter that has PyTorch")
    parser.add_argument(
        "--recordings", type=Path, help="folder that keeps the answers of the reference, and is read before asking it"
    )
    parser.add_argument("--report", type=Path, help="write an HTML report to this file")
    parser.add_argument("--json", type=Path, help="write the verdict as JSON to this file")
    parser.add_argument("--junit", type=Path, help="write the verdict as JUnit XML to this file")
    return parser.parse_args(argv)


def _versions(reference: Reference | None) -> dict[str, str]:
    import numpy
    import paddle

    versions = {"paddle": paddle.__version__, "numpy": numpy.__version__}
    return versions if reference is None else versions | {"torch": reference.ask("versions")["torch"]}


def write_files(verdict: Verdict, options: argparse.Namespace) -> None:
    """Write the files of --json, --junit and --report.

    Raises:
        DiskError: a file cannot be written.
    """
    from .report.html_page import write_report

    for path, write in ((options.json, write_json), (options.junit, write_junit), (options.report, write_report)):
        if path:
            with disk_errors(path):
                write(verdict, path)
            print_safely(f"wrote {path}")
