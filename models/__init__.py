"""The models by name: one literal table, the sides of an image each can take, and `create_model`."""

import difflib
import importlib
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from common.errors import ModelError

if TYPE_CHECKING:
    import paddle


class SideRule(NamedTuple):
    """Which heights and widths a model can take, each on its own."""

    minimum: int
    mod_4: tuple[int, ...] = (0, 1, 2, 3)

    def allows(self, side: int) -> bool:
        return side >= self.minimum and side % 4 in self.mod_4

    def __str__(self) -> str:
        remainders = " or ".join(map(str, self.mod_4))
        return f"{self.minimum} or more" + (f", with side mod 4 = {remainders}" if len(self.mod_4) < 4 else "")


class Entry(NamedTuple):
    """A row of the table; `fixed` arguments belong to the name and cannot be given again."""

    constructor: str  # "module:callable" in this room
    sides: SideRule
    fixed: dict[str, float] = {}  # noqa: RUF012 (shared and never written)

    @property
    def head(self) -> str:
        """Name of the last layer, a Linear whose outputs are the classes."""
        return HEADS[self.constructor.partition(":")[0]]


HEADS = {"peleenet": "classifier", "mobilenet_v3": "classifier.3", "alexnet": "classifier.6"}


# PeleeNet's stem joins a floor-rounded pool and a ceil-rounded convolution, which agree when ceil(side / 2) is even.
# Below the minimum the last pool has no full window: torch refuses, Paddle 3.3.1 would silently pool a clipped one.
PELEENET_SIDES = SideRule(31, mod_4=(0, 3))
ALEXNET_SIDES = SideRule(63)
ANY_SIDE = SideRule(1)

MODELS = {
    "peleenet": Entry("peleenet:PeleeNet", PELEENET_SIDES),
    "mobilenet_v3_small": Entry("mobilenet_v3:mobilenet_v3_small", ANY_SIDE),
    "mobilenet_v3_small_x0_35": Entry("mobilenet_v3:mobilenet_v3_small", ANY_SIDE, {"width_mult": 0.35}),
    "mobilenet_v3_small_x0_5": Entry("mobilenet_v3:mobilenet_v3_small", ANY_SIDE, {"width_mult": 0.5}),
    "mobilenet_v3_small_x0_75": Entry("mobilenet_v3:mobilenet_v3_small", ANY_SIDE, {"width_mult": 0.75}),
    "mobilenet_v3_small_x1_0": Entry("mobilenet_v3:mobilenet_v3_small", ANY_SIDE, {"width_mult": 1.0}),
    "mobilenet_v3_small_x1_25": Entry("mobilenet_v3:mobilenet_v3_small", ANY_SIDE, {"width_mult": 1.25}),
    "mobilenet_v3_large": Entry("mobilenet_v3:mobilenet_v3_large", ANY_SIDE),
    "mobilenet_v3_large_x0_35": Entry("mobilenet_v3:mobilenet_v3_large", ANY_SIDE, {"width_mult": 0.35}),
    "mobilenet_v3_large_x0_5": Entry("mobilenet_v3:mobilenet_v3_large", ANY_SIDE, {"width_mult": 0.5}),
    "mobilenet_v3_large_x0_75": Entry("mobilenet_v3:mobilenet_v3_large", ANY_SIDE, {"width_mult": 0.75}),
    "mobilenet_v3_large_x1_0": Entry("mobilenet_v3:mobilenet_v3_large", ANY_SIDE, {"width_mult": 1.0}),
    "mobilenet_v3_large_x1_25": Entry("mobilenet_v3:mobilenet_v3_large", ANY_SIDE, {"width_mult": 1.25}),
    "alexnet": Entry("alexnet:AlexNet", ALEXNET_SIDES),
    "mobilenet_v3_small_x0_35_paddleclas": Entry(
        "mobilenet_v3_paddleclas:mobilenet_v3_small_paddleclas", ANY_SIDE, {"width_mult": 0.35}
    ),
    "mobilenet_v3_small_x0_5_paddleclas": Entry(
        "mobilenet_v3_paddleclas:mobilenet_v3_small_paddleclas", ANY_SIDE, {"width_mult": 0.5}
    ),
    "mobilenet_v3_small_x0_75_paddleclas": Entry(
        "mobilenet_v3_paddleclas:mobilenet_v3_small_paddleclas", ANY_SIDE, {"width_mult": 0.75}
    ),
    "mobilenet_v3_small_x1_0_paddleclas": Entry(
        "mobilenet_v3_paddleclas:mobilenet_v3_small_paddleclas", ANY_SIDE, {"width_mult": 1.0}
    ),
    "mobilenet_v3_small_x1_25_paddleclas": Entry(
        "mobilenet_v3_paddleclas:mobilenet_v3_small_paddleclas", ANY_SIDE, {"width_mult": 1.25}
    ),
    "mobilenet_v3_large_x0_35_paddleclas": Entry(
        "mobilenet_v3_paddleclas:mobilenet_v3_large_paddleclas", ANY_SIDE, {"width_mult": 0.35}
    ),
    "mobilenet_v3_large_x0_5_paddleclas": Entry(
        "mobilenet_v3_paddleclas:mobilenet_v3_large_paddleclas", ANY_SIDE, {"width_mult": 0.5}
    ),
    "mobilenet_v3_large_x0_75_paddleclas": Entry(
        "mobilenet_v3_paddleclas:mobilenet_v3_large_paddleclas", ANY_SIDE, {"width_mult": 0.75}
    ),
    "mobilenet_v3_large_x1_0_paddleclas": Entry(
        "mobilenet_v3_paddleclas:mobilenet_v3_large_paddleclas", ANY_SIDE, {"width_mult": 1.0}
    ),
    "mobilenet_v3_large_x1_25_paddleclas": Entry(
        "mobilenet_v3_paddleclas:mobilenet_v3_large_paddleclas", ANY_SIDE, {"width_mult": 1.25}
    ),
}


