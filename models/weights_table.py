"""A row of the table of public weights, and the table as text, for a terminal and for docs/pretrained.md."""

from collections.abc import Mapping
from typing import NamedTuple

from .weights_cache import PublicFile

BYTES_PER_PARAMETER = 4  # float32, of which all files of the table are

HEADINGS = {
    "en": ("name", "networks", "MB", "top-1 %", "top-5 %", "checksum", "not verified", "licence"),
    "ch": ("名称", "网络", "MB", "top-1 %", "top-5 %", "校验和", "未核实", "许可证"),
}
UNVERIFIED_CH = {"size": "大小", "checksum": "校验和", "top-5": "top-5"}
NO_CHECKSUM = {"en": "noted at the first download", "ch": "首次下载时记录"}
CHECKSUMS = {"sha256": "SHA-256", "md5": "MD5", "git": "git (SHA-1)"}
ON_TERMINAL = ("name", "MB", "top-1 %", "top-5 %", "checksum", "licence")


class PublicWeights(NamedTuple):
    """A row of the table: a file of weights of 1000 ImageNet classes and the facts that its publisher states.

    Attributes:
        models: names of the network that the weights fit; most have one.
        url: address of the file; its last part is the name of the file.
        checksum: see `PublicFile.checksum`.
        num_parameters: trainable parameters of the network, which the file holds as float32.
        top1_percent: accuracy on ImageNet's validation images, as published.
        top5_percent: the same for the five most probable classes; None where none is published.
        layout: whose names and layouts the file has.
        licence: of the repository that publishes the file.
        unverified: facts that are not published, or in one source only that is not the publisher's.
        num_bytes: size of the file; None where none is published.
        resize_size: short side of the resized image in the published evaluation, in pixels.
        input_size: side of the crop in the published evaluation, in pixels.
        interpolation: of the published evaluation.
        num_classes: width of the head.
    """

    models: tuple[str, ...]
    url: str
    checksum: str
    num_parameters: int
    top1_percent: float
    top5_percent: float | None
    layout: str
    licence: str
    unverified: tuple[str, ...] = ()
    num_bytes: int | None = None
    resize_size: int = 256
    input_size: int = 224
    interpolation: str = "bilinear"
    num_classes: int = 1000

    @property
    def file(self) -> PublicFile:
        """What the download needs to know."""
        return PublicFile(self.url, self.checksum, self.num_bytes, BYTES_PER_PARAMETER * self.num_parameters)

    @property
    def megabytes(self) -> float:
        """Size of the file, or the least that it can be, in 10^6 bytes."""
        return (self.num_bytes or self.file.least_bytes) / 1e6


def cells(weights: Mapping[str, PublicWeights], language: str) -> list[tuple[str, ...]]:
    """One tuple of texts per row of the table, in the order of HEADINGS."""
    lines = []
    for name, row in weights.items():
        unverified = [fact if language == "en" else UNVERIFIED_CH[fact] for fact in row.unverified]
        line = (
            name,
            ", ".join(row.models),
            f"{'' if row.num_bytes else '> '}{row.megabytes:.1f}",
            f"{row.top1_percent:.2f}",
            "" if row.top5_percent is None else f"{row.top5_percent:.2f}",
            CHECKSUMS.get(row.checksum.partition(":")[0], NO_CHECKSUM[language]),
            ", ".join(unverified),
            row.licence,
        )
        lines.append(line)
    return lines


def as_markdown(weights: Mapping[str, PublicWeights], defaults: Mapping[str, str], language: str) -> str:
    """The table of docs/pretrained.md; a default is bold."""
    rows = [HEADINGS[language], ["---"] * len(HEADINGS[language])]
    for name, *others in cells(weights, language):
        rows.append((f"**`{name}`**" if name in defaults.values() else f"`{name}`", *others))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_text(weights: Mapping[str, PublicWeights], defaults: Mapping[str, str]) -> str:
    """The table in columns, without the networks; a default is marked by *."""
    shown = [HEADINGS["en"].index(heading) for heading in ON_TERMINAL]
    rows = [[row[index] for index in shown] for row in (HEADINGS["en"], *cells(weights, "en"))]
    for row in rows:
        row[0] += " *" * (row[0] in defaults.values())
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = "* is what --pretrained without a name takes; > is the least size that the parameters need"
    return "\n".join([*lines, "", notes])
