"""--print: predictions on stdout as records of the predecessor, JSON lines, or a table for people; and the summary."""

import importlib.util
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

from common.errors import MissingDependencyError
from common.printable import print_safely, printable, printable_json

from .caption import percent

MAX_CLASSES = 20  # in a summary
SCORE_WIDTH = 8  # of a column of the table: `> 99.9 %`


def choose_form(asked: str, *, is_saved: bool) -> str:
    """The form that --print means: records, jsonl, table or none.

    auto is a table on a terminal, or none there if the predictions are saved, and records elsewhere.

    Raises:
        MissingDependencyError: --print table without rich.
    """
    has_rich = importlib.util.find_spec("rich") is not None
    if asked == "table" and not has_rich:
        raise MissingDependencyError("--print table needs rich: python -m pip install rich")
    if asked != "auto":
        return asked
    if not sys.stdout.isatty():
        return "records"
    if is_saved:
        return "none"
    if not has_rich:
        print("the table of predictions needs rich: python -m pip install rich", file=sys.stderr)
    return "table" if has_rich else "records"


def print_failures(predictions: Iterable[dict]) -> int:
    """Print on stderr which images could not be read; return their number."""
    failures = [prediction for prediction in predictions if "error" in prediction]
    for prediction in failures:
        print_safely(f"error: {prediction['file_name']}: {prediction['error']}", sys.stderr)
    return len(failures)


class Records:
    """The predecessor's form: the predictions of a batch as one list of Python dicts."""

    def write(self, predictions: Iterable[dict]) -> None:
        """Print the predictions of a batch."""
        successes = [prediction for prediction in predictions if "error" not in prediction]
        if successes:
            print(successes, flush=True)


class JsonLines:
    """One JSON object per image, those that could not be read too: they have the key `error`."""

    def write(self, predictions: Iterable[dict]) -> None:
        """Print the predictions of a batch."""
        for prediction in predictions:
            print(printable_json(prediction), flush=True)


class Table:
    """One line per image for people: file, class, score, and the next classes; of a single image one line per class."""

    def __init__(self, paths: Sequence[str], class_names: Sequence[str] | None):
        """Choose the widths of the columns for these images and names, and the width of the terminal."""
        from rich.console import Console

        self._console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self._folder = common_folder(paths)
        self._is_single = len(paths) == 1
        self._has_header = False
        total = max(self._console.width, 40)
        longest = max((_cells(printable(self._name(path))) for path in paths), default=0)
        self._file_width = min(max(longest, len("image")), total * 2 // 5)
        longest = max((_cells(printable(name)) for name in class_names or ()), default=len("class 1000"))
        self._class_width = min(max(longest, len("class")), total * 2 // 5 if self._is_single else total * 3 // 10)

    def write(self, predictions: Iterable[dict]) -> None:
        """Print the predictions of a batch."""
        if not self._has_header:
            self._has_header = True
            if self._folder:
                print_safely(f"images in {self._folder}:")
            self._print("image", ("class", "score"), "" if self._is_single else "next", is_header=True)
        for prediction in predictions:
            if "error" in prediction:
                continue
            classes = [
                (printable(name), percent(score))
                for name, score in zip(prediction["label_names"], prediction["scores"], strict=True)
            ] or [("-", "")]
            name = printable(self._name(prediction["file_name"]))
            if self._is_single:
                for place, one in enumerate(classes):
                    self._print(name if place == 0 else "", one, "")
            else:
                self._print(name, classes[0], ", ".join(f"{name} {score}" for name, score in classes[1:]))

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self._folder) if self._folder else path

    def _print(self, name: str, best: tuple[str, str], others: str, *, is_header: bool = False) -> None:
        from rich.text import Text

        label, score = best
        line = Text(no_wrap=True, overflow="ellipsis", style="bold" if is_header else "")
        line.append(_fit(name, self._file_width, keep_end=True))
        line.append(f"  {_fit(label, self._class_width)}", style="bold")
        line.append(f"  {score:>{SCORE_WIDTH}}", style="" if is_header else "cyan")
        line.append(f"  {others}".rstrip(), style="" if is_header else "dim")
        self._console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
        sys.stdout.flush()


class Nothing:
    """Prints no predictions."""

    def write(self, predictions: Iterable[dict]) -> None:
        """Print nothing."""


def common_folder(paths: Sequence[str]) -> str:
    """The innermost folder that holds all `paths`; "" if there is none, or a name does not become shorter by it."""
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    except ValueError:  # some paths begin at the root, or on another drive
        return ""
    return "" if folder in (os.sep, ".") else folder


def _cells(text: str) -> int:
    """Columns that a text takes on a terminal: Chinese letters take two."""
    from rich.cells import cell_len

    return cell_len(text)


def _fit(text: str, width: int, *, keep_end: bool = False) -> str:
    """A text in exactly `width` columns: padded, or cut; the end of a path tells files of one folder apart."""
    from rich.cells import set_cell_size

    if _cells(text) <= width:
        return set_cell_size(text, width)
    while _cells(text) > width - 3:
        text = text[1:] if keep_end else text[:-1]
    return set_cell_size(f"...{text}" if keep_end else f"{text}...", width)


class Summary:
    """Counts the images of each class."""

    def __init__(self):
        self._counts: Counter[str] = Counter()
        self._num_images = self._num_failures = 0

    def write(self, predictions: Iterable[dict]) -> None:
        """Count the predictions of a batch by their most probable class."""
        for prediction in predictions:
            self._num_images += 1
            if "error" in prediction:
                self._num_failures += 1
            else:
                self._counts[(prediction["label_names"] or ["no class reaches the threshold"])[0]] += 1

    def print(self) -> None:
        """Print on stderr how many images were predicted, how many of each class, and how many could not be read."""
        images = "1 image" if self._num_images == 1 else f"{self._num_images} images"
        failures = f", of which {self._num_failures} could not be read" if self._num_failures else ""
        lines = [f"{images} predicted{failures}:"]
        width = len(str(max(self._counts.values(), default=0)))
        room = shutil.get_terminal_size().columns - width - 4
        for name, count in self._counts.most_common(MAX_CLASSES):
            name = printable(name)
            lines.append(f"  {count:>{width}}  {name if len(name) <= room else name[: max(room - 3, 1)] + '...'}")
        if len(self._counts) > MAX_CLASSES:
            rest = sum(count for _, count in self._counts.most_common()[MAX_CLASSES:])
            lines.append(f"  {rest:>{width}}  in {len(self._counts) - MAX_CLASSES} more classes")
        for line in lines:
            print_safely(line, sys.stderr)
