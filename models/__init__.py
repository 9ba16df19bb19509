"""Models by name: one literal table with the image sizes that each model takes, and `create_model`."""

import importlib
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from common.cli import did_you_mean
from common.errors import ModelError

if TYPE_CHECKING:
    import paddle


class SideRule(NamedTuple):
    """Heights and widths in pixels that a model takes; the rule holds for each of the two."""

    minimum: int
    mod_4: tuple[int, ...] = (0, 1, 2, 3)

    def allows(self, side: int) -> bool:
        """Whether an image may be `side` pixels high or wide."""
        return side >= self.minimum and side % 4 in self.mod_4

    def __str__(self) -> str:
        remainders = " or ".join(map(str, self.mod_4))
        return f"{self.minimum} or more" + (f", with side mod 4 = {remainders}" if len(self.mod_4) < 4 else "")


class Entry(NamedTuple):
    """Row of the table.

    Attributes:
        constructor: "module:callable" in this package.
        sides: image sizes.
        fixed: arguments that belong to the name; a caller cannot give them.
    """

    constructor: str
    sides: SideRule
    fixed: dict[str, float] = {}  # noqa: RUF012 (shared and never written)

    @property
    def heads(self) -> tuple[str, ...]:
        """Name of the last layer, a Linear whose outputs are the classes, then the names that other publishers use."""
        return HEADS[self.constructor.partition(":")[0]]


HEADS = {
    "peleenet": ("classifier",),
    "mobilenet_v3": ("classifier.3",),
    "alexnet": ("classifier.6", "_fc8"),
    "mobilenet_v3_paddleclas": ("fc",),
}


# The stem of PeleeNet joins a pool that rounds down and a convolution that rounds up: ceil(side / 2) must be even.
# Below the minimum the last pool has no full window: torch raises an error, Paddle 3.3.1 pools a clipped window.
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
    """List every name that `create_model` knows, in the order of the table."""
    return list(MODELS)


def create_model(name: str, *, num_classes: int = 1000, **arguments) -> "paddle.nn.Layer":
    """Create the named model with initial weights that follow from Paddle's seed.

    Args:
        name: a name of `list_models`.
        num_classes: width of the head.
        arguments: further arguments of the constructor.

    Raises:
        ModelError: a name, an argument or a value that the model does not know.
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
    """Check that the model takes images `side` pixels high or wide, without importing Paddle.

    Raises:
        ModelError: no such model, or the model does not take this size; the message names the nearest sizes.
    """
    rule = _entry(name).sides
    if rule.allows(side):
        return
    below = next((s for s in range(side - 1, rule.minimum - 1, -1) if rule.allows(s)), None)
    above = next(s for s in range(max(side + 1, rule.minimum), max(side, rule.minimum) + 5) if rule.allows(s))
    nearest = f"{above}" if below is None else f"{below} and {above}"
    raise ModelError(f"{name} cannot take an image side of {side}: possible are {rule}; nearest: {nearest}")


def heads_of(name: str) -> tuple[str, ...]:
    """Names of the classifier layer of the model `name`: ours, then those of other publishers; does not import Paddle.

    Raises:
        ModelError: no such model.
    """
    return _entry(name).heads


def _entry(name: str) -> Entry:
    if name not in MODELS:
        raise ModelError(_unknown("model", name, MODELS))
    return MODELS[name]


def _unknown(kind: str, given: str, known: Iterable[str], where: str = "") -> str:
    hint = did_you_mean(given, known) or ";"
    return f"unknown {kind} '{given}'{where}{hint} known {kind}s: {', '.join(known)}"
