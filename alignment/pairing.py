"""Which node of the port's trace is which node of the reference's: by path, then by values and shapes in sequence."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .rules import Rules

SAME_KIND = {"swish": "silu"}
# What a match is worth when two sequences are aligned: equal values are strong evidence, an equal shape is a guess.
EQUAL_VALUES, SAME_CLASS_AND_SHAPE, SAME_SHAPE = 8.0, 2.0, 0.5


class Pair(NamedTuple):
    """Indices of the nodes, and how they were found to belong together: path, values or shape."""

    port: int
    reference: int
    by: str


class Pairing(NamedTuple):
    pairs: list[Pair]
    only_port: list[int]
    only_reference: list[int]


def pair(
    port_nodes: list[dict], port_arrays: Mapping[str, np.ndarray], reference_nodes: list[dict],
    reference_arrays: Mapping[str, np.ndarray], layers: Mapping[str, str],
) -> Pairing:  # fmt: skip
    """`layers` renames paths of the reference, as weights are renamed in a case."""
    rules = Rules(tuple(layers.items()))
    by_path = {node["path"]: index for index, node in enumerate(port_nodes)}
    pairs, rest = [], []
    for index, node in enumerate(reference_nodes):
        match = by_path.get(rules.name_for_port(node["path"]))
        if match is not None and _may_match(port_nodes[match], node):
            pairs.append(Pair(match, index, "path"))
        else:
            rest.append(index)
    taken = {found.port for found in pairs}
    free = [index for index in range(len(port_nodes)) if index not in taken]
    port_prints = [fingerprint(port_nodes[index], port_arrays) for index in free]
    reference_prints = [fingerprint(reference_nodes[index], reference_arrays) for index in rest]
    scores = np.array([[_likeness(a, b) for b in reference_prints] for a in port_prints])
    pairs += [
        Pair(free[a], rest[b], "values" if scores[a, b] >= EQUAL_VALUES else "shape") for a, b in _best_sequence(scores)
    ]
    pairs.sort()
    in_port, in_reference = {found.port for found in pairs}, {found.reference for found in pairs}
    return Pairing(
        pairs,
        [index for index in range(len(port_nodes)) if index not in in_port],
        [index for index in range(len(reference_nodes)) if index not in in_reference],
    )


def _may_match(ours: dict, theirs: dict) -> bool:
    """Of one path: the same kind, or an exchanged layer without parameters (GELU where ReLU should be)."""
    return kind(ours) == kind(theirs) or ours["num_parameters"] == theirs["num_parameters"] == 0


def kind(node: dict) -> str:
    """Conv2d and Conv2D are one kind."""
    name = node["class"].lower()
    return SAME_KIND.get(name, name)


class Print(NamedTuple):
    """What two layers with the same job have in common."""

    kind: str
    shape: tuple[int, ...]
    sums: tuple[float, float]
    has_parameters: bool


def fingerprint(node: dict, arrays: Mapping[str, np.ndarray]) -> Print:
    if not node.get("outputs"):
        return Print(kind(node), (), (0.0, 0.0), False)
    output = arrays[node["outputs"][0]]
    weights = np.cos(np.arange(output.size, dtype=np.float64)).reshape(output.shape)  # so that order counts
    sums = (float(np.abs(output).sum()), float((output * weights).sum()))
    return Print(kind(node), output.shape, sums, node["num_parameters"] > 0)


def _likeness(a: Print, b: Print) -> float:
    """0 where two layers cannot belong together: another shape, or weights on one side alone."""
    if a.shape != b.shape or a.has_parameters != b.has_parameters:
        return 0.0
    scale = max(a.sums[0], b.sums[0], 1e-300)
    equal = all(abs(x - y) <= 1e-7 * scale for x, y in zip(a.sums, b.sums, strict=True))
    same_kind = a.kind == b.kind
    return EQUAL_VALUES * equal + (SAME_CLASS_AND_SHAPE if same_kind else SAME_SHAPE) * (same_kind or equal)


def _best_sequence(scores: np.ndarray) -> list[tuple[int, int]]:
    """The matches in order on both sides with the largest sum (longest common subsequence, weighted)."""
    if scores.size == 0:
        return []
    rows, columns = scores.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            match = scores[i, j] + best[i + 1, j + 1] if scores[i, j] else 0.0
            best[i, j] = max(match, best[i + 1, j], best[i, j + 1])
    found, i, j = [], 0, 0
    while i < rows and j < columns:
        if scores[i, j] and best[i, j] == scores[i, j] + best[i + 1, j + 1]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return found
