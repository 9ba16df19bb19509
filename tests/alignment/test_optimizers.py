"""The optimizer of a port: its formula is fitted by its class, and the decay of each parameter is measured."""

import json

import numpy as np
import pytest

from alignment.case import Case, Training
from alignment.layers.optimizer_hints import update_hints
from alignment.pipeline.parts import Part
from alignment.rules import Rules
from alignment.runner import run_stages
from alignment.stages.weight_decay import decay_checks, decay_record

RATES = np.full(3, 0.1)


def sgd(momentum=0.9, decay=1e-3, name="Momentum", size=8) -> dict:
    """Records of three steps of SGD on random gradients."""
    rng = np.random.default_rng(0)
    weight, velocity, rows = rng.normal(size=size), np.zeros(size), {"gradient/w": [], "weight/w": []}
    for rate in RATES:
        gradient = rng.normal(size=size)
        velocity = momentum * velocity + gradient + decay * weight
        weight = weight - rate * velocity
        rows["gradient/w"].append(gradient)
        rows["weight/w"].append(weight)
    settings = {"class": name, "momentum": momentum, "nesterov": False}
    return {"rates": RATES, "optimizer": np.array(json.dumps(settings))} | stacked(rows)


def adam(beta1=0.9, beta2=0.999, coupled=0.0, decoupled=0.01, name="AdamW") -> dict:
    """Records of three steps of Adam or AdamW, of a tensor of four numbers and of one that is a sketch of eight."""
    rng = np.random.default_rng(1)
    rows: dict[str, list] = {}
    for key, size in (("a", 4), ("b", 8)):
        weight, first, second = rng.normal(size=size), np.zeros(size), np.zeros(size)
        for step, rate in enumerate(RATES, 1):
            gradient = rng.normal(size=size)
            whole = gradient + coupled * weight
            first, second = beta1 * first + (1 - beta1) * whole, beta2 * second + (1 - beta2) * whole**2
            move = first / (1 - beta1**step) / (np.sqrt(second / (1 - beta2**step)) + 1e-8)
            weight = weight * (1 - rate * decoupled) - rate * move
            values = {"gradient": gradient, "moment1": first, "moment2": second, "weight": weight}
            for kind, value in values.items():
                rows.setdefault(f"{kind}/{key}", []).append(value)
    settings = {"class": name, "beta1": beta1, "beta2": beta2}
    return {"rates": RATES, "optimizer": np.array(json.dumps(settings))} | stacked(rows)


def stacked(rows: dict) -> dict:
    return {key: np.stack(values) for key, values in rows.items()}


@pytest.mark.parametrize(
    ("port", "reference", "words"),
    [
        (sgd(), sgd(name="SGD"), []),
        (sgd(momentum=0.8), sgd(), ["momentum of the optimizer is 0.8, in the reference 0.9", "fitted momentum: 0.8"]),
        (sgd(decay=0.0), sgd(), ["fitted weight decay"]),
        (adam(), adam(), []),
        (adam(beta1=0.8), adam(), ["beta1 of the optimizer is 0.8", "fitted beta1: 0.8"]),
        (adam(decoupled=0.0), adam(), ["fitted weight decay of the weights: "]),
        (
            adam(coupled=0.01, decoupled=0.0, name="Adam"),
            adam(),
            ["fitted weight decay that is added to the gradient: 0.01 in", "fitted weight decay of the weights: "],
        ),
        (sgd(), adam(), ["the optimizer is Momentum, in the reference AdamW"]),
    ],
)
def test_the_formula_of_each_class_is_fitted(port, reference, words):
    hints = update_hints(port, reference)
    assert len(hints) == len(words) and all(word in hint for word, hint in zip(words, hints, strict=True)), hints


def test_no_formula_of_sgd_is_fitted_to_another_optimizer():
    assert update_hints(sgd(decay=0.0, name="Lamb"), sgd(name="LAMB")) == []


def test_no_update_is_fitted_to_values_that_are_not_finite():
    records = sgd() | {f"{kind}/w": np.full((3, 4), np.nan) for kind in ("gradient", "weight")}
    assert update_hints(records, records) == []


def decays(**shares: float) -> dict:
    """Records of parameters that lose this share of their size: names with `bias` are vectors."""
    arrays = {name: np.ones(3 if "bias" in name else (3, 2)) for name in shares}
    return {f"decay.{name}": decay_record(array, array * (1 - shares[name])) for name, array in arrays.items()}


def test_a_decay_of_a_billionth_is_compared():
    reference = decays(weight=1e-9, bias=1e-9)
    (check,) = decay_checks(decays(weight=1e-9, bias=1e-9), reference, Rules())
    assert (check.status, check.detail) == ("pass", "2 of 2 parameters decay")
    (check,) = decay_checks(decays(weight=1e-9, bias=0.0), reference, Rules())
    assert check.status == "fail" and "bias loses 0 of its size, not 1e-09" in check.detail
    assert "norms and biases do not decay in the port" in check.hints[0]
    (check,) = decay_checks(decays(q=1e-9, k=1e-9), decays(qk=1e-9), Rules(split={"qk": ("q", "k")}))
    assert check.status == "pass"
    assert decay_checks({}, {}, Rules()) == []


PORT = """
import paddle
from paddle import nn

def Net():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

def make(model):
    exempt = EXEMPT
    return paddle.optimizer.AdamW(1e-4, parameters=model.parameters(), weight_decay=1e-5,
                                  apply_decay_param_fun=lambda name: not (exempt and ".b_" in name))
"""
REFERENCE = """
import torch
from torch import nn

def Net():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

def make(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-5)
"""


@pytest.mark.torch
@pytest.mark.parametrize(("exempt", "status"), [(False, "pass"), (True, "fail")])
def test_a_small_decay_of_biases_is_seen(exempt, status, tmp_path, reference):
    """The decay changes a bias by 1e-9 per step, and the tolerance for trained weights is 1e-6."""
    (tmp_path / "port.py").write_text(PORT.replace("EXEMPT", str(exempt)))
    (tmp_path / "ref.py").write_text(REFERENCE)
    case = Case("net", tmp_path, "port.py:Net", "ref.py:Net", shape=(4, 6), optimizer=Part("make", "make"),
                train=Training(shape=(4, 6), steps=3, curve_side=0))  # fmt: skip
    verdict = run_stages(case, ("train",), reference)
    assert verdict.status == status, verdict.first_problem()
    failed = [check.name for check in verdict.stages[0].checks if check.status == "fail"]
    assert failed == ["weight decay"] * exempt
