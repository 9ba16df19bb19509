"""Write the table of results in both READMEs from results.jsonl: python -m benchmarks.results_table [--check]."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.fashion import LONG
from benchmarks.record import RESULTS, read_results
from common.cli import run as run_program
from common.files import write_atomically
from common.marked_text import replaced
from common.printable import print_safely

ROOT = Path(__file__).parent.parent
MARKS = ("<!-- results: python -m benchmarks.results_table -->", "<!-- end of results -->")
PUBLISHED = "94.9 ResNet-18, 95.4 DenseNet-BC, 96.7 WRN-40-4"  # in the README of Fashion-MNIST; not of these networks
ONE_PROCESS = ("--batch_size", "128")  # the steps of the recipes' two processes of 64 images
# (data, network, form of the benchmark or recipe, epochs, published accuracy in percent, command that fills the row)
ROWS = (
    ("Fashion-MNIST", "peleenet", "short", 5, PUBLISHED, "python -m benchmarks.fashion --models peleenet"),
    ("Fashion-MNIST", "peleenet", "long", 30, PUBLISHED, "python -m benchmarks.fashion --models peleenet --part long"),
    (
        "Fashion-MNIST", "mobilenet_v3_small", "short", 5, PUBLISHED,
        "python -m benchmarks.fashion --models mobilenet_v3_small",
    ),
    (
        "Fashion-MNIST", "mobilenet_v3_small", "long", 30, PUBLISHED,
        "python -m benchmarks.fashion --models mobilenet_v3_small --part long",
    ),
    ("ImageNet-1k", "peleenet", "peleenet_imagenet_120", 120, "71.3", "the head of the recipe"),
    ("ImageNet-1k", "mobilenet_v3_small", "mobilenet_v3_small_imagenet_120", 120, "60.1", "the head of the recipe"),
    ("ImageNet-1k", "alexnet", "alexnet_imagenet_120", 120, "56.4", "the head of the recipe"),
)  # fmt: skip
HEADS = {
    "README.md": ("data", "network", "recipe", "epochs", "seconds", "top-1 here (%)", "PyTorch, same recipe (%)",
                  "published (%)", "command"),
    "README_ch.md": ("数据", "网络", "配方", "轮数", "秒", "本项目 top-1 (%)", "PyTorch，同一配方 (%)", "已发表 (%)",
                     "命令"),
}  # fmt: skip
WORDS = {
    "README.md": {"not yet": "not yet", "the head of the recipe": "the head of the recipe", "seeds": "{} seeds"},
    "README_ch.md": {"not yet": "尚未", "the head of the recipe": "配方开头", "seeds": "{} 个种子"},
}


def table(lines: Iterable[dict], page: str) -> str:
    """The table of a page: one row for each of ROWS, with the newest settings that were measured.

    Args:
        lines: of results.jsonl: those of benchmarks.fashion, and results of `alignment train_full`.
        page: key of HEADS.
    """
    lines, words = list(lines), WORDS[page]
    texts = [f"| {' | '.join(HEADS[page])} |", "|---" * len(HEADS[page]) + "|"]
    for data, network, form, epochs, published, command in ROWS:
        runs = _newest(line for line in lines if line.get("benchmark") == "fashion_mnist"
                       and (line["model"], line["arm"]) == (network, form))  # fmt: skip
        runs = runs if data == "Fashion-MNIST" else []
        full = [line for line in lines if data == "Fashion-MNIST" and _is_comparison_of(line, network, form)]
        here = _mean([run["top1_percent"] for run in runs], words) or words["not yet"]
        theirs = [run["top1_percent"][-1] for run in full[-1]["pytorch"]] if full else []
        seconds = f"{fmean(run['seconds'] for run in runs):.0f}" if runs else ""
        recipe = f"`fashion_mnist_{network}`, {form}" if data == "Fashion-MNIST" else f"`{form}`"
        told = words.get(command, f"`{command}`")
        number = str(runs[0]["epochs"] if runs else epochs)
        cells = (
            data,
            f"`{network}`",
            recipe,
            number,
            seconds,
            here,
            _mean(theirs, words) or words["not yet"],
            published,
        )
        texts.append(f"| {' | '.join((*cells, told))} |")
    return "\n".join(texts)


def _is_comparison_of(line: dict, network: str, form: str) -> bool:
    """Whether a line is a result of `alignment train_full` with the settings of a form of the benchmark."""
    about = ("train_full", network, f"fashion_mnist_{network}")
    if (line.get("benchmark"), line.get("case"), line.get("recipe")) != about:
        return False
    return sorted(line["flags"]) == sorted((*ONE_PROCESS, *(LONG if form == "long" else ())))


def _newest(lines: Iterable[dict]) -> list[dict]:
    """The lines with the settings of the last one: other seeds of one form."""
    lines = list(lines)
    return [line for line in lines if line["settings"] == lines[-1]["settings"]]


def _mean(values: Sequence[float], words: dict[str, str]) -> str:
    if not values:
        return ""
    spread = f" ± {stdev(values):.2f} ({words['seeds'].format(len(values))})" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results_table", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a page is not up to date"
    )
    flags = parser.parse_args(argv)
    lines = read_results(RESULTS)
    old = 0
    for page in HEADS:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        if (new := replaced(text, MARKS, table(lines, page), page)) != text:
            old += 1
            if not flags.check:
                write_atomically(path, new)
            print_safely(f"{page}: {'is not up to date' if flags.check else 'written'}")
    return int(flags.check and old > 0)


if __name__ == "__main__":
    run_program(main)
