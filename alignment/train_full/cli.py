"""`python -m alignment train_full CASE --data DIR`: does a whole training reach the accuracy of PyTorch's?"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.cli import home_path
from common.errors import UsageError, WeightsError
from common.figure_fonts import import_pyplot
from common.files import disk_errors, write_atomically
from common.printable import print_safely
from engine.progress.json_lines import append_lines

from ..case import TRUST_CASE, read_case
from ..reference import Reference
from ..rules import Arrays
from ..session import Session
from ..verdict import EXIT_CODES
from .comparison import Comparison
from .figure import NEED, draw_both_sides
from .paddle_run import initial_weights, train_port
from .settings import FullTraining
from .torch_run import TorchRun

RECIPES = Path("configs/recipes")
EPILOG = """
Every further flag is one of main.py and goes to both sides, for example --epochs 1 --batch_size 32.
A training that was stopped continues with the same command, and a finished one is not repeated.
Exit codes: 0 the difference is within the spread between seeds, 6 it is not, or there is one seed alone; others as of
`python -m alignment --help`.
"""


def main(argv: list[str]) -> int:
    """Train both sides with every seed, print the comparison, write result.json and curves.png.

    Raises:
        ProjectError: a training cannot be run; the exception has the exit code.
    """
    options, flags = create_parser().parse_known_args(argv)
    if len(set(options.seeds)) < len(options.seeds):  # the same training twice has no spread
        raise UsageError(f"--seeds {' '.join(map(str, options.seeds))}: give each seed once")
    import_pyplot(NEED)  # what is missing shows before hours of training
    case = read_case(options.case, is_trusted=options.trust_case)
    config_file = options.config or _default_config(case.name)
    recipe = FullTraining(case, config_file.resolve(), options.data.resolve(), tuple(flags))
    number = {"num_classes": recipe.num_classes}
    case = replace(
        case,
        port_arguments=case.port_arguments | number,
        reference_arguments=case.reference_arguments | number,
    )
    folder = options.output_dir or Path("output") / "train_full" / case.name
    port, reference_runs = [], []
    with Reference(options.python) as reference:
        session = Session(case, reference)
        versions = reference.ask("versions")
        for seed in options.seeds:
            weights = initial_weights(recipe, seed)
            theirs = _for_reference(session, weights)
            print_safely(f"seed {seed}: Paddle trains in {folder / f'paddle_{seed}'}")
            port.append(train_port(recipe, seed, weights, folder / f"paddle_{seed}"))
            print_safely(f"  Paddle, seed {seed}: top-1 {port[-1].top1_percent[-1]:.2f} %")
            run = TorchRun(recipe, seed, reference, session.case.reference_spec, folder / f"torch_{seed}")
            run.start(theirs)
            reference_runs.append(run.train(print_safely))
        has_dropout = any(name.startswith("Dropout") for name in _kinds_of_layers(session))
    comparison = Comparison(port, reference_runs, has_dropout, recipe.one_picture_percent())
    print_safely("\n".join(comparison.lines()))
    _write(comparison, recipe, folder, options, versions)
    return EXIT_CODES[comparison.status]


def _default_config(case: str) -> Path:
    path = RECIPES / f"fashion_mnist_{case}.yaml"
    if not path.exists():
        raise UsageError(f"{path}: no such file; name the recipe of the training by --config")
    return path


def _for_reference(session: Session, weights: Arrays) -> Arrays:
    """Weights of the port as those of the reference.

    Raises:
        WeightsError: the rules of the case do not account for every entry.
    """
    arrays = session.rules.from_port(weights)
    expected = {entry["name"]: tuple(entry["shape"]) for entry in session.inventory["entries"]}
    shapes = {name: array.shape for name, array in arrays.items()}
    wrong = sorted(name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name))
    if wrong:
        name = wrong[0]
        raise WeightsError(
            f"the rules of {session.case.name} do not give the weights of the reference: {len(wrong)} differ, the "
            f"first {name}: {shapes.get(name, 'missing')} instead of {expected.get(name, 'nothing')}"
        )
    return arrays


def _kinds_of_layers(session: Session) -> Sequence[str]:
    return [type(layer).__name__ for layer in session.port.build().sublayers()]


def _write(
    comparison: Comparison, recipe: FullTraining, folder: Path, options: argparse.Namespace, versions: dict
) -> None:
    import paddle

    about = {"benchmark": "train_full", "case": recipe.case.name, "recipe": recipe.config_file.stem}
    about |= {"flags": list(recipe.flags), "epochs": recipe.num_epochs, "data": recipe.data_path.name}
    about |= {"versions": {"paddle": paddle.__version__, "torch": versions["torch"]}}
    result = about | comparison.to_dict()
    text = json.dumps(result, indent=1) + "\n"
    if options.results:
        with disk_errors(options.results):
            append_lines(options.results, json.dumps(result) + "\n")
    for path in (folder / "result.json", options.json):
        if path:
            with disk_errors(path):
                write_atomically(path, text)
            print_safely(f"wrote {path}")
    title = f"{recipe.case.name}, {recipe.config_file.stem}: whole trainings with the same batches and initial weights"
    draw_both_sides(comparison.port, comparison.reference, folder / "curves.png", title)
    print_safely(f"wrote {folder / 'curves.png'}")


def create_parser() -> argparse.ArgumentParser:
    """The flags of the program."""
    parser = argparse.ArgumentParser(
        "python -m alignment train_full", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("case", help="name of a shipped case, or path of a YAML file")
    parser.add_argument(
        "--data", type=home_path, required=True, help="folder with train/ and val/, --data_path of main.py"
    )
    parser.add_argument("--config", type=Path, help="recipe; default: configs/recipes/fashion_mnist_CASE.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one training each (0 1 2)")
    parser.add_argument("--output_dir", type=home_path, help="folder of both sides; default: output/train_full/CASE")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--results", type=Path, help="append the result as one line to this file of JSON lines")
    parser.add_argument("--python", default=sys.executable, help="Python interpreter that has PyTorch")
    parser.add_argument("--trust_case", action="store_true", help=TRUST_CASE)
    return parser
