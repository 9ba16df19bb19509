"""Count what docs/design.md states about the layout: `python -m tests.layout_report`."""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from PIL import Image

from tests.source import ROOT, files, functions_of, nodes, num_parameters, part_of, text_of, tree_of

MIN_DUPLICATE_LINES = 6
# Signatures that other projects fix.
PEER_SIGNATURES = {"alignment/compat/padiff.py: auto_diff"}

# Runs in every process of a traced training, as the module that Python imports at its start. Notes each file of the
# project with a function that takes or returns the image: its path, its bytes, an image of Pillow, an array of three
# axes or more, a tensor, or a tuple, a list or an object of the project that holds one of these. In the main process
# from `fit` to the end of the first optimizer step, in a worker from the first batch that it fills.
TRACER = """
import os, sys, threading
ROOT, NOTES = os.environ["TRACE_ROOT"] + "/", os.environ["TRACE_NOTES"]
BEGIN = {("engine/fit.py", "fit"), ("datasets/loading/sample.py", "fill_batch")}
seen, state = set(), {"is_on": False}

def is_image(value, depth=3):
    kind = type(value)
    if kind is str:
        return value.endswith(".jpg")
    if kind in (bytes, bytearray, memoryview):
        return len(value) > 500
    if kind.__name__ == "ndarray":
        return value.ndim >= 3
    if kind.__name__ == "Tensor" or kind.__module__.startswith("PIL."):
        return True
    if depth and isinstance(value, (tuple, list)):
        return any(is_image(item, depth - 1) for item in value[:8])
    if depth and kind.__module__.split(".")[0] in ("datasets", "engine") and hasattr(value, "__dict__"):
        return any(is_image(item, depth - 1) for item in vars(value).values())
    return False

def profile(frame, event, value):
    code = frame.f_code
    name = code.co_filename
    if not name.startswith(ROOT) or name[len(ROOT):].startswith("."):  # .venv lies in the root
        if code.co_name == "clear_grad":
            state["is_on"] = False
            open(NOTES + ".end", "w").close()
        return
    if (name[len(ROOT):], code.co_name) in BEGIN and not os.path.exists(NOTES + ".end"):  # else the evaluation
        state["is_on"] = True
    if not state["is_on"] or name in seen or not code.co_flags & 1:  # 1: a function, no body of a class or module
        return
    if event == "call":
        number = code.co_argcount + code.co_kwonlyargcount
        values = [frame.f_locals.get(name) for name in code.co_varnames[:number]]
    elif event == "return":
        values = [value]
    else:
        return
    if is_image(values):
        seen.add(name)
        with open(NOTES, "a") as file:
            file.write(name[len(ROOT):] + "\\n")

class Start:  # before the modules with the functions of BEGIN: importing Paddle takes four times as long in a profile
    def find_spec(self, name, path=None, target=None):
        if name in ("engine.fit", "datasets.loading.sample"):
            sys.setprofile(profile)
            threading.setprofile(profile)

sys.meta_path.insert(0, Start())
"""


def main() -> None:
    """Print the numbers, and what they consist of."""
    passed = files_of_a_training_image()
    counts = Counter(part_of(path) for path in passed)
    print(f"files that a training image passes: {len(passed)}, " + ", ".join(f"{n} {k}" for k, n in counts.items()))
    print(*(f"    {path}" for path in passed), sep="\n")
    number, name = most_parameters()
    print(f"most parameters of a function: {number} ({name})")
    print(f"lines of main.py: {lines_of_main()}")
    for task, paths in files_to_touch().items():
        print(f"files to touch for {task}: {len(paths)} ({', '.join(paths)})")
    pairs = duplicates()
    print(f"runs of {MIN_DUPLICATE_LINES} equal lines or more outside tests: {len(pairs)}")
    for (first, second), num_lines in pairs.items():
        print(f"    {first} and {second}: {num_lines} lines")


def files_of_a_training_image() -> list[str]:
    """Train one step on made-up images and note the files with a function that takes or returns an image.

    The flags are the defaults of main.py, so the image is cropped, flipped, augmented, erased, and mixed with another.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rng = np.random.default_rng(0)
        for split in ("train", "val"):
            for i in range(4):
                path = folder / split / str(i % 2) / f"{i}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(path)
        (folder / "sitecustomize.py").write_text(TRACER)
        notes = folder / "notes.txt"
        flags = f"--data_path {folder} --nb_classes 2 --input_size 32 --batch_size 4 --epochs 1 --num_workers 1"
        environment = {**os.environ, "PYTHONPATH": str(folder), "TRACE_ROOT": str(ROOT), "TRACE_NOTES": str(notes)}
        command = [sys.executable, "main.py", *flags.split(), "--device", "cpu"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        return sorted(set(notes.read_text().splitlines()))


def most_parameters() -> tuple[int, str]:
    """The largest number of parameters of a function outside tests, and the function."""
    numbers = {
        f"{path}: {name}": num_parameters(function)
        for path in files("*.py")
        if part_of(path) != "tests"
        for name, function in functions_of(path)
    }
    name = max(numbers.keys() - PEER_SIGNATURES, key=lambda name: (numbers[name], name))
    return numbers[name], name


def lines_of_main() -> int:
    """The number of lines of main.py."""
    return text_of("main.py").count("\n")


def files_to_touch() -> dict[str, list[str]]:
    """The files to touch by task, beside those of tests: the lines `Files:` in docs/adding.md."""
    sections = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text_of("docs/adding.md"), re.MULTILINE | re.DOTALL)
    listed = {title: re.search(r"^Files: (.*?)\n\n", body, re.MULTILINE | re.DOTALL) for title, body in sections}
    return {
        title: [path for path in re.findall(r"`([^`]+)`", found[1]) if not path.startswith("tests/")]
        for title, found in listed.items()
        if found
    }


def duplicates() -> dict[tuple[str, str], int]:
    """Runs of equal lines in two places outside tests: ((file:line, file:line), number of lines).

    Indentation, blank lines, comments, docstrings, imports and lines without a letter do not count.
    """
    code = {path: list(_code_lines(path)) for path in files("*.py") if part_of(path) != "tests"}
    windows = defaultdict(list)
    for path, lines in code.items():
        for start in range(len(lines) - MIN_DUPLICATE_LINES + 1):
            windows[tuple(text for _, text in lines[start : start + MIN_DUPLICATE_LINES])].append((path, start))
    pairs = {
        pair for places in windows.values() for pair in combinations_with_replacement(places, 2) if pair[0] != pair[1]
    }
    found = {}
    for (first, i), (second, j) in sorted(pairs):
        if ((first, i - 1), (second, j - 1)) in pairs:
            continue  # inside a longer run
        length = MIN_DUPLICATE_LINES
        while ((first, i + length - MIN_DUPLICATE_LINES + 1), (second, j + length - MIN_DUPLICATE_LINES + 1)) in pairs:
            length += 1
        found[f"{first}:{code[first][i][0]}", f"{second}:{code[second][j][0]}"] = length
    return found


def _code_lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of the lines of a file that count."""
    import ast

    skipped = set()
    for node in nodes(tree_of(path)):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or isinstance(node, (ast.Import, ast.ImportFrom)):
            skipped.update(range(node.lineno, node.end_lineno + 1))
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        text = line.split("  #")[0].strip()
        if number not in skipped and not text.startswith("#") and re.search("[a-zA-Z]", text):
            yield number, text


if __name__ == "__main__":
    main()
