"""Write a completed case as YAML, with one line for many weights where a pattern says the same."""

import re
from collections.abc import Iterable

from ..case import Case
from .patterns import match, rename

NUMBER = re.compile(r"\d+")


def text_of_case(case: Case, content: dict, reference_names: Iterable[str], port_names: Iterable[str]) -> str:
    """The YAML text of a case.

    Args:
        case: with the rules that were found.
        content: the keys that the user gave, in order.
        reference_names: names of all entries of the reference.
        port_names: names of all entries of the port.
    """
    import yaml

    reference_names, port_names = list(reference_names), list(port_names)
    keys = dict(content)
    keys["rename"] = compressed(dict(case.rename), reference_names)
    keys["transpose"] = compressed_names(list(case.transpose or ()), port_names)
    keys["split"] = {name: list(parts) for name, parts in case.split.items()}
    keys["concat"] = {name: list(parts) for name, parts in case.concat.items()}
    keys["reshape"] = {
        name: {"reference": list(pair.reference), "port": list(pair.port)} for name, pair in case.reshape.items()
    }
    keys["drop"] = dict(case.drop)
    keys["keep"] = list(case.keep)
    lines = []
    for key, value in keys.items():
        if value or key in content or key == "transpose":
            is_flat = isinstance(value, list) or key in ("port_arguments", "reference_arguments", "train")
            text = yaml.safe_dump(
                {key: value}, sort_keys=False, default_flow_style=None if is_flat else False, width=120
            )
            lines.append(text)
    return "".join(lines)


def compressed(renames: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    """Renames with `*` and `{*+1}` in place of numbers, where the patterns change every name as before."""
    names = list(names)
    expected = {name: rename(name, tuple(renames.items())) for name in names}
    pairs = dict(renames)
    for _ in range(3):  # numbers in one name
        changed = _generalized(pairs)
        if changed == pairs or any(rename(name, tuple(changed.items())) != expected[name] for name in names):
            break
        pairs = changed
    return pairs


def _generalized(pairs: dict[str, str]) -> dict[str, str]:
    """The pairs with one number of each replaced by a wildcard, where this makes one pair of several."""
    candidates: dict[tuple[str, str], list[str]] = {}
    for own, other in pairs.items():
        for first in NUMBER.finditer(own):
            for second in NUMBER.finditer(other):
                shift = int(second[0]) - int(first[0])
                wildcard = "*" if shift == 0 else f"{{*{shift:+d}}}"
                plain = "*" if shift == 0 else "{*}"
                key = _replaced(own, first, plain), _replaced(other, second, wildcard)
                candidates.setdefault(key, []).append(own)
    result, used = {}, set()
    for (own, other), covered in sorted(candidates.items(), key=lambda item: -len(item[1])):
        fresh = [name for name in covered if name not in used]
        if len(fresh) > 1 and len(fresh) == len(covered):
            result[own] = other
            used |= set(fresh)
    return {own: other for own, other in pairs.items() if own not in used} | result


def _replaced(text: str, found: re.Match, wildcard: str) -> str:
    return text[: found.start()] + wildcard + text[found.end() :]


def compressed_names(wanted: list[str], names: Iterable[str]) -> list[str]:
    """Names with `*` in place of numbers, where the patterns fit no other of `names`."""
    others = set(names) - set(wanted)
    patterns = []
    for name in wanted:
        pattern = NUMBER.sub("*", name)
        is_safe = pattern != name and all(match(pattern, other) is None for other in others)
        patterns.append(pattern if is_safe else name)
    counts = {pattern: patterns.count(pattern) for pattern in patterns}
    chosen = [pattern if counts[pattern] > 1 else name for pattern, name in zip(patterns, wanted, strict=True)]
    return list(dict.fromkeys(chosen))
