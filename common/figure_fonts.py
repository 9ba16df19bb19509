"""Figures of matplotlib: pyplot that writes files, and fonts for names, so that no character is drawn as a box."""

import importlib.util
import unicodedata
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

from .errors import MissingDependencyError
from .fonts import list_fonts

DEFAULT_FAMILY = "DejaVu Sans"  # comes with matplotlib: Latin, Greek, Cyrillic, Hebrew, Arabic, some emoji
ESCAPED = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, halves of surrogate pairs, private and unknown codes


class FigureFonts(NamedTuple):
    """Families that together hold the characters of some texts, and the characters that no font of the machine has.

    `families` is a value of matplotlib's setting `font.family`: for each character the first one that has it is taken.
    """

    families: tuple[str, ...]
    missing: frozenset[str] = frozenset()

    def drawable(self, text: str) -> str:
        """Return the text with every character named that cannot be drawn: `[fox face]` for an emoji, else `\\u4e2d`.

        Control characters are escaped, because matplotlib would draw a box. Characters without a shape are left out:
        joiners, marks of direction, and selectors of the look of an emoji.
        """
        return "".join(map(self._drawable, text))

    def _drawable(self, character: str) -> str:
        category = unicodedata.category(character)
        if _has_no_shape(character):
            return ""
        if category not in ESCAPED and character not in self.missing:
            return character
        if category == "So":
            return f"[{unicodedata.name(character, 'symbol').lower()}]"
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def import_pyplot(need: str, packages: str = "matplotlib") -> ModuleType:
    """Import pyplot for figures in files, also where there is no display.

    Args:
        need: the beginning of the message where matplotlib is missing, as "plots need matplotlib".
        packages: what pip shall install then.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependencyError(f"{need}: python -m pip install {packages}") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def find_figure_fonts(texts: Iterable[str]) -> FigureFonts:
    """Find the fonts of this machine that hold the characters of the texts.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError("figures need matplotlib: python -m pip install -r requirements-report.txt")
    needed = {character for text in texts for character in text if unicodedata.category(character) not in ESCAPED}
    needed = {character for character in needed if not character.isspace() and not _has_no_shape(character)}
    families = [DEFAULT_FAMILY]
    for font in list_fonts() if needed else ():
        found = {character for character in needed if font.has(character)}
        family = _family_of(font.path) if found else None
        if family is None:
            continue
        needed -= found
        if family not in families:
            families.append(family)
        if not needed:
            break
    return FigureFonts(tuple(families), frozenset(needed))


def _family_of(path: str) -> str | None:
    """Name of the family of a font file, which matplotlib knows afterwards; None if it cannot draw with this file."""
    from matplotlib import font_manager

    try:
        if all(entry.fname != path for entry in font_manager.fontManager.ttflist):
            font_manager.fontManager.addfont(path)
        return font_manager.FontProperties(fname=path).get_name()
    except (OSError, RuntimeError, ValueError, NotImplementedError):  # a bitmap font, for example
        return None


def _has_no_shape(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or 0xFE00 <= ord(character) <= 0xFE0F
