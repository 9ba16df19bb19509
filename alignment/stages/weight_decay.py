"""Compare the weight decay of every parameter, however small: one step of a new optimizer with gradients of zero.

Without a gradient the first step is the decay alone. A decay of 1e-5 at a rate of 1e-3 changes a weight by 1e-8 of its
size, which no tolerance for trained weights sees, and float64 measures to eight digits.
"""

from collections.abc import Iterator

import numpy as np

from ..rules import Arrays, Rules
from ..verdict import FAIL, PASS, Check

PREFIX = "decay."  # of the records: {decay.NAME: [1, 3]}
TOLERANCE = 1e-4  # of the largest decay; Paddle keeps some settings as float32
MAX_NAMES = 4
MAX_WARMUP = 20  # steps of a schedule whose first rate is 0


def decay_record(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Record of a parameter: [scalar product of its decrease and itself, of itself and itself, number of axes]."""
    flat, change = np.ravel(before), np.ravel(before - after)
    return np.array([[change @ flat, flat @ flat, before.ndim]])


def decay_checks(actual: Arrays, expected: Arrays, rules: Rules) -> list[Check]:
    """One check of the share that each parameter loses in such a step; none if a side has no records.

    Args:
        actual: records of the port, by its names.
        expected: records of the reference, by its names.
        rules: names of the weights.
    """
    pairs = list(_pairs(_records(actual), _records(expected), rules))
    if not pairs:
        return []
    largest = max(max(abs(a), abs(b)) for _, _, a, b in pairs)
    errors = [abs(a - b) / (largest or 1.0) for _, _, a, b in pairs]
    wrong = [pair for pair, error in zip(pairs, errors, strict=True) if error > TOLERANCE]
    worst = max(errors)
    if not wrong:
        num = sum(b != 0 for _, _, _, b in pairs)
        return [Check("weight decay", PASS, worst, TOLERANCE, f"{num} of {len(pairs)} parameters decay")]
    shown = "; ".join(f"{name} loses {a:.3g} of its size, not {b:.3g}" for name, _, a, b in wrong[:MAX_NAMES])
    detail = f"{len(wrong)} of {len(pairs)} parameters differ: {shown}"
    return [Check("weight decay", FAIL, worst, TOLERANCE, detail, hints=_hints(wrong, pairs))]


def _records(arrays: Arrays) -> dict[str, np.ndarray]:
    return {name.removeprefix(PREFIX): rows[0] for name, rows in arrays.items() if name.startswith(PREFIX)}


def _pairs(
    port: dict[str, np.ndarray], reference: dict[str, np.ndarray], rules: Rules
) -> Iterator[tuple[str, bool, float, float]]:
    """(name, whether it is a vector, share of the port, of the reference), once for parts of one matrix."""
    groups: dict[tuple[str, ...], np.ndarray] = {}
    for name, record in reference.items():
        names = tuple(rules.port_names(name))
        groups[names] = groups.get(names, 0.0) + record
    for names, record in groups.items():
        found = [port[name] for name in names if name in port]
        if names and len(found) == len(names) and record[1] and (own := sum(found))[1]:
            yield names[0], found[0][2] <= 1, own[0] / own[1], record[0] / record[1]


def _hints(wrong: list[tuple], pairs: list[tuple]) -> list[str]:
    """What the parameters that differ have in common."""
    vectors = {name for name, is_vector, _, _ in pairs if is_vector}
    names = {name for name, _, _, _ in wrong}
    if names != vectors or names == {name for name, _, _, _ in pairs}:
        return []
    if all(a == 0 for _, _, a, _ in wrong):
        return ["norms and biases do not decay in the port: see apply_decay_param_fun and weight_attr"]
    if all(b == 0 for _, _, _, b in wrong):
        return ["norms and biases decay in the port alone: see apply_decay_param_fun, and the groups of the reference"]
    return ["norms and biases decay otherwise than in the reference"]
