"""Hints about an optimizer: its class and settings, and its formula fitted to the weights after three steps. numpy."""

import json
import math

import numpy as np

from .settings import PADDLE

# {class of either framework, in small letters: word for its formula}.
FAMILIES = {"sgd": "sgd", "momentum": "sgd", "adam": "adam", "adamw": "adam"}
# {word: (attributes of a Paddle optimizer, keys of the defaults of a torch optimizer)}, the first that is there.
SETTINGS = {
    "momentum": (("_momentum",), ("momentum",)), "nesterov": (("_use_nesterov",), ("nesterov",)),
    "dampening": ((), ("dampening",)), "beta1": (("_beta1",), ("betas",)), "beta2": (("_beta2",), ("betas",)),
    "epsilon": (("_epsilon", "_eps"), ("eps",)), "amsgrad": (("_amsgrad",), ("amsgrad",)),
    "share of old squares": (("_rho", "_alpha"), ("alpha", "rho")), "centered": (("_centered",), ("centered",)),
}  # fmt: skip
# What a class computes that does not have the setting, such as SGD of Paddle.
WITHOUT = {"momentum": 0.0, "nesterov": False, "dampening": 0.0, "amsgrad": False, "centered": False}
SGD_TERMS = ("learning rate, times", "weight decay", "momentum")
ADAM_TERMS = ("beta1", "weight decay that is added to the gradient", "beta2", "learning rate, times",
              "weight decay of the weights")  # fmt: skip
MAX_DIFFERENCE = 1e-4  # relative; a fitted number that differs by more is another one


def optimizer_record(optimizer: object, side: int) -> np.ndarray:
    """Class and settings of an optimizer as one text; `side` is PADDLE or TORCH of settings.py."""
    name = type(optimizer).__name__
    found: dict[str, object] = {"class": name}
    defaults = {} if side == PADDLE else getattr(optimizer, "defaults", {})
    for word, keys in SETTINGS.items():
        values = [getattr(optimizer, key, None) if side == PADDLE else defaults.get(key) for key in keys[side]]
        value = next((value for value in values if value is not None), WITHOUT.get(word))
        if isinstance(value, tuple | list):
            value = value[word == "beta2"]
        if value is not None:
            found[word] = value if isinstance(value, bool) else float(value)
    return np.array(json.dumps(found))


def update_hints(port_records: dict, reference_records: dict) -> list[str]:
    """Hints from the optimizers and from the weights after three steps of both sides.

    If both are SGD, `step = -(a * gradient + b * weight) + c * last step` is fitted to the records of each side; for
    Adam and AdamW the formulas of the moments and of the step. A hint names each number that differs. Other optimizers
    are compared by their settings alone.

    Args:
        port_records: `rates` [N], `optimizer`, and {kind/name: [N, width]} after each step.
        reference_records: the same of the reference.
    """
    own, other = _both_settings(port_records, reference_records)
    families = _family(own), _family(other)
    if families[0] != families[1]:
        return [f"the optimizer is {own['class']}, in the reference {other['class']}"]
    hints = differing_settings(port_records, reference_records)
    terms, fit = {"sgd": (SGD_TERMS, _fit_sgd), "adam": (ADAM_TERMS, _fit_adam)}.get(families[0], ((), None))
    fits = [fit(records) if fit else None for records in (port_records, reference_records)]
    if all(found is not None for found in fits):
        hints += [
            f"fitted {term}: {a:.6g} in the port, {b:.6g} in the reference"
            for term, a, b in zip(terms, *fits, strict=True)
            if abs(a - b) > MAX_DIFFERENCE * max(abs(b), 1e-3)
        ]
    return hints


def differing_settings(port_records: dict, reference_records: dict) -> list[str]:
    """Words for the settings of two optimizers of the same formula that differ; the arguments are as above."""
    own, other = _both_settings(port_records, reference_records)
    return [
        f"{word} of the optimizer is {own[word]}, in the reference {other[word]}"
        for word in SETTINGS
        if _family(own) == _family(other) and word in own and word in other and not _is_equal(own[word], other[word])
    ]


