"""Two linear layers in both frameworks, with code of a test between them, in files of a temporary folder."""

from pathlib import Path

NET = """
import sys
import {package}
from {package} import nn

class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.first(x)
        {code}
        return self.second(x) {scale}
"""
WORDS = {"torch": ("Module", "ref.py"), "paddle": ("Layer", "port.py")}


def write_net(folder: Path, package: str, code: str, *, scale: str = "", end: str = "") -> None:
    """Write the net of a framework into its file.

    Args:
        folder: where port.py and ref.py are.
        package: key of WORDS.
        code: between the two layers.
        scale: behind the output.
        end: last lines of the file.
    """
    base, name = WORDS[package]
    (folder / name).write_text(NET.format(package=package, base=base, code=code, scale=scale) + end)
