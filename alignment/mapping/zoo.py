"""`python -m alignment zoo`: compare networks of paddle.vision with those of torchvision, from their names alone."""

import argparse
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
from .names import case_of_names

STEPS = 4  # of the stage train; the loss curves on digits are left out
STAGES = ("weights", "forward", "backward", "train")
NETWORKS = (
    "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "mobilenet_v2", "shufflenet_v2_x1_0", "densenet121",
    "vgg11", "mobilenet_v3_small", "mobilenet_v3_large", "squeezenet1_0", "inception_v3", "googlenet",
)  # fmt: skip
# Arguments of the reference where the network of Paddle has no auxiliary heads.
ARGUMENTS = {"inception_v3": "(aux_logits=False, init_weights=False)"}
LEAST_SIDE = {"inception_v3": 96}  # pixels; smaller pictures vanish in its pools


def main(argv: list[str]) -> int:
    """Run the stages of every network, print a table in Markdown; returns the exit code.

    Raises:
        CaseError: a network is not in the table.
        DiskError: the file of --output cannot be written.
    """
    parser = argparse.ArgumentParser("python -m alignment zoo", description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"by default all of {', '.join(NETWORKS)}")
    parser.add_argument("--side", type=int, default=64, help="height and width of the pictures in pixels")
    parser.add_argument("--output", type=Path, help="write the table to this file")
    parser.add_argument("--python", default=sys.executable, help="Python interpreter that has PyTorch")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.networks if name not in NETWORKS]:
        raise CaseError(f"unknown network '{unknown[0]}'; known: {', '.join(NETWORKS)}")
    lines = ["| Network | Verdict | Seconds |", "|---|---|---|"]
    with Reference(options.python) as reference:
        for name in options.networks or NETWORKS:
            side = max(options.side, LEAST_SIDE.get(name, 0))
            models = f"paddle.vision.models:{name}", f"torchvision.models:{name}{ARGUMENTS.get(name, '')}"
            start = time.perf_counter()
            case = case_of_names(*models, shape=f"2,3,{side},{side}")
            case = replace(case, train=replace(case.train, steps=STEPS, curve_side=0))
            verdict = run_stages(case, STAGES, reference)
            seconds = time.perf_counter() - start
            lines.append(f"| {name} | {conclusion(verdict).partition(': ')[2]} | {seconds:.0f} |")
            print_safely(lines[-1])
    if options.output:
        with disk_errors(options.output):
            write_atomically(options.output, "\n".join(lines) + "\n")
        print_safely(f"wrote {options.output}")
    return 0