def _both_settings(port_records: dict, reference_records: dict) -> tuple[dict, dict]:
    return json.loads(str(port_records["optimizer"])), json.loads(str(reference_records["optimizer"]))


def _family(settings: dict) -> str:
    return FAMILIES.get(settings["class"].lower(), settings["class"].lower())


def _is_equal(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6)


def _fit_sgd(records: dict) -> np.ndarray | None:
    """[factor of the learning rate, weight decay, momentum], or None if the records do not tell."""
    rates, names = records["rates"], _names(records, "gradient")
    if not names or len(rates) < 3:
        return None
    weight, gradient = ([_concatenated(records, kind, names, step) for step in range(3)] for kind in
                        ("weight", "gradient"))  # fmt: skip
    move = weight[1] - weight[0], weight[2] - weight[1]
    found = _solved([-gradient[2], -weight[1], move[0]], move[1])
    if found is None or not rates[2] or not rates[1]:
        return None
    return found * (1 / rates[2], 1 / rates[2], rates[1] / rates[2])  # the last step was made at another rate


def _fit_adam(records: dict) -> np.ndarray | None:
    """The numbers of ADAM_TERMS, or None if the records do not tell.

    The first moment is linear in the gradient, so its formula holds for sketches. The second moment and the step are
    not: they are fitted to the tensors that the records hold whole.
    """
    rates, names = records["rates"], _names(records, "moment1")
    if not names or len(rates) < 3:
        return None
    moment, gradient, weight = (
        [_concatenated(records, kind, names, step) for step in range(3)] for kind in ("moment1", "gradient", "weight")
    )
    found = _solved([moment[1], gradient[2], weight[1]], moment[2])
    if found is None or not found[1]:
        return None
    beta1, share, coupled = found
    whole = [name for name in names if records[f"moment2/{name}"].shape[1] < _width(records)]
    if not whole:
        return None
    squares, first, weight, gradient = (
        [_concatenated(records, kind, whole, step) for step in range(3)]
        for kind in ("moment2", "moment1", "weight", "gradient")
    )
    decayed = gradient[2] + coupled / share * weight[1]
    found = _solved([squares[1], decayed**2], squares[2])
    if found is None:
        return None
    beta2 = found[0]
    corrected = first[2] / (1 - beta1**3), squares[2] / (1 - beta2**3)
    step = corrected[0] / (np.sqrt(np.abs(corrected[1])) + 1e-8)
    found = _solved([-rates[2] * step, -rates[2] * weight[1]], weight[2] - weight[1])
    return None if found is None else np.array([beta1, coupled / share, beta2, *found])


def _names(records: dict, kind: str) -> list[str]:
    """Names of the tensors that have records of this kind, of gradients and of weights."""
    names = [key.split("/", 1)[1] for key in records if key.startswith(f"{kind}/")]
    return [name for name in names if f"weight/{name}" in records and f"gradient/{name}" in records]


def _width(records: dict) -> int:
    return max(rows.shape[1] for key, rows in records.items() if key.startswith("weight/"))


def _solved(columns: list[np.ndarray], target: np.ndarray) -> np.ndarray | None:
    basis = np.stack(columns, 1)
    if not (np.isfinite(basis).all() and np.isfinite(target).all()):
        return None
    sizes = np.maximum(np.abs(basis).max(0), 1e-300)  # a decay is far smaller than the other terms
    return np.linalg.lstsq(basis / sizes, target, rcond=None)[0] / sizes


def _concatenated(records: dict, kind: str, names: list[str], step: int) -> np.ndarray:
    """The sketches of these tensors after a step as one vector; they are linear, so a fit to them fits the arrays."""
    return np.concatenate([records[f"{kind}/{name}"][step] for name in names])
