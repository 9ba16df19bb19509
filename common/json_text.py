"""Parse JSON of limited size: it is counted before it is parsed, since an item of two letters takes 70 bytes."""

import json

# A header of 120,000 tensors, or the names of 200,000 classes in the settings of a checkpoint, stay below both.
MAX_BYTES = 16 << 20
MAX_ITEMS = 1_000_000


def parse_json(text: bytes | str) -> object:
    """Parse JSON of limited size and depth.

    Raises:
        ValueError: the text is no JSON, or larger than any header or settings of weights.
    """
    check_json_size(text)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_json_size(text: object) -> None:
    """Check that a text of JSON is not larger than `parse_json` takes.

    Raises:
        ValueError: it is larger, or no text.
    """
    if not isinstance(text, bytes | str):
        raise ValueError(f"a text was expected, got a {type(text).__name__}")
    signs = (b"[", b"{", b",", b":") if isinstance(text, bytes) else ("[", "{", ",", ":")
    num_items = sum(map(text.count, signs))
    if len(text) > MAX_BYTES or num_items > MAX_ITEMS:
        raise ValueError(f"its header or settings of {len(text):,} bytes and {num_items:,} items are too large")
