"""Write pairs of weights as the keys of a case: rename, transpose, split, concat, reshape, drop, keep, layers."""

from typing import TYPE_CHECKING

from ..rules import BATCH_NORM
from .entries import Link
from .patterns import rename
from .sequence import Mapping
from .units import PARAMETER, Entry

if TYPE_CHECKING:
    from ..case import Case


def keys_of(
    case: "Case", mapping: Mapping, given: list[Link], in_reference: dict[str, str], in_port: dict[str, str]
) -> dict:
    """The keys of the case that the pairs give; what the case says already comes first and stays.

    Args:
        case: whose keys are completed.
        mapping: pairs that were found.
        given: links that the keys of the case make already.
        in_reference: {second name: first name} of the tensors of the reference that have several.
        in_port: the same of the port.
    """
    from ..case import ShapePair

    links = [one for pair in mapping.pairs for one in pair.links]
    renames, splits, concats, reshapes, turned = {}, dict(case.split), dict(case.concat), dict(case.reshape), []
    for one in links:
        if len(one.port) > 1:
            splits[one.reference[0].name] = tuple(entry.name for entry in one.port)
            turned += [entry.name for entry in one.port] if one.is_transposed else []
            continue
        if len(one.reference) > 1:
            concats[one.port[0].name] = tuple(entry.name for entry in one.reference)
        elif rename(one.reference[0].name, BATCH_NORM) != one.port[0].name:
            # the endings of BATCH_NORM are exchanged after the rename
            renames[one.reference[0].name] = rename(one.port[0].name, [(port, own) for own, port in BATCH_NORM])
        if one.is_reshaped:
            reshapes[one.port[0].name] = ShapePair(*_shapes(one))
    exchanged, dropped = _second_names(renames, in_reference, in_port)
    names = {entry.name for one in links for entry in one.reference} | set(in_reference)
    plain = [one for one in [*links, *given] if len(one.port) == 1 and one.is_transposed]
    plain += [one for one in given if len(one.port) > 1 and one.is_transposed]
    if case.transpose is None:
        turned += [entry.name for one in plain for entry in one.port]
    else:
        turned = [*case.transpose, *(name for name in turned if name not in case.transpose)]
    # Of a layer that no forward uses, as an auxiliary head, the stage weights says that it has no match.
    buffers = [
        entry
        for unit in mapping.only_reference
        for entry in unit.entries
        if not entry.is_parameter or not unit.is_called
    ]
    buffers += _unlinked(mapping, is_port=False)
    kept = [entry for unit in mapping.only_port for entry in unit.entries if not entry.is_parameter]
    kept += _unlinked(mapping, is_port=True)
    return {
        "rename": case.rename | _by_layer(renames | exchanged, names),
        "transpose": tuple(dict.fromkeys(turned)),
        "split": splits,
        "concat": concats,
        "reshape": reshapes,
        "drop": case.drop | {entry.name: "" for entry in buffers} | dict.fromkeys(dropped, ""),
        "keep": (*case.keep, *(entry.name for entry in kept)),
        "layers": _layers(mapping) | case.layers,
    }


def _second_names(
    renames: dict[str, str], in_reference: dict[str, str], in_port: dict[str, str]
) -> tuple[dict[str, str], list[str]]:
    """({name: name} to rename as well, names to drop): second names in the reference that are first in the port.

    Two layers that share weights may be made in another order in the port: then the names are exchanged.
    """
    found = [(own, other) for own, other in renames.items() if in_reference.get(other) == own]
    names = {own: rename(own, BATCH_NORM) for own, _ in found}
    exchanged = {other: own for own, other in found if in_port.get(names[own]) == rename(other, BATCH_NORM)}
    return exchanged, [other for _, other in found if other not in exchanged]


def _by_layer(renames: dict[str, str], names: set[str]) -> dict[str, str]:
    """The renames with one pattern `layer.*` for all entries of a layer, where this changes no other name."""
    patterns: dict[str, str] = {}
    for own, other in renames.items():
        (layer, _, role), (other_layer, _, other_role) = own.rpartition("."), other.rpartition(".")
        patterns |= {f"{layer}.*": f"{other_layer}.*"} if layer and other_layer and role == other_role else {own: other}
    pairs = tuple(patterns.items())
    is_same = all(rename(name, pairs) == renames.get(name, name) for name in names)
    return patterns if is_same and len(set(patterns.values())) == len(patterns) else renames


def _shapes(one: Link) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape in the reference, and in the port before it is transposed."""
    reference, port = one.reference[0].shape, one.port[0].shape
    return reference, port[::-1] if one.is_transposed else port


def _unlinked(mapping: Mapping, *, is_port: bool) -> list[Entry]:
    """Buffers of paired units that have no match, as the statistics of a batch norm that the other side lacks."""
    found = []
    for pair in mapping.pairs:
        linked = {entry.name for one in pair.links for entry in (one.port if is_port else one.reference)}
        units = pair.port if is_port else pair.reference
        found += [entry for unit in units for entry in unit.entries if entry.name not in linked]
    return found


def _layers(mapping: Mapping) -> dict[str, str]:
    return {
        pair.reference[0].path: pair.port[0].path
        for pair in mapping.pairs
        if len(pair.reference) == len(pair.port) == 1
        and pair.reference[0].kind != PARAMETER
        and pair.reference[0].path != pair.port[0].path
    }
