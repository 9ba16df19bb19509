"""Print docs/flags.md, the table of every flag: `python -m configs.flags_page > docs/flags.md`."""

import argparse
import dataclasses
import math

from .declare import default_text, flag_name, value_type
from .schema import EvalConfig, ExportConfig, InferConfig, PredictConfig, TrainConfig

SCRIPTS = (TrainConfig, EvalConfig, PredictConfig, ExportConfig, InferConfig)

ON_RESUME = {
    "refuse": "refused",
    "refuse_inside_epoch": "refused inside an epoch",
    "warn": "warning",
    "ignore": "",
}

HEAD = """# Flags

Every flag of the five scripts. This page is printed from `configs/schema.py`; do not edit it:

```bash
python -m configs.flags_page > docs/flags.md
```

- A recipe, the YAML file of `--config RECIPE`, holds the same names without dashes. A flag on the command line wins
  over the recipe, the recipe wins over the default. `config.yaml` in the output folder of a training is a recipe.
- A *switch* takes no value. `--no_NAME`, where the table has it, turns off what a recipe turned on.
- `--batch-size 8`, `--batch_size 8` and `--batch_size=8` are the same. An empty text is written `--aa ''` or `--aa=`.
- A flag or a key of a recipe that does not exist is an error, which names the nearest one that does.
- The last column says what a training that is continued with `--resume` does when the value is another one than
  before. *refused*: the weights or the state of the optimizer would not fit. *refused inside an epoch*: images would
  be seen twice or never; between two epochs there is a warning. *warning*: the training goes on and logs that its
  numbers are no longer those of one command. An empty field: the value changes no number, or another fact in the
  checkpoint is compared (the list of the images, the number of images per step).

The other programs of the project print their flags with `--help`.
"""


def page() -> str:
    """The text of docs/flags.md."""
    return HEAD + "".join(_script_section(config_class) for config_class in SCRIPTS)


def _script_section(config_class: type) -> str:
    has_resume = config_class is TrainConfig
    parts = [f"\n## {config_class.__doc__}\n"]
    for branch in dataclasses.fields(config_class):
        titles = ["flag", "value", "default", "meaning", *(["changed on resume"] if has_resume else [])]
        rows = [titles, ["---"] * len(titles)]
        rows += [_row(field, has_resume) for field in dataclasses.fields(branch.type)]
        table = "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |").replace("|  |", "| |") for row in rows)
        parts.append(f"\n### {branch.type.__doc__}\n\n{table}\n")
    return "".join(parts)


def _row(field: dataclasses.Field, has_resume: bool) -> list[str]:
    meta = field.metadata
    names = [flag_name(field), *meta["aliases"]]
    flags = ", ".join(f"`-{name}`" if len(name) == 1 else f"`--{name}`" for name in names)
    default = default_text(field)
    row = [flags, _value(field), f"`{default}`" if default else "", meta["meaning"].replace("|", "\\|")]
    return [*row, ON_RESUME[meta["on_resume"]]] if has_resume else row


def _value(field: dataclasses.Field) -> str:
    """What may be given: the type, the choices, the range."""
    meta, (kind, takes_many) = field.metadata, value_type(field)
    if meta["style"] == "flag":
        return "switch"
    if meta["style"] == "pair":
        return f"switch, `--no_{flag_name(field)}`"
    if meta["style"] == "text":
        return "`True`, `False`"
    if meta["style"] == "optional":
        return "text, or no value"
    if meta["choices"]:
        return ", ".join(f"`{choice}`" for choice in meta["choices"])
    word = {int: "whole number", float: "number", str: "text"}[kind]
    if takes_many:
        word += "s" if kind is not str else ", one or more"
    return word + _range_text(meta["low"], meta["high"])


def _range_text(low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    if high is None:
        return f", at least {low}"
    if high > 2**53:  # a limit of bits
        return f", {low} to 2^{math.ceil(math.log2(high))} - 1"
    return f", {low} to {high}"


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m configs.flags_page", description=__doc__).parse_args()  # there are no flags
    print(page(), end="")
