"""`python -m alignment zoo`: compare networks of paddle.vision with those of torchvision, from their names alone."""

import argparse
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

from common.errors import CaseError
from common.files import disk_errors, write_atomically
from common.printable import print_safely

from ..reference import Reference
from ..report.text import conclusion
from ..runner import run_stages
from ..verdict import PASS, Check, Verdict
from .names import case_of_names
from .zoo_table import write_tables

RESULTS = Path(__file__).parents[1] / "verdicts" / "zoo.json"
STEPS = 3  # of the stage train; the loss curves on digits are left out
STAGES = ("weights", "forward", "backward", "train")
SIDES, SEEDS = (64, 224), (0, 1, 2, 3, 4)
RIGHT: tuple[str, ...] = ()
SLOPE = ("Hardsigmoid: Paddle's Hardsigmoid has the slope",)
# {network: words of each true difference}.
NETWORKS = {
    "resnet18": RIGHT, "resnet50": RIGHT, "resnext50_32x4d": RIGHT, "wide_resnet50_2": RIGHT, "mobilenet_v2": RIGHT,
    "shufflenet_v2_x1_0": RIGHT, "densenet121": RIGHT, "vgg11": RIGHT,
    "mobilenet_v3_small": SLOPE, "mobilenet_v3_large": SLOPE,
    "squeezenet1_0": ("MaxPool2D: ceil_mode", "Dropout: dropout_mode"),
    "inception_v3": ("BatchNorm2D: epsilon", "Dropout: dropout_mode"),
    "googlenet": ("every entry is accounted for", "every layer that is used has a match", "every layer has a match"),
}  # fmt: skip
# Arguments of the reference where the network of Paddle has no auxiliary heads.
ARGUMENTS = {"inception_v3": "(aux_logits=False, init_weights=False)"}
LEAST_SIDE = {"inception_v3": 96}  # pixels; smaller pictures vanish in its pools
# Without batch norms the training from random weights diverges at the default rate, and judges nothing.
RATES = {"vgg11": 2.0**-12}
MAX_LENGTH = 160  # characters of a problem without a place
NOT_REACHED = "differs, not reached by this input: "


def main(argv: list[str]) -> int:
    """Run the stages of every network, or write the tables; returns 0 if all differences are the true ones, else 6.

    Raises:
        CaseError: a network is not in the table.
        DiskError: the results or the documents cannot be written.
    """
    parser = argparse.ArgumentParser("python -m alignment zoo", description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"by default all of {', '.join(NETWORKS)}")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="heights and widths in pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of weights and pictures")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file to which the results are added")
    parser.add_argument("--write_table", action="store_true", help="write the results into docs/, and run nothing")
    parser.add_argument("--python", default=sys.executable, help="Python interpreter that has PyTorch")
    options = parser.parse_args(argv)
    if options.write_table:
        with disk_errors(options.json):
            write_tables(json.loads(options.json.read_text()))
        return 0
    if unknown := [name for name in options.networks if name not in NETWORKS]:
        raise CaseError(f"unknown network '{unknown[0]}'; known: {', '.join(NETWORKS)}")
    is_right = True
    for name in options.networks or NETWORKS:
        for side in (max(side, LEAST_SIDE.get(name, 0)) for side in options.sides):
            for seed in options.seeds:
                with Reference(options.python) as reference:  # a new process has the whole memory
                    result = _run(name, side, seed, reference)
                is_right &= result["is_expected"]
                _add(options.json, name, f"{side} pixels, seed {seed}", result)
                words = "; ".join(result["differences"])
                print_safely(f"{name}, {side} pixels, seed {seed}: {result['seconds']} s, {result['verdict']}: {words}")
    return 0 if is_right else 6


def _run(name: str, side: int, seed: int, reference: Reference) -> dict:
    models = f"paddle.vision.models:{name}", f"torchvision.models:{name}{ARGUMENTS.get(name, '')}"
    start = time.perf_counter()
    case = case_of_names(*models, shape=f"2,3,{side},{side}")
    size = case.train.shape[:2] + (max(case.train.shape[2], LEAST_SIDE.get(name, 0)),) * 2
    rate = RATES.get(name, case.train.lr)
    case = replace(case, seed=seed, train=replace(case.train, steps=STEPS, shape=size, lr=rate, curve_side=0))
    verdict = run_stages(case, STAGES, reference)
    return {
        "verdict": conclusion(verdict).partition(": ")[2].partition(":")[0],
        "is_expected": is_expected(name, verdict),
        "differences": [difference_text(check) for check in verdict.causes_and_others()[0]],
        "seconds": round(time.perf_counter() - start),
    }


def is_expected(name: str, verdict: Verdict) -> bool:
    """Whether the problems with a cause are the true differences of a network, each of them once."""
    words, texts = NETWORKS[name], [difference_text(check) for check in verdict.causes_and_others()[0]]
    if not words:
        return verdict.status == PASS
    return len(texts) == len(words) and all(any(word in text for text in texts) for word in words)


def difference_text(check: Check) -> str:
    """A problem in a few words: the kind of layer and its first hint, or what was compared and found."""
    kind = re.match(r"(\d+ )?\w+", check.detail.removeprefix(NOT_REACHED))
    if check.layer and check.hints and kind:
        return f"{kind[0]}: {check.hints[0].partition(';')[0]}"
    return f"{check.name}: {check.detail[:MAX_LENGTH]}"


def _add(path: Path, name: str, run: str, result: dict) -> None:
    """Add the result of a run to the file, in the place of an earlier result of the same run."""
    with disk_errors(path):
        results = json.loads(path.read_text()) if path.exists() else {}
        results.setdefault(name, {})[run] = result
        results = {known: dict(sorted(results[known].items())) for known in NETWORKS if known in results}
        write_atomically(path, json.dumps(results, indent=1) + "\n")
