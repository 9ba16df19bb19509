"""Automatic augmentation by a policy string: RandAugment, AutoAugment and AugMix, drawn and then applied."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.errors import UsageError

from .image_ops import Op, apply_op, draw_op

GRAMMAR = {
    "rand": "rand-m<level 0-10>-n<operations>-w0-mstd<noise>-inc<0 or 1>, for example rand-m9-mstd0.5-inc1",
    "augmix": "augmix-m<level 0-10>-w<chains>-d<depth>-a<alpha>-b<0 or 1>-mstd<noise>, for example augmix-m5-w4-d2",
    "AutoAugment": "v0, v0r, original or originalr, with -mstd<noise> if wanted",
}


class PolicyError(UsageError, ValueError):
    """A policy string that does not follow GRAMMAR; the message names the wrong section."""


# operations with a variant whose effect grows with the level
INCREASING = ("Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness")

# operation: its weight in set w0, from a search by timm's author
RAND_AUGMENT = {
    "AutoContrast": 0.025,
    "Equalize": 0.005,
    "Invert": 0.0,
    "Rotate": 0.3,
    "Posterize": 0.0,
    "Solarize": 0.005,
    "SolarizeAdd": 0.005,
    "Color": 0.025,
    "Contrast": 0.005,
    "Brightness": 0.005,
    "Sharpness": 0.025,
    "ShearX": 0.2,
    "ShearY": 0.2,
    "TranslateXRel": 0.1,
    "TranslateYRel": 0.1,
}

AUG_MIX = (
    "AutoContrast", "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing", "Equalize",
    "Rotate", "PosterizeIncreasing", "SolarizeIncreasing", "ShearX", "ShearY", "TranslateXRelAugMix",
    "TranslateYRelAugMix",
)  # fmt: skip

# Sub-policies of two operations, each with probability and level: ImageNet's in Cubuk et al., CVPR 2019 ("original"),
# and those of the TPU EfficientNet implementation ("v0").
AUTO_AUGMENT = {
    "original": (
        (("PosterizeOriginal", 0.4, 8), ("Rotate", 0.6, 9)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
        (("PosterizeOriginal", 0.6, 7), ("PosterizeOriginal", 0.6, 6)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
        (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
        (("PosterizeOriginal", 0.8, 5), ("Equalize", 1.0, 2)),
        (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
        (("Equalize", 0.6, 8), ("PosterizeOriginal", 0.4, 6)),
        (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
        (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
        (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
        (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
        (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
        (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
        (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    ),
    "v0": (
        (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
        (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
        (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
        (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
        (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
        (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
        (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
        (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
        (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
        (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
        (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
        (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
        (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
        (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
        (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
        (("Rotate", 1.0, 7), ("TranslateYRel", 0.8, 9)),
        (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
        (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
        (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
        (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
        (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
        (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
        (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
        (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
        (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
    ),
}


def _with_increasing_posterize(policy: tuple) -> tuple:
    return tuple(
        tuple(("PosterizeIncreasing" if name.startswith("Posterize") else name, *rest) for name, *rest in pair)
        for pair in policy
    )


AUTO_AUGMENT |= {f"{name}r": _with_increasing_posterize(policy) for name, policy in AUTO_AUGMENT.items()}


@dataclass(frozen=True)
class RandAugment:
    """`num_ops` random operations, each omitted with probability one half (Cubuk et al., 2020, as changed by timm)."""

    interpolation: str
    level: int = 10
    num_ops: int = 2
    weighted: bool = False  # draw by the weights of RAND_AUGMENT, and no operation twice
    level_std: float = 0.0
    increasing: bool = False

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[Op, ...]:
        """Draw the operations; the size of the image does not matter."""
        weights = np.array(list(RAND_AUGMENT.values())) if self.weighted else np.ones(len(RAND_AUGMENT))
        names = list(RAND_AUGMENT)
        drawn = rng.choice(len(names), self.num_ops, replace=not self.weighted, p=weights / weights.sum())
        ops = []
        for name in (names[i] for i in drawn):
            if rng.random() < 0.5:
                variant = f"{name}Increasing" if self.increasing and name in INCREASING else name
                ops.append(draw_op(rng, variant, self.level, self.level_std, self.interpolation))
        return tuple(ops)

    def apply(self, image: Image.Image, choice: tuple[Op, ...]) -> Image.Image:
        """Apply the operations one after another."""
        return _apply_all(image, choice)


@dataclass(frozen=True)
class AutoAugment:
    """A uniformly drawn sub-policy of two operations; each operation is applied with its own probability."""

    interpolation: str
    policy: str
    level_std: float = 0.0

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[Op, ...]:
        """Draw a sub-policy, and which of its two operations are applied."""
        pairs = AUTO_AUGMENT[self.policy]
        return tuple(
            draw_op(rng, name, level, self.level_std, self.interpolation)
            for name, probability, level in pairs[rng.integers(len(pairs))]
            if rng.random() < probability
        )

    def apply(self, image: Image.Image, choice: tuple[Op, ...]) -> Image.Image:
        """Apply the operations one after another."""
        return _apply_all(image, choice)


class Mixture(NamedTuple):
    """The choice of AugMix: chains of operations, their weights, and the share of the mixture in the result."""

    chains: tuple[tuple[Op, ...], ...]
    weights: tuple[float, ...]
    share: float


@dataclass(frozen=True)
class AugMix:
    """The image blended with a weighted sum of chains of operations (Hendrycks et al., 2020)."""

    interpolation: str
    level: int = 3
    width: int = 3
    depth: int = -1  # operations in a chain; -1 draws 1, 2 or 3
    alpha: float = 1.0
    blended: bool = False  # blend chain by chain in 8 bits: faster, and approximate
    level_std: float = math.inf

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> Mixture:
        """Draw the chains, their weights (Dirichlet) and the share of the mixture (beta)."""
        chains = tuple(self._draw_chain(rng) for _ in range(self.width))
        weights = rng.dirichlet([self.alpha] * self.width).tolist()
        return Mixture(chains, tuple(weights), float(rng.beta(self.alpha, self.alpha)))

    def _draw_chain(self, rng: np.random.Generator) -> tuple[Op, ...]:
        depth = self.depth if self.depth > 0 else rng.integers(1, 4)
        names = [AUG_MIX[i] for i in rng.integers(len(AUG_MIX), size=depth)]
        return tuple(draw_op(rng, name, self.level, self.level_std, self.interpolation) for name in names)

    def apply(self, image: Image.Image, choice: Mixture) -> Image.Image:
        """Blend the image with the weighted sum of the chains."""
        augmented = [_apply_all(image, chain) for chain in choice.chains]
        if self.blended:
            return _blend_one_by_one(image, augmented, [weight * choice.share for weight in choice.weights])
        mixed = np.zeros((image.height, image.width, 3), dtype=np.float32)
        for weight, changed in zip(choice.weights, augmented, strict=True):
            mixed += np.float32(weight) * np.asarray(changed, dtype=np.float32)
        return Image.blend(image, Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8)), choice.share)


def _blend_one_by_one(image: Image.Image, others: list[Image.Image], weights: list[float]) -> Image.Image:
    """sum(weights[i] * others[i]) + (1 - sum(weights)) * image, by one blend per image."""
    remaining = 1.0  # share that the later blends leave
    shares = []
    for weight in reversed(weights):
        shares.append(weight / remaining if remaining > 0 else 0.0)
        remaining -= weight
    for other, share in zip(others, reversed(shares), strict=True):
        image = Image.blend(image, other, share)
    return image


def _apply_all(image: Image.Image, ops: tuple[Op, ...]) -> Image.Image:
    for op in ops:
        image = apply_op(image, op)
    return image


# ---------------------------------------------------------------------------------------------------- policy strings


def parse_policy(policy: str, interpolation: str) -> RandAugment | AutoAugment | AugMix:
    """Create the augmentation that a policy string names.

    Args:
        policy: a string of GRAMMAR.
        interpolation: "bilinear", "bicubic", or "random" for either.

    Raises:
        PolicyError: any other string; the message names the wrong section.
    """
    name, *sections = policy.split("-")
    if name == "rand":
        augment = RandAugment(interpolation, **_parse(policy, sections, RAND_SECTIONS))
        largest = sum(weight > 0 for weight in RAND_AUGMENT.values())
        if augment.weighted and augment.num_ops > largest:
            raise PolicyError(
                f"augmentation policy '{policy}': w0 has {largest} operations and draws none twice; lower n"
            )
        return augment
    if name == "augmix":
        return AugMix(interpolation, **_parse(policy, sections, AUG_MIX_SECTIONS))
    if name in AUTO_AUGMENT:
        return AutoAugment(interpolation, name, **_parse(policy, sections, AUTO_AUGMENT_SECTIONS))
    raise PolicyError(f"unknown augmentation policy '{policy}'; known: rand-..., augmix-..., {', '.join(AUTO_AUGMENT)}")


def _parse(policy: str, sections: list[str], known: Mapping[str, tuple[str, Callable]]) -> dict:
    values = {}
    grammar = GRAMMAR.get(policy.split("-")[0], GRAMMAR["AutoAugment"])
    for section in sections:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", section)
        try:
            if match is None or match[1] not in known:
                raise ValueError("not a section of this policy")
            field, convert = known[match[1]]
            if field in values:
                raise ValueError("given twice")
            values[field] = convert(match[2])
        except ValueError as error:
            raise PolicyError(f"augmentation policy '{policy}', section '{section}': {error}; {grammar}") from None
    return values


def _level(text: str) -> int:
    if not text.isdecimal() or int(text) > 10:
        raise ValueError("expected a level from 0 to 10")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("expected a whole number from 1")
    return int(text)


def _weight_set(text: str) -> bool:
    if text != "0":
        raise ValueError("the only set of weights is 0")
    return True


def _positive(text: str) -> float:
    if float(text) <= 0:
        raise ValueError("expected a number above 0")
    return float(text)


def _switch(text: str) -> bool:
    return float(text) != 0


# section: (field, function that reads its number)
AUTO_AUGMENT_SECTIONS = {"mstd": ("level_std", float)}
RAND_SECTIONS = {
    "m": ("level", _level),
    "n": ("num_ops", _count),
    "w": ("weighted", _weight_set),
    "mstd": ("level_std", float),
    "inc": ("increasing", _switch),
}
AUG_MIX_SECTIONS = {
    "m": ("level", _level),
    "w": ("width", _count),
    "d": ("depth", _count),
    "a": ("alpha", _positive),
    "b": ("blended", _switch),
    "mstd": ("level_std", float),
}