def list_models() -> list[str]:
    """Every name that `create_model` knows, in the order of the table."""
    return list(MODELS)


def create_model(name: str, *, num_classes: int = 1000, **arguments) -> "paddle.nn.Layer":
    """The named model, freshly initialised from Paddle's seed; every argument reaches its constructor.

    Raises ModelError for a name, an argument or a value that the model does not know.
    """
    entry = _entry(name)
    module, constructor_name = entry.constructor.split(":")
    constructor = getattr(importlib.import_module(f".{module}", __name__), constructor_name)
    known = [parameter for parameter in inspect.signature(constructor).parameters if parameter not in entry.fixed]
    for argument in arguments:
        if argument not in known:
            raise ModelError(_unknown("argument", argument, known, f" of model '{name}'"))
    return constructor(num_classes=num_classes, **entry.fixed, **arguments)


def check_input_size(name: str, side: int) -> None:
    """Raise ModelError, naming the nearest possible sides, if the model cannot take images `side` pixels high or wide.

    Does not import Paddle, so that the scripts can refuse a size at once.
    """
    rule = _entry(name).sides
    if rule.allows(side):
        return
    below = next((s for s in range(side - 1, rule.minimum - 1, -1) if rule.allows(s)), None)
    above = next(s for s in range(max(side + 1, rule.minimum), max(side, rule.minimum) + 5) if rule.allows(s))
    nearest = f"{above}" if below is None else f"{below} and {above}"
    raise ModelError(f"{name} cannot take an image side of {side}: possible are {rule}; nearest: {nearest}")


def head_of(name: str) -> str:
    """Name of the classifier layer of the model `name`; does not import Paddle.

    Raises:
        ModelError: no such model.
    """
    return _entry(name).head


def _entry(name: str) -> Entry:
    if name not in MODELS:
        raise ModelError(_unknown("model", name, MODELS))
    return MODELS[name]


def _unknown(kind: str, given: str, known: Iterable[str], where: str = "") -> str:
    guess = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean '{guess[0]}'? " if guess else ""
    return f"unknown {kind} '{given}'{where}; {hint}known {kind}s: {', '.join(known)}"
