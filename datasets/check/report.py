"""The report of a check: on the terminal, as JSON, and as one plot."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.figure_fonts import import_pyplot
from common.files import atomic_write, write_atomically
from common.printable import printable

from .findings import KINDS, Finding, Split


def summary(split: Split) -> dict:
    """Counts, classes and sizes of a split, as plain values."""
    good = split.facts[split.facts["width"] > 0]
    labels, counts = np.unique(split.images.labels, return_counts=True)
    short = np.minimum(good["width"], good["height"])
    aspect = good["width"] / np.maximum(good["height"], 1)
    return {
        "images": len(split.images),
        "decodable": len(good),
        "megabytes": round(int(np.maximum(split.facts["num_bytes"], 0).sum()) / 2**20, 3),
        "classes": len(labels),
        "images_per_class": {str(label): count for label, count in zip(labels.tolist(), counts.tolist(), strict=True)},
        "short_side_percentiles": _percentiles(short),
        "aspect_percentiles": _percentiles(aspect),
        "formats": _counts(good["format"]),
        "modes": _counts(good["mode"]),
    }


def _percentiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    points = (0, 5, 50, 95, 100)
    return {str(at): round(float(value), 3) for at, value in zip(points, np.percentile(values, points), strict=True)}


def _counts(values: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    return {name.decode(): int(count) for name, count in zip(names.tolist(), counts.tolist(), strict=True)}


def write_json(splits: Sequence[Split], findings: Sequence[Finding], path: Path) -> None:
    """Write summary and findings for programs.

    Raises:
        OSError: the file cannot be written.
    """
    report = {
        "splits": {split.name: summary(split) for split in splits},
        "findings": [
            {
                "kind": finding.kind,
                "severity": finding.severity,
                "split": finding.split,
                "count": finding.count,
                "what": KINDS[finding.kind].what,
                "fix": KINDS[finding.kind].fix,
                "examples": finding.examples,
            }
            for finding in findings
        ],
    }
    text = json.dumps(report, indent=1, ensure_ascii=False)
    write_atomically(path, text.encode("utf-8", errors="backslashreplace"))


def print_report(splits: Sequence[Split], findings: Sequence[Finding], root: str) -> None:
    """Print a table of the splits, and a paragraph for each finding; paths are shown from `root` on."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table("", *(split.name for split in splits), box=SIMPLE, pad_edge=False)  # a column a split: fits 80
    columns = [_column(summary(split)) for split in splits]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    console.print(table)
    for finding in findings:
        kind, colour = KINDS[finding.kind], {"error": "red", "warning": "yellow"}[finding.severity]
        console.print(f"[bold {colour}]{finding.severity}[/] {finding.split}: {kind.what}: {finding.count:,}")
        for example in finding.examples:
            below = example.replace(f" ({root})", "").replace(os.path.join(root, ""), "")
            console.print(f"    {escape(printable(below))}")
        if finding.count > len(finding.examples):
            console.print(f"    and {finding.count - len(finding.examples):,} more")
        console.print(f"  fix: {kind.fix}")
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    console.print(f"{errors} kind{'s' * (errors != 1)} of errors, {warnings} kind{'s' * (warnings != 1)} of warnings")


def _column(facts: dict) -> dict[str, str]:
    counts = list(facts["images_per_class"].values()) or [0]
    return {
        "images": f"{facts['images']:,}",
        "readable": f"{facts['decodable']:,}",
        "MB": f"{facts['megabytes']:,.1f}",
        "classes": f"{facts['classes']:,}",
        "images per class": f"{min(counts):,} - {max(counts):,}",
        "short side in pixels": _span(facts["short_side_percentiles"]),
        "width / height": _span(facts["aspect_percentiles"]),
    }


def _span(percentiles: dict[str, float]) -> str:
    return " - ".join(f"{round(percentiles[at], 2):g}" for at in ("0", "100")) if percentiles else "-"


def draw_report(splits: Sequence[Split], path: Path) -> None:
    """Plot images per class, sizes, aspects and bytes of the splits, as four panels.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    pyplot = import_pyplot("check.png is drawn by matplotlib")
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
    classes, sides, aspects, sizes = axes.flat
    for split in splits:
        good = split.facts[split.facts["width"] > 0]
        counts = np.sort(np.unique(split.images.labels, return_counts=True)[1])[::-1]
        classes.step(np.arange(len(counts)), counts, where="mid", label=split.name)
        if len(good):
            style = {"bins": 40, "histtype": "step", "label": split.name, "density": True}
            sides.hist(np.minimum(good["width"], good["height"]), **style)
            aspects.hist(np.log2(good["width"] / good["height"]), **style)
            sizes.hist(np.log10(np.maximum(good["num_bytes"], 1)), **style)
    labels = ("classes, the largest first", "short side in pixels", "log2 of width / height", "log10 of bytes")
    for axis, label in zip(axes.flat, labels, strict=True):
        axis.set_xlabel(label)
        axis.set_ylabel("images" if axis is classes else "density")
        if axis.get_legend_handles_labels()[0]:  # an empty panel, where no image could be read, has no legend
            axis.legend()
    classes.set_ylim(bottom=0)
    with atomic_write(path) as file:
        figure.savefig(file, dpi=120, format="png")
    pyplot.close(figure)
