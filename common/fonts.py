"""Find font files of this machine that have the characters of a text, so that no character is drawn as a box."""

import importlib.util
import os
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

FONT_EXTENSIONS = (".ttf", ".otf", ".ttc", ".otc")
# Fonts that have a glyph for every code, and it is a box or nothing.
WITHOUT_SHAPES = re.compile(r"lastresort|blank|notdef", re.IGNORECASE)
# Styles that are read less easily than an upright sans serif of normal weight.
STYLES = re.compile(
    r"bold|italic|oblique|light|thin|black|heavy|medium|mono|serif|condensed|narrow|math|symbol|display|script|slant|"
    r"typewriter|roman|hand|deco|[-_ ](b|i|bi|it)\b",
    re.IGNORECASE,
)
FAMILIES = ("DejaVuSans.", "NotoSans-Regular", "NotoSansCJK-Regular", "LiberationSans-Regular", "Arial.", "SegoeUI.")
OUTLINES = (b"glyf", b"CFF ", b"CFF2")  # tables of shapes; a font of coloured pictures has none
MAX_TABLE_BYTES = 2**22
JOINERS = "\u200c\u200d"  # join or separate letters


@dataclass(frozen=True)
class FontFile:
    """A TrueType or OpenType font: its file, and its index where the file is a collection."""

    path: str
    index: int = 0

    def has(self, text: str) -> bool:
        """Whether the font has a shape for every character of `text`; blanks and joiners need none."""
        return all(self._glyph(ord(letter)) for letter in text if not (letter.isspace() or letter in JOINERS))

    def _glyph(self, code: int) -> int:
        for first, last, glyph_of in self._segments:
            if first <= code <= last:
                try:
                    return glyph_of(code)
                except struct.error:  # the table is cut short
                    return 0
        return 0

    @cached_property
    def _segments(self) -> list[tuple]:
        try:
            return _read_segments(self.path, self.index)
        except (OSError, struct.error, LookupError, ValueError, OverflowError):
            return []  # not a font, or damaged


def find_font(text: str) -> FontFile | None:
    """The best font file that has every character of `text`; None if there is none on this machine."""
    return next((font for font in list_fonts() if font.has(text)), None)


def split_by_font(text: str) -> list[tuple[str, FontFile]] | None:
    """Divide `text` into runs, each with a font that has its characters; one run if one font has all.

    Returns:
        `[(run, font), ...]`, whose runs joined are `text`; None if no font has one of the characters.
    """
    whole = find_font(text)
    if whole:
        return [(text, whole)]
    runs: list[tuple[str, FontFile]] = []
    for letter in text:
        if runs and runs[-1][1].has(letter):
            runs[-1] = (runs[-1][0] + letter, runs[-1][1])
            continue
        font = find_font(letter)
        if font is None:
            return None
        runs.append((letter, font))
    return runs


@cache
def list_fonts() -> tuple[FontFile, ...]:
    """The fonts of this machine, those that are read easily first."""
    paths = {os.path.realpath(path): path for folder in _font_folders() for path in _files_below(folder)}
    return tuple(FontFile(path) for path in sorted(paths.values(), key=_rank))


def _rank(path: str) -> tuple:
    name = os.path.basename(path)
    family = next((place for place, start in enumerate(FAMILIES) if name.startswith(start)), len(FAMILIES))
    return family, len(STYLES.findall(name)), name, path


def _files_below(folder: str) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(FONT_EXTENSIONS) and not WITHOUT_SHAPES.search(name):
                yield os.path.join(place, name)


def _font_folders() -> list[str]:
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", home)
        places = [os.path.join(os.environ.get("WINDIR", r"C:\Windows"), "Fonts"), rf"{local}\Microsoft\Windows\Fonts"]
    elif sys.platform == "darwin":
        places = ["/System/Library/Fonts", "/Library/Fonts", f"{home}/Library/Fonts"]
    else:
        data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
        places = [f"{data}/fonts", f"{home}/.fonts", "/usr/local/share/fonts", "/usr/share/fonts"]
    matplotlib = importlib.util.find_spec("matplotlib")  # its wheel brings DejaVu Sans
    if matplotlib and matplotlib.origin:
        places.append(str(Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf"))
    return places


def _read_segments(path: str, index: int) -> list[tuple]:
    """The table `cmap` of a font as `(first code, last code, function from code to glyph)`; glyph 0 is the box."""
    with open(path, "rb") as file:
        start = 0
        tag = file.read(4)
        if tag == b"ttcf":
            file.seek(12 + 4 * index)
            [start] = struct.unpack(">I", file.read(4))
        file.seek(start + 4)
        [num_tables] = struct.unpack(">H6x", file.read(8))
        records = [struct.unpack(">4sIII", file.read(16)) for _ in range(min(num_tables, 100))]
        tables = {name: (offset, size) for name, _, offset, size in records}
        if not any(name in tables for name in OUTLINES) or tables[b"cmap"][1] > MAX_TABLE_BYTES:
            return []
        file.seek(tables[b"cmap"][0])
        cmap = file.read(tables[b"cmap"][1])
    [num_encodings] = struct.unpack_from(">H", cmap, 2)
    encodings = [struct.unpack_from(">HHI", cmap, 4 + 8 * place) for place in range(num_encodings)]
    unicode = [offset for platform, kind, offset in encodings if platform == 0 or (platform, kind) in ((3, 1), (3, 10))]
    formats = {struct.unpack_from(">H", cmap, offset)[0]: offset for offset in unicode}
    if 12 in formats:
        return _segments_of_format_12(cmap, formats[12])
    return _segments_of_format_4(cmap, formats[4]) if 4 in formats else []


def _segments_of_format_12(cmap: bytes, offset: int) -> list[tuple]:
    [count] = struct.unpack_from(">I", cmap, offset + 12)
    groups = (struct.unpack_from(">III", cmap, offset + 16 + 12 * place) for place in range(count))
    return [(first, last, lambda code, first=first, glyph=glyph: glyph + code - first) for first, last, glyph in groups]


def _segments_of_format_4(cmap: bytes, offset: int) -> list[tuple]:
    count = struct.unpack_from(">H", cmap, offset + 6)[0] // 2
    row = f">{count}H"
    lasts = struct.unpack_from(row, cmap, offset + 14)
    firsts, deltas, ranges = (struct.unpack_from(row, cmap, offset + 16 + 2 * count * place) for place in range(1, 4))
    segments = []
    for place in range(count):
        at = offset + 16 + 6 * count + 2 * place  # of the range offset, from which the glyphs of a segment are counted

        def glyph_of(code: int, place: int = place, at: int = at) -> int:
            glyph = code
            if ranges[place]:
                [glyph] = struct.unpack_from(">H", cmap, at + ranges[place] + 2 * (code - firsts[place]))
                if glyph == 0:
                    return 0
            return (glyph + deltas[place]) % 65536

        segments.append((firsts[place], lasts[place], glyph_of))
    return segments
