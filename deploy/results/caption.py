"""Draw the classes of a prediction below a picture, legibly on any size, in any script for which there is a font."""

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, features

from common.fonts import FontFile, split_by_font
from common.printable import printable

LONGEST_SIDE = 1280  # of a drawn picture in pixels: enough for a screen
SHORTEST_SIDE = 256  # a picture whose longer side is shorter is enlarged by a whole number
LEAST_WIDTH = 360  # of the caption in pixels: room for some twenty letters and the score
NUM_CLASSES = 3  # in a caption

PAPER, INK, FAINT = (20, 22, 27), (255, 255, 255), (176, 182, 194)
BAR, FAINT_BAR = (32, 92, 178), (52, 60, 76)
# Scripts whose letters change their form or order beside others, which Pillow draws right through libraqm only.
JOINED_SCRIPTS = ((0x0900, 0x0DFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x0F00, 0x0FFF))


class Row(NamedTuple):
    """A class in a caption: its name, and its probability; None where the row is a sentence."""

    name: str
    score: float | None


def fit_for_display(image: Image.Image) -> Image.Image:
    """Scale an RGB image so that its longer side has SHORTEST_SIDE to LONGEST_SIDE pixels or little more."""
    longest = max(image.size)
    if longest > LONGEST_SIDE:
        size = tuple(max(1, round(side * LONGEST_SIDE / longest)) for side in image.size)
        return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    times = -(-SHORTEST_SIDE // longest) if longest < SHORTEST_SIDE else 1
    return image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)


def rows_of(prediction: dict) -> list[Row]:
    """The most probable classes of a prediction of `topk_predictions`, as rows of a caption."""
    classes = zip(prediction["class_ids"], prediction["scores"], prediction["label_names"], strict=True)
    rows = [Row(drawable_name(name, label), score) for label, score, name in classes]
    return rows[:NUM_CLASSES] or [Row("no class reaches the threshold", None)]


def drawable_name(name: str, label: int) -> str:
    """The name of a class as it can be drawn here: `class 3` if a character has no font on this machine."""
    text = one_line(name)
    return text if text and can_draw(text) else f"class {label}"


def one_line(name: str) -> str:
    """A name without characters that are not seen, on one line."""
    return printable(" ".join(name.split()))


@cache
def can_draw(text: str) -> bool:
    """Whether every character of `text` is drawn as itself: a font has it, and its script can be set."""
    needs_raqm = any(
        unicodedata.bidirectional(letter) in ("R", "AL") or any(a <= ord(letter) <= b for a, b in JOINED_SCRIPTS)
        for letter in text
    )
    if needs_raqm and not features.check("raqm"):
        return False
    return split_by_font(text) is not None or (text.isascii() and text.isprintable())


def add_caption(image: Image.Image, rows: Sequence[Row]) -> Image.Image:
    """Return a new image: `image` [H, W] RGB as it is, and a line per row below it.

    The first row is larger than the others. A name that is too long is cut, its score is not.
    """
    width = max(image.width, LEAST_WIDTH, image.height // 2)
    first = min(max(width // 22, 17), 40)  # height of the letters in pixels
    heights = [first] + [round(0.78 * first)] * (len(rows) - 1)
    margin = first // 2
    lines = [round(1.6 * height) for height in heights]
    canvas = Image.new("RGB", (width, image.height + sum(lines) + margin), PAPER)
    canvas.paste(image, ((width - image.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    top = image.height + margin // 2
    for place, (row, height, line) in enumerate(zip(rows, heights, lines, strict=True)):
        ink, bar = (INK, BAR) if place == 0 else (FAINT, FAINT_BAR)
        if row.score is not None:
            draw.rectangle((0, top + 1, round(row.score * (width - 1)), top + line - 2), fill=bar)
        baseline = top + (line + round(0.7 * height)) // 2
        score = "" if row.score is None else percent(row.score)
        room = width - 2 * margin
        if score:
            score_width = text_width(score, height)
            draw_text(draw, (width - margin - score_width, baseline), score, height, ink)
            room -= score_width + margin
        draw_text(draw, (margin, baseline), cut_to_width(row.name, height, room), height, ink)
        top += line
    return canvas


def percent(score: float) -> str:
    """A probability as people read it: `93.1 %`; never 100 or 0 where it is not."""
    if score < 0.001:
        return "< 0.1 %" if score > 0 else "0 %"
    return "> 99.9 %" if 0.9995 <= score < 1 else f"{100 * score:.1f} %"


def cut_to_width(text: str, height: int, width: float) -> str:
    """`text`, or its beginning and `...`, so that it is at most `width` pixels wide."""
    if text_width(text, height) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # the longest beginning that fits
        middle = (low + high + 1) // 2
        if text_width(f"{text[:middle].rstrip()}...", height) <= width:
            low = middle
        else:
            high = middle - 1
    return f"{text[:low].rstrip()}..."


def text_width(text: str, height: int) -> float:
    """Width of a drawn text in pixels."""
    return sum(_load_font(font, height).getlength(run) for run, font in _runs(text))


def draw_text(draw: ImageDraw.ImageDraw, start: tuple[float, float], text: str, height: int, ink: tuple) -> None:
    """Draw a text of one line.

    Args:
        draw: of the image.
        start: left end of the base line.
        text: may be in several scripts.
        height: size of the font in pixels.
        ink: colour.
    """
    left, baseline = start
    for run, font in _runs(text):
        loaded = _load_font(font, height)
        draw.text((left, baseline), run, font=loaded, fill=ink, anchor="ls")
        left += loaded.getlength(run)


@cache
def _runs(text: str) -> list[tuple[str, FontFile | None]]:
    return split_by_font(text) or [(text, None)]


@cache
def _load_font(font: FontFile | None, height: int) -> ImageFont.FreeTypeFont:
    """A font in one size; None is the font that Pillow brings, which has ASCII."""
    return ImageFont.truetype(font.path, height, index=font.index) if font else ImageFont.load_default(height)
