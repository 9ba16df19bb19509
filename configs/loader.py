"""From a recipe and a command line to one frozen config, or an error that names the fix."""

import argparse
import dataclasses
import logging
import math
import os
import sys
from pathlib import Path

from common.cli import did_you_mean, did_you_mean_path
from common.errors import UsageError
from common.files import set_aside, write_atomically
from common.regular_files import read_regular

from .declare import default_text, flag_name, value_type
from .flag_names import suggest_flag
from .help_screen import help_screen
from .schema import TrainConfig

logger = logging.getLogger(__name__)

TRUE_WORDS = ("true", "t", "1")
MAX_RECIPE_BYTES = 1 << 20  # config.yaml of a run has 6 kB
AUTO = "auto"  # a flag of the style "optional" without a value

Flags = dict[str, dataclasses.Field]  # by flag name


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message}\n{self.prog} --help_all lists every flag")


def parse(config_class: type, argv: list[str], *, prog: str):
    """Parse the arguments of a script: defaults, then the recipe of `--config`, then flags.

    Returns:
        An instance of `config_class`, one of the config classes of schema.py.

    Raises:
        UsageError: an unknown flag or recipe key (with the nearest known one), a value of a wrong type or out of range.
    """
    return _build(config_class, _read_values(config_class, argv, prog))


def given_flags(config_class: type, argv: list[str], *, prog: str) -> frozenset[str]:
    """The names of the flags that the recipe or the command line gives; errors are those of `parse`."""
    return frozenset(_read_values(config_class, argv, prog))


def _read_values(config_class: type, argv: list[str], prog: str) -> dict:
    """The values of the given flags, by name."""
    flags = _flags_of(config_class)
    parser = _parser(config_class, prog)
    arguments, unknown = parser.parse_known_args([_underscored(word) for word in argv])
    if arguments.help or arguments.help_all:
        print(parser.format_help() if arguments.help_all else help_screen(config_class, prog), end="")
        sys.exit(0)
    if unknown:
        raise UsageError(f"{_unknown(unknown[0], flags)}\n{prog} --help_all lists every flag")
    given = {name: value for name, value in vars(arguments).items() if value is not argparse.SUPPRESS and name in flags}
    values = {name: _convert(flags[name], value, f"--{name}") for name, value in given.items()}
    if arguments.config:
        values = _read_recipe(arguments.config, flags) | values
    return values


def _build(config_class: type, values: dict):
    branches = {}
    for branch in dataclasses.fields(config_class):
        names = {field.name: flag_name(field) for field in dataclasses.fields(branch.type)}
        branches[branch.name] = branch.type(**{name: values[key] for name, key in names.items() if key in values})
    return config_class(**branches)


def as_dict(config) -> dict:
    """All values of a config by flag name, in the order of schema.py; the form of a recipe."""
    values = {
        flag_name(field): getattr(getattr(config, branch.name), field.name)
        for branch in dataclasses.fields(config)
        for field in dataclasses.fields(branch.type)
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def changed(config) -> dict:
    """The values of a config that differ from their defaults, by flag name."""
    defaults = {name: field.default for name, field in _flags_of(type(config)).items()}
    defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    return {name: value for name, value in as_dict(config).items() if value != defaults[name]}


def resume_rules(config_class: type) -> dict[str, str]:
    """What a resumed run does when a flag changed, by flag name: a value of `declare.ON_RESUME`."""
    return {name: field.metadata["on_resume"] for name, field in _flags_of(config_class).items()}


def write_config(config, path: Path) -> None:
    """Write a config as a recipe that repeats the run; an older file that cannot be read as a recipe gets another name.

    Raises:
        OSError: the file cannot be written; an older one is untouched.
    """
    import yaml  # not above: --help also works where nothing is installed

    if os.path.lexists(path):
        try:
            _read_recipe(str(path), _flags_of(type(config)))
        except UsageError as error:
            aside = set_aside(path)
            logger.warning(f"{str(error).removeprefix('--config ')}; it is now {aside}, and a new {path} is written")
    write_atomically(path, yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True))


def _flags_of(config_class: type) -> Flags:
    """The flags of all branches by name; two branches may not share one."""
    flags: Flags = {}
    for branch in dataclasses.fields(config_class):
        for field in dataclasses.fields(branch.type):
            name = flag_name(field)
            assert name not in flags, f"two branches of {config_class.__name__} declare {name}"
            flags[name] = field
    return flags


