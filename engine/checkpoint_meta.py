"""Checks the types of the settings in a checkpoint: a correct checksum does not prove who wrote the file."""

from collections.abc import Callable


def check_meta(meta: object) -> dict:
    """Check that the entries of `meta` have the types that the readers take, and return `meta`; entries may be missing.

    Raises:
        ValueError: names the entry of another type.
    """
    if not isinstance(meta, dict):
        raise ValueError("its settings are not a table")
    _check(meta, ENTRIES, "")
    _check(meta.get("info", {}), INFO_ENTRIES, "info.")
    for name in ("lr_meter", "loss_meter"):
        if name in meta:
            _check(meta[name], METER_ENTRIES, f"{name}.", are_all_needed=True)
    return meta


def _check(table: dict, wanted: dict[str, Callable[[object], bool]], prefix: str, *, are_all_needed: bool = False):
    for name, is_right in wanted.items():
        if (name in table or are_all_needed) and not is_right(table.get(name)):
            raise ValueError(f"its entry {prefix}{name} is no {is_right.__name__.removeprefix('_').replace('_', ' ')}")


def _whole_number(value: object) -> bool:
    return type(value) is int and -1 <= value < 1 << 40


def _count(value: object) -> bool:
    return _whole_number(value) and value >= 0


def _number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 1 << 60)


def _truth_value(value: object) -> bool:
    return isinstance(value, bool)


def _table(value: object) -> bool:
    return isinstance(value, dict)


def _list_of_numbers(value: object) -> bool:
    return isinstance(value, list) and all(map(_number, value))


def _table_of_numbers(value: object) -> bool:
    return _table(value) and all(
        _number(one) or isinstance(one, bool) or _list_of_numbers(one) for one in value.values()
    )


def _number_or_none(value: object) -> bool:
    return value is None or _number(value)


def _list_of_names(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _table_of_texts(value: object) -> bool:
    """Paths, of which some may be missing, and checksums."""
    return _table(value) and all(one is None or isinstance(one, str) for one in value.values())


def _table_of_plain_values(value: object) -> bool:
    """Flags, sizes, triples of numbers."""
    return _table(value) and all(
        one is None or isinstance(one, str | bool) or _number(one) or isinstance(one, list) for one in value.values()
    )


ENTRIES = {
    "next_epoch": _count,
    "next_step": _count,
    "epoch": _whole_number,
    "best_top1_percent": _number,
    "best_top1_ema_percent": _number,
    "best_loss": _number_or_none,
    "best_loss_ema": _number_or_none,
    "best_epoch": _whole_number,
    "num_skipped": _count,
    "has_best": _truth_value,
    "lr_meter": _table,
    "loss_meter": _table,
    "scaler": _table_of_numbers,
    "environment": _table_of_plain_values,
    "info": _table,
}
INFO_ENTRIES = {
    "args": _table_of_plain_values,
    "preprocess": _table_of_plain_values,
    "data": _table_of_texts,
    "class_names": _list_of_names,
    "class_folders": _list_of_names,
    "effective_batch": _count,
}
METER_ENTRIES = {"recent": _list_of_numbers, "total": _number, "count": _count}
