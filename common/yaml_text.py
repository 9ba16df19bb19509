"""Parse YAML of limited size: no aliases, and values, depth and digits are counted before anything is built."""

import re
from collections import Counter

import yaml

MAX_VALUES = 100_000  # the card of a model with ImageNet-21k's class names has 22,000
MAX_DEPTH = 50
MAX_DIGITS = 100  # Python multiplies `1:1:1...`, a number of base 60, for hours, and prints no number of 4,300 digits
NUMBER = re.compile(r"[-+]?[0-9.][0-9a-fA-FxX_.:+-]*")
KINDS = ("str", "int", "float", "bool", "null", "map", "seq")
PLAIN_TAGS = {None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in KINDS)}
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # where PyYAML was built with libyaml, 10 times as fast


def parse_yaml(text: str | bytes) -> object:
    """Parse one YAML document of plain values.

    Raises:
        ValueError: the text is no YAML, holds an alias, a tag or a key twice, or is larger or deeper than any file of
            this project.
    """
    try:
        _check_events(text)
        loader = Loader(text)
        try:
            node = loader.get_single_node()
            _check_keys(node)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _check_keys(node: yaml.Node | None) -> None:
    """Refuse a table of which a key stands there twice: YAML would take the last one."""
    if isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if keys and keys.most_common(1)[0][1] > 1:
            key, count = keys.most_common(1)[0]
            raise ValueError(f"{key[:80]} stands there {count} times")
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        for part in child if isinstance(child, tuple) else (child,):
            _check_keys(part)


def _check_events(text: str | bytes) -> None:
    depth = num_values = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"it holds an alias, *{event.anchor[:80]}: a few can stand for more than memory holds")
        if isinstance(event, yaml.NodeEvent):
            num_values += 1
            if num_values > MAX_VALUES:
                raise ValueError(f"it holds more than {MAX_VALUES:,} values")
            if event.tag not in PLAIN_TAGS:
                raise ValueError(f"it holds the tag {event.tag[:80]}; plain values have none")
        if isinstance(event, yaml.ScalarEvent):
            is_text = event.tag is None and not event.implicit[0]  # in quotes
            if not is_text and len(event.value) > MAX_DIGITS and NUMBER.fullmatch(event.value):
                raise ValueError(f"it holds a number of {len(event.value):,} characters")
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} times")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
