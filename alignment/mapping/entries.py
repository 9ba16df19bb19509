"""Pair the weights inside two units that belong together: by role, kind and shape."""

from dataclasses import dataclass

from .units import Entry, Unit

# {role in torch: role in Paddle}, where the two frameworks have other names for the same.
ROLES = {
    "running_mean": "_mean", "running_var": "_variance",
    "parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v",
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u", "parametrizations.weight.0._v": "weight_v",
    "q_proj_weight": "q_proj.weight", "k_proj_weight": "k_proj.weight", "v_proj_weight": "v_proj.weight",
}  # fmt: skip
ROLES_OF_KIND = {"prelu": {"weight": "_weight"}, "instancenorm": {"weight": "scale"}}
IN_PROJECTION = {
    "in_proj_weight": ("q_proj.weight", "k_proj.weight", "v_proj.weight"),
    "in_proj_bias": ("q_proj.bias", "k_proj.bias", "v_proj.bias"),
}
POINTWISE = ("conv1d", "conv2d", "conv3d")  # with a kernel of 1 they are linear layers


@dataclass
class Link:
    """Entries of the reference and of the port that hold the same numbers.

    One reference and several port entries is a split, the reverse is a join, along axis 0 of the reference's layout.

    Attributes:
        reference: entries of the reference.
        port: entries of the port.
        is_transposed: whether the axes of each port entry are exchanged.
        is_reshaped: whether the shapes differ otherwise.
        is_certain: False if only the shape says that the axes are exchanged.
    """

    reference: list[Entry]
    port: list[Entry]
    is_transposed: bool = False
    is_reshaped: bool = False
    is_certain: bool = True


def link(reference: Entry, port: Entry) -> Link | None:
    """The link of two entries, or None if their shapes do not fit."""
    if reference.is_float != port.is_float:
        return None
    shapes = reference.shape, port.shape
    if reference.axes and port.axes and reference.axes != port.axes:
        return Link([reference], [port], is_transposed=True) if shapes[0] == shapes[1][::-1] else None
    if shapes[0] == shapes[1]:
        return Link([reference], [port])
    is_matrix = len(shapes[0]) == len(shapes[1]) == 2
    if is_matrix and shapes[0] == shapes[1][::-1] and (reference.axes or port.axes):
        return Link([reference], [port], is_transposed=True, is_certain=False)
    squeezed = [tuple(length for length in shape if length != 1) for shape in shapes]
    if squeezed[0] == squeezed[1]:
        return Link([reference], [port], is_reshaped=True)
    # a linear layer of one framework is a convolution with a kernel of 1 in the other
    if port.axes == "in_out" and squeezed[0] == squeezed[1][::-1] and len(squeezed[0]) == 2:
        return Link([reference], [port], is_transposed=True, is_reshaped=True)
    return None


def link_units(reference: Unit, port: Unit) -> list[Link] | None:
    """The links of all entries of two units, or None if the units cannot be the same.

    Buffers of the port without a match keep their values, and those of the reference are dropped; every parameter must
    have a match.
    """
    names = ROLES | ROLES_OF_KIND.get(reference.kind, {})
    free = {entry.role: entry for entry in port.entries}
    links, rest = [], []
    for entry in reference.entries:
        parts = [free.get(role) for role in IN_PROJECTION.get(entry.role, ())]
        if parts and all(parts):
            if found := split_link(entry, parts):
                links.append(found)
                for part in parts:
                    del free[part.role]
                continue
            return None
        match = next((free[role] for role in (names.get(entry.role, entry.role), entry.role) if role in free), None)
        found = match and link(entry, match)
        if match and not found:
            return None
        if found:
            links.append(found)
            del free[match.role]
        else:
            rest.append(entry)
    for entry in rest:
        match = next((other for other in free.values() if _may_be(entry, other) and link(entry, other)), None)
        if match:
            links.append(link(entry, match))
            del free[match.role]
        elif entry.is_parameter:
            return None
    return None if any(entry.is_parameter for entry in free.values()) or not links else links


def _may_be(reference: Entry, port: Entry) -> bool:
    """Whether two entries of different names may be one: a bias is no weight, and a buffer no parameter."""
    is_bias = "bias" in reference.role, "bias" in port.role
    return is_bias[0] == is_bias[1] and reference.is_parameter == port.is_parameter


def split_link(reference: Entry, parts: list[Entry]) -> Link | None:
    """The link of one entry of the reference that is several entries of the port, or None if the shapes do not fit."""
    return _grouped(reference, parts, is_split=True)


def _grouped(whole: Entry, parts: list[Entry], *, is_split: bool) -> Link | None:
    if not whole.shape or whole.shape == (1,) or len({part.shape for part in parts}) > 1:
        return None
    is_transposed = bool(whole.axes and parts[0].axes and whole.axes != parts[0].axes)
    in_reference = [whole.shape, parts[0].shape]
    if is_transposed:
        turned = 1 if is_split else 0
        in_reference[turned] = in_reference[turned][::-1]
    elif len(whole.shape) == 2 and whole.axes == parts[0].axes == "in_out":
        return None  # the parts are columns, and rules divide rows
    (length, *others), (part_length, *part_others) = in_reference
    if others != part_others or length != part_length * len(parts):
        return None
    return Link([whole], parts, is_transposed) if is_split else Link(parts, [whole], is_transposed)


def group_units(whole: Unit, parts: list[Unit], *, is_split: bool) -> list[Link] | None:
    """The links of a unit of linear layers that is several units on the other side, or None.

    Args:
        whole: of the reference if `is_split`, else of the port.
        parts: units of the other side, in order.
        is_split: whether the reference has the whole.
    """
    roles = [entry.role for entry in parts[0].entries]
    if whole.kind not in ("linear", *POINTWISE) or any([e.role for e in part.entries] != roles for part in parts):
        return None
    if len(whole.entries) != len(roles) or any(part.kind != whole.kind for part in parts):
        return None
    links = []
    for index, entry in enumerate(whole.entries):
        found = _grouped(entry, [part.entries[index] for part in parts], is_split=is_split)
        if found is None:
            return None
        links.append(found)
    return links


def exploded(unit: Unit) -> list[Unit]:
    """An attention layer as the linear layers that it is made of; any other unit as it is."""
    if unit.kind != "multiheadattention":
        return [unit]
    by_part: dict[str, list[Entry]] = {}
    for entry in unit.entries:
        is_in = entry.role.startswith("in_proj")
        part = "in_proj" if is_in else entry.role.rpartition(".")[0]
        role = entry.role.removeprefix("in_proj_") if is_in else entry.role.rpartition(".")[2]
        by_part.setdefault(part, []).append(Entry(**vars(entry) | {"role": role}))
    order = ["in_proj", "q_proj", "k_proj", "v_proj", "out_proj"]
    parts = sorted(by_part, key=lambda part: order.index(part) if part in order else len(order))
    return [Unit(f"{unit.path}.{part}", "linear", by_part[part], unit.is_called) for part in parts]
