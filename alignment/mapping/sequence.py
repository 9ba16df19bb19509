"""Pair the units of two models in order of execution, by kind and shape."""

from dataclasses import dataclass, field

from .entries import Link, exploded, group_units, link, link_units
from .units import KNOWN, PARAMETER, Unit, is_equal

SAME_NAME, SAME_ENDING, SAME_KIND, PAIRED = 1.0, 0.25, 1.0, 2.0
MAX_PARTS = 4  # of a linear layer that is several on the other side; attention has up to 3
GROUP_SCORE = 1.5  # for each part; pairs of single units are better where they fit


@dataclass
class UnitPair:
    """Units of the reference and of the port that belong together, with the links of their entries."""

    reference: list[Unit]
    port: list[Unit]
    links: list[Link]


@dataclass
class Mapping:
    """All pairs of units, and the units without a match.

    Attributes:
        pairs: in order of execution of the reference.
        only_reference: units that the port lacks.
        only_port: units that the reference lacks.
        paired_by: names, order, or order and values.
    """

    pairs: list[UnitPair] = field(default_factory=list)
    only_reference: list[Unit] = field(default_factory=list)
    only_port: list[Unit] = field(default_factory=list)
    paired_by: str = "order"

    @property
    def is_complete(self) -> bool:
        """Whether every parameter has a match."""
        rest = [*self.only_reference, *self.only_port]
        return not any(entry.is_parameter for unit in rest for entry in unit.entries)


def by_names(reference: list[Unit], port: list[Unit]) -> Mapping:
    """Pair units of equal paths. A layer of a known kind is no pair with a layer of another known kind."""
    of_path = {unit.path: unit for unit in port}
    mapping = Mapping(paired_by="names")
    for unit in reference:
        match = of_path.get(unit.path)
        links = link_units(unit, match) if match and _score_kind(unit, match) is not None else None
        if links:
            mapping.pairs.append(UnitPair([unit], [of_path.pop(unit.path)], links))
        else:
            mapping.only_reference.append(unit)
    mapping.only_port = list(of_path.values())
    return mapping


def by_order(reference: list[Unit], port: list[Unit]) -> Mapping:
    """Pair units in order of execution, and those that are not executed in order of registration."""
    num_attentions = [sum(unit.kind == "multiheadattention" for unit in side) for side in (reference, port)]
    if num_attentions[0] != num_attentions[1]:
        reference, port = ([part for unit in side for part in exploded(unit)] for side in (reference, port))
    mapping = Mapping(paired_by="order")
    for is_called in (True, False):
        _pair(
            mapping,
            [unit for unit in reference if unit.is_called == is_called],
            [unit for unit in port if unit.is_called == is_called],
        )
    if mapping.only_reference and mapping.only_port:  # executed on one side, only registered on the other
        rest, other = mapping.only_reference, mapping.only_port
        mapping.only_reference, mapping.only_port = [], []
        _pair(mapping, rest, other)
    return mapping


def with_single_entries(mapping: Mapping) -> Mapping:
    """The mapping; a layer of which one tensor is left is paired with the one parameter of this shape that is left.

    So is the bias of a head whose matrix is that of an embedding, which the port adds as a parameter of its own.
    """
    for unit in list(mapping.only_reference):
        fitting = [other for other in mapping.only_port if _are_single(unit, other)]
        rivals = [one for one in mapping.only_reference if fitting and _are_single(one, fitting[0])]
        if len(fitting) == len(rivals) == 1 and (links := _single_link(unit, fitting[0])):
            mapping.pairs.append(UnitPair([unit], fitting, links))
            mapping.only_reference.remove(unit)
            mapping.only_port.remove(fitting[0])
    return mapping


def _are_single(unit: Unit, other: Unit) -> bool:
    entries = *unit.entries, *other.entries
    is_one_each = len(unit.entries) == len(other.entries) == 1 and PARAMETER in (unit.kind, other.kind)
    return is_one_each and entries[0].shape == entries[1].shape and all(entry.is_parameter for entry in entries)


def _single_link(unit: Unit, other: Unit) -> list[Link]:
    found = link(unit.entries[0], other.entries[0])
    return [found] if found else []


def _pair(mapping: Mapping, reference: list[Unit], port: list[Unit]) -> None:
    """Add the best pairs, in order on both sides, and the units without a match."""
    candidates: dict[tuple[int, int], list[tuple[float, int, int, list[Link]]]] = {}
    for i, unit in enumerate(reference):
        for j, other in enumerate(port):
            found = _candidates(reference, port, i, j, unit, other)
            if found:
                candidates[i, j] = found
    used_reference, used_port = set(), set()
    for i, j, num_reference, num_port, links in _best(len(reference), len(port), candidates):
        first, second = reference[i : i + num_reference], port[j : j + num_port]
        mapping.pairs.append(UnitPair(first, second, links))
        used_reference |= set(range(i, i + num_reference))
        used_port |= set(range(j, j + num_port))
    mapping.only_reference += [unit for k, unit in enumerate(reference) if k not in used_reference]
    mapping.only_port += [unit for k, unit in enumerate(port) if k not in used_port]