def _parser(config_class: type, prog: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=prog, allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true", default=False, help="show the most used flags and exit")
    parser.add_argument("--help_all", action="store_true", default=False, help="show all flags and exit")
    parser.add_argument("--config", default=None, metavar="RECIPE", help="YAML recipe; flags win over it")
    for branch in dataclasses.fields(config_class):
        group = parser.add_argument_group(branch.type.__doc__)
        for field in dataclasses.fields(branch.type):
            _add_flag(group, field)
    return parser


def _add_flag(group, field: dataclasses.Field) -> None:
    meta = field.metadata
    name = flag_name(field)
    flags = [f"--{name}", *(f"-{alias}" if len(alias) == 1 else f"--{alias}" for alias in meta["aliases"])]
    default = default_text(field)
    meaning = meta["meaning"] + (f" (default: {default})" if default else "")
    if meta["style"] == "pair":
        off = f"--no_{name}"
        group.add_argument(off, dest=name, action="store_const", const=False, help=argparse.SUPPRESS)
        meaning += f"; {off} turns it off"
    if meta["style"] in ("flag", "pair"):
        group.add_argument(*flags, dest=name, action="store_const", const=True, help=meaning.replace("%", "%%"))
        return
    kind, takes_many = value_type(field)
    shown = "{" + ",".join(meta["choices"]) + "}" if meta["choices"] else kind.__name__.upper()
    form = {"nargs": "+"} if takes_many else {"nargs": "?", "const": AUTO} if meta["style"] == "optional" else {}
    group.add_argument(*flags, dest=name, metavar=shown, help=meaning.replace("%", "%%"), **form)


def _unknown(word: str, flags: Flags) -> str:
    if not word.startswith("-"):
        return (
            f"unexpected word {word!r}: switches such as --use_amp take no value, text with blanks needs quotes, and "
            "in place of many files name their folder"
        )
    known = [word for name, field in flags.items() for word in (name, *field.metadata["aliases"])]
    return f"unknown flag {word}{suggest_flag(word.split('=')[0], known)}"


def _convert(field: dataclasses.Field, value, place: str):
    """Convert and check the text of a flag or the value of a recipe; `place` names it in the error."""
    if value is None and field.default is None:
        return None
    kind, takes_many = value_type(field)
    if takes_many:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_scalar(field, kind, item, place) for item in items)
    return _scalar(field, kind, value, place)


def _scalar(field: dataclasses.Field, kind: type, value, place: str):
    meta = field.metadata
    if kind is bool:
        if isinstance(value, bool):
            return value
        if meta["style"] == "text" and isinstance(value, str):
            return value.lower() in TRUE_WORDS  # the predecessor's rule: anything else is False
        raise UsageError(f"{place}: expected true or false, got {value!r}")
    if meta["style"] == "optional" and isinstance(value, bool):  # in a recipe
        return AUTO if value else ""
    if kind is str and not isinstance(value, str):
        raise UsageError(f"{place}: expected text, got {value!r}; put it in quotes")
    if kind is str and value.startswith("~/"):  # `--data_path=~/images`: a shell expands ~ at the start of a word only
        return os.path.expanduser(value)
    if value in ("''", '""'):
        value = ""  # `--aa=''` from a file that no shell has read
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise ValueError
        value = kind(value)
    except (TypeError, ValueError):
        raise UsageError(f"{place}: expected {kind.__name__}, got {value!r}") from None
    if kind is float and not math.isfinite(value):
        raise UsageError(f"{place}: expected a finite number, got {value}")
    if meta["choices"] and value not in meta["choices"]:
        known = ", ".join(meta["choices"])
        raise UsageError(f"{place}: unknown value {value!r}{did_you_mean(value, meta['choices'])}; known: {known}")
    if (meta["low"] is not None and value < meta["low"]) or (meta["high"] is not None and value > meta["high"]):
        bounds = f"at least {meta['low']}" if meta["high"] is None else f"between {meta['low']} and {meta['high']}"
        raise UsageError(f"{place}: expected {bounds}, got {value}")
    return value


def _read_recipe(path: str, flags: Flags) -> dict:
    from common.yaml_text import parse_yaml

    try:
        recipe = parse_yaml(read_regular(path, MAX_RECIPE_BYTES).decode("utf-8"))
    except OSError as error:
        near = did_you_mean_path(path) if isinstance(error, FileNotFoundError) else ""
        raise UsageError(f"--config {path}: cannot be read as a YAML recipe: {error.strerror or error}{near}") from None
    except ValueError as error:
        raise UsageError(f"--config {path}: cannot be read as a YAML recipe: {error}") from None
    if not isinstance(recipe, dict):
        raise UsageError(f"--config {path}: expected `flag: value` lines, got {type(recipe).__name__}")
    of_training = _flags_of(TrainConfig)  # whose config.yaml the other scripts take too, as far as they know its keys
    for key in recipe:
        if key not in flags and key not in of_training:
            raise UsageError(f"--config {path}: unknown key {key!r}{did_you_mean(str(key), flags)}")
    return {key: _convert(flags[key], value, f"{path}: {key}") for key, value in recipe.items() if key in flags}


def _underscored(word: str) -> str:
    """`--batch-size=8` as `--batch_size=8`: a hyphen in a flag's name is an underscore."""
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    return "--" + name.replace("-", "_") + equals + value
