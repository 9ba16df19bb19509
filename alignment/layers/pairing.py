"""Pair the nodes of the port's trace with those of the reference's: by path, then by values and shapes in sequence."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ..mapping.units import two_sums
from ..rules import Rules
from ..trace import Trace
from .settings import kind_of_class

# Scores of a match when two sequences are aligned: equal values are strong evidence, an equal shape is a guess. So is
# an equal kind: after a pool that rounds sizes otherwise no shape is equal any more.
EQUAL_VALUES, SAME_KIND_AND_SHAPE, SAME_SHAPE, SAME_KIND = 8.0, 2.0, 0.5, 0.25
BATCH_NORM = "batchnorm"
WEIGHTS = "weights"
EQUAL_SUMS = 1e-7  # relative; values are equal that differ by no more than rounding


class Pair(NamedTuple):
    """Indices of two nodes that belong together; `by` is path, weights, values, or shape for a guess."""

    port: int
    reference: int
    by: str


class Pairing(NamedTuple):
    """All pairs in the order of the port, and the indices of the nodes that have no match."""

    pairs: list[Pair]
    only_port: list[int]
    only_reference: list[int]


def pair(port: Trace, reference: Trace, layers: Mapping[str, str]) -> Pairing:
    """Pair the nodes of two traces; `layers` renames paths of the reference, {path in the reference: in the port}."""
    rules = Rules(tuple(layers.items()))
    index_of_path = {node["path"]: index for index, node in enumerate(port.nodes)}
    pairs, rest = [], []
    for index, node in enumerate(reference.nodes):
        match = index_of_path.get(rules.port_name(node["path"]))
        if match is not None and (by := _how_paired(port.nodes[match], node)):
            pairs.append(Pair(match, index, by))
        else:
            rest.append(index)
    taken = {found.port for found in pairs}
    free = [index for index in range(len(port.nodes)) if index not in taken]
    pairs += _pair_in_sequence(port, free, reference, rest)
    pairs.sort()
    in_port, in_reference = {found.port for found in pairs}, {found.reference for found in pairs}
    return Pairing(
        pairs,
        [index for index in range(len(port.nodes)) if index not in in_port],
        [index for index in range(len(reference.nodes)) if index not in in_reference],
    )


def without_guesses(pairing: Pairing, is_wrong: Callable[[Pair], bool]) -> Pairing:
    """The pairing without the pairs that are guesses and wrong."""
    wrong = [found for found in pairing.pairs if found.by == "shape" and is_wrong(found)]
    if not wrong:
        return pairing
    return Pairing(
        [found for found in pairing.pairs if found not in wrong],
        sorted([*pairing.only_port, *(found.port for found in wrong)]),
        sorted([*pairing.only_reference, *(found.reference for found in wrong)]),
    )


def node_kind(node: dict) -> str:
    """Kind of the layer of a node, one word for both frameworks, and for batch norms of any number of axes."""
    kind = kind_of_class(node["class"])
    return BATCH_NORM if kind.startswith(BATCH_NORM) else kind


def _how_paired(port_node: dict, reference_node: dict) -> str:
    """How two nodes of one path are a pair: of the same kind, or an exchanged layer without parameters, by their path.

    Layers of two kinds with as many parameters are paired by their weights: a linear layer and a convolution with a
    kernel of 1, for example, or the norm inside a layer and the layer that is the norm. Others are no pair.
    """
    numbers = port_node["num_parameters"], reference_node["num_parameters"]
    if node_kind(port_node) == node_kind(reference_node) or numbers == (0, 0):
        return "path"
    return WEIGHTS if numbers[0] == numbers[1] else ""


def _pair_in_sequence(
    port: Trace, port_indices: list[int], reference: Trace, reference_indices: list[int]
) -> list[Pair]:
    """Pair the nodes that no path has paired, in the order of execution on both sides."""
    port_prints = [_fingerprint(port.nodes[index], port.arrays) for index in port_indices]
    reference_prints = [_fingerprint(reference.nodes[index], reference.arrays) for index in reference_indices]
    scores = np.array([[_score(a, b) for b in reference_prints] for a in port_prints])
    return [
        Pair(port_indices[a], reference_indices[b], "values" if scores[a, b] >= EQUAL_VALUES else "shape")
        for a, b in _best_sequence(scores)
    ]


class Fingerprint(NamedTuple):
    """Properties of the first output of a node that its match has too."""

    kind: str
    shape: tuple[int, ...]
    sums: tuple[float, float]
    has_parameters: bool


def _fingerprint(node: dict, arrays: Mapping[str, np.ndarray]) -> Fingerprint:
    if not node.get("outputs"):
        return Fingerprint(node_kind(node), (), (0.0, 0.0), False)
    output = arrays[node["outputs"][0]]
    return Fingerprint(node_kind(node), output.shape, two_sums(output), node["num_parameters"] > 0)


def _score(a: Fingerprint, b: Fingerprint) -> float:
    """Score of a match of two nodes; 0 if kind and shape differ, or if only one of the two has parameters."""
    if a.has_parameters != b.has_parameters:
        return 0.0
    if a.shape != b.shape:
        return SAME_KIND if a.kind == b.kind and a.shape and b.shape else 0.0
    scale = max(a.sums[0], b.sums[0], 1e-300)
    is_equal = all(abs(x - y) <= EQUAL_SUMS * scale for x, y in zip(a.sums, b.sums, strict=True))
    is_same_kind = a.kind == b.kind
    kind_score = (SAME_KIND_AND_SHAPE if is_same_kind else SAME_SHAPE) * (is_same_kind or is_equal)
    return EQUAL_VALUES * is_equal + kind_score


def _best_sequence(scores: np.ndarray) -> list[tuple[int, int]]:
    """The matches, in order on both sides, with the largest sum of scores (longest common subsequence, weighted)."""
    if scores.size == 0:
        return []
    num_rows, num_columns = scores.shape
    best = np.zeros((num_rows + 1, num_columns + 1))
    for i in range(num_rows - 1, -1, -1):
        for j in range(num_columns - 1, -1, -1):
            match = scores[i, j] + best[i + 1, j + 1] if scores[i, j] else 0.0
            best[i, j] = max(match, best[i + 1, j], best[i, j + 1])
    matches, i, j = [], 0, 0
    while i < num_rows and j < num_columns:
        if scores[i, j] and best[i, j] == scores[i, j] + best[i + 1, j + 1]:
            matches.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return matches