def _candidates(reference: list[Unit], port: list[Unit], i: int, j: int, unit: Unit, other: Unit) -> list[tuple]:
    """The ways to pair what begins at two units: (score, number of the reference's units, of the port's, links)."""
    found = []
    score = _score_kind(unit, other)
    if score is not None and (links := link_units(unit, other)):
        found.append((PAIRED + score + _score_names(unit, other), 1, 1, links))
    if unit.kind == other.kind:
        for count in range(2, MAX_PARTS):
            if links := _group(unit, port[j : j + count], count, is_split=True):
                found.append((GROUP_SCORE * (1 + count), 1, count, links))
            if links := _group(other, reference[i : i + count], count, is_split=False):
                found.append((GROUP_SCORE * (1 + count), count, 1, links))
    return found


def _group(whole: Unit, parts: list[Unit], count: int, *, is_split: bool) -> list[Link] | None:
    return group_units(whole, parts, is_split=is_split) if len(parts) == count else None


def _score_kind(unit: Unit, other: Unit) -> float | None:
    """Score for equal kinds; None for two known kinds that differ, or a layer and a single parameter."""
    if unit.kind == other.kind:
        return SAME_KIND
    kinds = {unit.kind, other.kind}
    if kinds <= {"linear", "conv1d", "conv2d", "conv3d"} and len(kinds) == 2 and "linear" in kinds:
        return 0.0
    return None if kinds <= KNOWN or (PARAMETER in kinds and kinds & KNOWN) else 0.0


def _score_names(unit: Unit, other: Unit) -> float:
    if unit.path == other.path:
        return SAME_NAME
    return SAME_ENDING if unit.path.rpartition(".")[2] == other.path.rpartition(".")[2] else 0.0


def _best(num_rows: int, num_columns: int, candidates: dict) -> list[tuple[int, int, int, int, list[Link]]]:
    """The pairs, in order on both sides, with the largest sum of scores."""
    best = [[0.0] * (num_columns + 1) for _ in range(num_rows + 1)]
    choice: dict[tuple[int, int], tuple] = {}
    for i in range(num_rows - 1, -1, -1):
        row, below = best[i], best[i + 1]
        for j in range(num_columns - 1, -1, -1):
            value = max(below[j], row[j + 1])
            for score, rows, columns, links in candidates.get((i, j), ()):
                total = score + best[i + rows][j + columns]
                if total > value:
                    value, choice[i, j] = total, (rows, columns, links)
            row[j] = value
    found, i, j = [], 0, 0
    while i < num_rows and j < num_columns:
        if (i, j) in choice:
            rows, columns, links = choice[i, j]
            found.append((i, j, rows, columns, links))
            i, j = i + rows, j + columns
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found


def pair_by_values(mapping: Mapping, reference: list[Unit], port: list[Unit]) -> tuple[int, Mapping | None]:
    """Number of pairs with equal inputs and outputs, and a mapping that may have more of them, or None.

    Both sides ran with equal weights under `mapping`. Where a pair has other inputs, each unit of it is paired with one
    that has the same inputs; among several of these the order decides.

    Args:
        mapping: the pairs so far.
        reference: units of the reference with fingerprints of their values.
        port: the same of the port.
    """
    values = {unit.path: unit for unit in reference}, {unit.path: unit for unit in port}
    equal, open_reference, open_port = [], [], []
    for pair in mapping.pairs:
        sides = [[by_path.get(unit.path) for unit in units] for by_path, units in
                 zip(values, (pair.reference, pair.port), strict=True)]  # fmt: skip
        is_known = all(unit is not None and unit.inputs for side in sides for unit in side)
        if not is_known or (is_equal(sides[0][0].inputs, sides[1][0].inputs) and _has_equal_outputs(pair, sides)):
            equal.append(pair)
        else:
            open_reference += sides[0]
            open_port += sides[1]
    better = _exchanged(open_reference, open_port)
    if not better:
        return len(equal), None
    used = {unit.path for pair in better for unit in pair.reference}, {u.path for pair in better for u in pair.port}
    rest = Mapping(paired_by="order")
    _pair(
        rest,
        [unit for unit in open_reference if unit.path not in used[0]],
        [unit for unit in open_port if unit.path not in used[1]],
    )
    if rest.only_reference or rest.only_port:
        return len(equal), None
    return len(equal), Mapping([*equal, *better, *rest.pairs], mapping.only_reference, mapping.only_port)


def _has_equal_outputs(pair: UnitPair, sides: list[list[Unit]]) -> bool:
    return len(pair.reference) != len(pair.port) or is_equal(sides[0][0].outputs[:1], sides[1][0].outputs[:1])


def _exchanged(reference: list[Unit], port: list[Unit]) -> list[UnitPair]:
    """Pairs of units with equal inputs; empty if these are the pairs that were tried already."""
    tried = {(a.path, b.path) for a, b in zip(reference, port, strict=False)}
    free, pairs, has_changed = list(port), [], False
    for unit in reference:
        fitting = [other for other in free if is_equal(unit.inputs, other.inputs) and link_units(unit, other)]
        if not fitting:
            continue
        untried = [other for other in fitting if (unit.path, other.path) not in tried]
        if untried and len(untried) < len(fitting):
            fitting = untried  # the pair that was tried has equal inputs and other outputs
        pairs.append(UnitPair([unit], [fitting[0]], link_units(unit, fitting[0])))
        has_changed = has_changed or (unit.path, fitting[0].path) not in tried
        free.remove(fitting[0])
    return pairs if has_changed else []
