"""Make names that come from files safe to show: on a terminal, in a log, in XML, and in the cell of a spreadsheet."""

import json
import re
import sys
import unicodedata
from typing import TextIO

# U+200C and U+200D join or separate letters of Persian, of Indian scripts and of emoji, and do no more than that.
JOINERS = "\u200c\u200d"
# Control characters and halves of surrogate pairs; line and paragraph separators; format characters, which hide a text
# or show it in another order than it has (U+202E turns "gpj.exe" round).
HIDDEN_CATEGORIES = {"Cc", "Cs", "Zl", "Zp", "Cf"}
NONCHARACTERS = "\ufffe\uffff"  # which XML does not allow
# Spreadsheet programs run a cell as a formula that begins with one of these, also behind a quote that was typed.
FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def printable(name: object) -> str:
    """Return `str(name)` with every character escaped that is not shown as itself, a line break among them.

    The escapes are those of Python: `\\x1b`, `\\u202e`, and `\\udcff` for a byte of a file name that is not UTF-8.
    """
    text = str(name)
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def printable_lines(text: str) -> str:
    """Return a message or a record of a log as `printable` does, with its line breaks and tabs kept.

    A name in the message may hold a line break, too. So the lines after the first one are indented, if they are not
    already: none of them can be taken for a message of its own.
    """
    lines = ["\t".join(map(printable, line.split("\t"))) for line in text.split("\n")]
    return "\n".join([lines[0], *(f"  {line}" if line and line[0] not in " \t" else line for line in lines[1:])])


def printable_json(value: object) -> str:
    """Return a value as JSON in which the characters that `printable` escapes are escaped, and letters are not.

    A JSON reader gets the same value.
    """
    text = json.dumps(value, ensure_ascii=False)
    return text if printable(text) == text else "".join(json.dumps(c)[1:-1] if _shown(c) != c else c for c in text)


def print_safely(message: object, file: TextIO | None = None) -> None:
    """Print `printable_lines(str(message))` at once, by default on stdout."""
    print(printable_lines(str(message)), file=file or sys.stdout, flush=True)


def spreadsheet_text(cell: object, *, allow_formulas: bool = False) -> object:
    """Return a cell of a table; a text that a spreadsheet would run as a formula gets a `'` before it.

    Numbers stay numbers, and `allow_formulas` leaves formulas as they are. `original_text` undoes it in both cases, for
    which a text that has such a quote already gets one more.
    """
    if isinstance(cell, str) and FORMULA.match(cell) and not (allow_formulas and cell[0] != "'"):
        return f"'{cell}"
    return cell


def original_text(cell: str) -> str:
    """Return the text of a cell that `spreadsheet_text` made."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _shown(character: str) -> str:
    is_hidden = unicodedata.category(character) in HIDDEN_CATEGORIES or character in NONCHARACTERS
    if not is_hidden or character in JOINERS:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()
