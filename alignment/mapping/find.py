"""Find how the weights of a reference become those of its port, where the case does not say it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from common.cli import did_you_mean
from common.errors import CaseError

from ..rules import Rules, unaccounted
from .entries import Link, link
from .keys import keys_of
from .patterns import match
from .sequence import Mapping, by_names, by_order, pair_by_values, with_single_entries
from .units import Entry, Unit

if TYPE_CHECKING:
    from ..case import Case

MAX_ROUNDS = 40  # of pairing by values; each one gets further into the model


@dataclass
class Side:
    """One model with weights: its units in order of execution, and fingerprints of its outputs.

    Attributes:
        units: in order of execution.
        outputs: fingerprints of what the model returned; empty if it failed.
        shared: {name in the state: first name of the same tensor}.
        error: message of the exception that stopped it.
    """

    units: list[Unit]
    outputs: list[list]
    shared: dict[str, str]
    error: str = ""

    def entries(self) -> list[Entry]:
        """All entries of the state, without second names."""
        return [entry for unit in self.units for entry in unit.entries]


# One forward with these weights, or with those of a new model. A port is given what the rules make of the reference's
# weights; its other entries keep their values.
Run = Callable[[dict[str, np.ndarray] | None], Side]


def find_mapping(case: "Case", run_reference: Run, run_port: Run, draw: Callable[[], dict]) -> "tuple[Case, Mapping]":
    """The case with rules for all weights and with pairs of layers, and how they were found.

    Units are paired by their names if the names of one side are all in the other, else by order of execution, kind and
    shape. Pairs found by order are checked: with equal weights both sides must have equal values, and where they have
    not, units with equal inputs are paired.

    Args:
        case: what it says of the weights is kept.
        run_reference: runs the reference.
        run_port: runs the port.
        draw: random weights of the reference, {name: array}.

    Raises:
        CaseError: the rules of the case contradict each other.
    """
    reference, port = run_reference(None), run_port(None)
    given, reference_units, port_units = _given_pairs(case, reference, port)
    mapping = _paired(reference_units, port_units)
    found = _with_keys(case, mapping, given, reference.shared, port.shared)
    if mapping.paired_by != "order" or port.error or not mapping.is_complete:
        return found, mapping
    weights = draw()
    best = found, mapping, 0
    for _ in range(MAX_ROUNDS):
        values = run_reference(weights), run_port(found.rules("torch").to_port(weights))
        num_equal, better = pair_by_values(mapping, values[0].units, values[1].units)
        if num_equal > best[2] or best[2] == 0:
            best = found, mapping, num_equal
        if better is None or values[1].error:
            break
        mapping = better
        found = _with_keys(case, mapping, given, reference.shared, port.shared)
    found, mapping, num_equal = best
    mapping.paired_by = "order, checked by values" if num_equal == len(mapping.pairs) else "order"
    return found, mapping


def _paired(reference: list[Unit], port: list[Unit]) -> Mapping:
    named = with_single_entries(by_names(reference, port))
    if named.is_complete or not named.only_reference or not named.only_port:
        return named
    ordered = with_single_entries(by_order(reference, port))
    return ordered if _num_rest(ordered) < _num_rest(named) else named


def _with_keys(
    case: "Case", mapping: Mapping, given: list[Link], in_reference: dict[str, str], in_port: dict[str, str]
) -> "Case":
    """The case with the keys of the pairs, as `keys_of` gives them, whose arguments these are.

    A matrix that is transposed is so under each of its names, for the gradients of layers.
    """
    found = replace(case, **keys_of(case, mapping, given, in_reference, in_port))
    if case.transpose is None and found.transpose:
        others = [name for name, first in in_port.items() if first in found.transpose and name not in found.transpose]
        found = replace(found, transpose=(*found.transpose, *others))
    return found


def _num_rest(mapping: Mapping) -> int:
    return len(mapping.only_reference) + len(mapping.only_port)


def _given_pairs(case: "Case", reference: Side, port: Side) -> tuple[list[Link], list[Unit], list[Unit]]:
    """The links that the rules of the case make, and the units without the entries in them."""
    patterns = [*case.rename, *case.split, *(part for parts in case.concat.values() for part in parts)]
    if not patterns and not case.drop and not case.keep:
        return [], reference.units, port.units
    in_reference = [*(entry.name for entry in reference.entries()), *reference.shared]
    for pattern in patterns:
        if all(match(pattern, name) is None for name in in_reference):
            nearest = did_you_mean(pattern, in_reference)
            raise CaseError(f"the case {case.name} names {pattern}, which the reference does not have{nearest}")
    rules = case.rules("torch")
    of_port = {entry.name: entry for entry in port.entries()}
    of_port |= {name: of_port[first] for name, first in port.shared.items() if first in of_port}
    links, used_reference, used_port = [], set(), set()
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in reference.entries():
        if any(match(pattern, entry.name) is not None for pattern in patterns):
            groups.setdefault(tuple(rules.port_names(entry.name)), []).append(entry)
        elif not rules.port_names(entry.name):
            used_reference.add(entry.name)
    for names, entries in groups.items():
        if missing := [name for name in names if name not in of_port]:
            nearest = did_you_mean(missing[0], of_port)
            raise CaseError(f"the case {case.name} names {missing[0]}, which the port does not have{nearest}")
        targets = [of_port[name] for name in names]
        single = link(entries[0], targets[0]) if len(entries) == len(targets) == 1 else None
        is_turned = bool(entries[0].axes and targets[0].axes and entries[0].axes != targets[0].axes)
        links.append(single or Link(entries, targets, is_turned))
        used_reference |= {entry.name for entry in entries}
        used_port |= {entry.name for entry in targets}
    used_port |= {n for n in of_port if any(match(pattern, n) is not None for pattern in case.keep)}
    return links, _without(reference.units, used_reference), _without(port.units, used_port)


def _without(units: list[Unit], names: set[str]) -> list[Unit]:
    """The units that still have entries after those in `names` are taken away."""
    rest = [replace(unit, entries=[entry for entry in unit.entries if entry.name not in names]) for unit in units]
    return [unit for unit in rest if unit.entries]


def fits(rules: Rules, reference: dict[str, tuple[int, ...]], port: dict[str, tuple[int, ...]]) -> bool:
    """Whether rules account for every entry of both sides: {name: shape} of the two states."""
    try:
        return not unaccounted(rules.to_port({n: np.zeros(s, np.float16) for n, s in reference.items()}), port)
    except Exception:
        return False
