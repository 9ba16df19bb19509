"""Nets as a user brings them are aligned from two names, in fewer than ten lines of case, and a mistake is found."""

from pathlib import Path

import pytest
import yaml

from alignment.case import checked_case
from alignment.runner import run_stages

FOLDER = Path(__file__).parent
STAGES = ("weights", "initialisation", "forward", "backward", "train")
TRAIN = "train: {shape: [4, 3, 16, 16], steps: 3, curve_side: 0}"
# {net: (lines of the case beside the two names, words that the problem of the wrong port has)}
CASES = {
    "ViT": (f"shape: [4, 3, 16, 16]\n{TRAIN}", "num_heads is 4, in the reference 2"),
    "Words": ("shape: [4, 7]\ntrain: {shape: [4, 7], steps: 3, curve_side: 0}", "in the code that calls out"),
    "Positions": ("shape: [4, 7]\ntrain: {shape: [4, 7], steps: 3, curve_side: 0}", "in the code that calls places"),
    "Joined": (
        "shape: [4, 5, 8]\ntrain: {shape: [4, 5, 8], steps: 3, curve_side: 0}",
        "in the code that calls out",
    ),
    "PictureAndWords": (
        "inputs:\n  image: [4, 3, 8, 8]\n  words: {shape: [4, 6], type: int64, range: [0, 19]}\n"
        "train: {steps: 3, curve_side: 0}",
        "in the code that calls out",
    ),
    "Segmentation": (f"shape: [4, 3, 16, 16]\n{TRAIN}", "Upsample"),
    "Pyramid": (f"shape: [4, 3, 16, 16]\n{TRAIN}", "in the code that calls scores"),
}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:When training, we now always track")
@pytest.mark.parametrize("net", CASES)
def test_a_right_port_matches_and_a_wrong_one_is_placed(net, reference):
    lines, words = CASES[net]
    text = f"port: user_nets.py:{net}\nreference: torch_nets/user_torch_nets.py:{net}\n{lines}"
    assert len(text.splitlines()) < 10
    content = yaml.safe_load(text)
    right = checked_case(content, net, name=net, folder=FOLDER, is_trusted=False)
    verdict = run_stages(right, STAGES, reference)
    assert verdict.status == "pass", verdict.first_problem()
    wrong = checked_case(
        content | {"port_arguments": {"is_wrong": True}}, net, name=net, folder=FOLDER, is_trusted=False
    )
    verdict = run_stages(wrong, ("forward",), reference)
    assert verdict.status == "fail"
    problem = verdict.first_problem()
    assert words in f"{problem.detail} {' '.join(problem.hints)}", problem
