"""Fixtures of the tests of datasets.check: small class folders, and a check of them."""

import json
from itertools import product

import pytest

from datasets.check.__main__ import main
from tests.datasets.fake_images import fake_image


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """train/ and val/ with the class folders a and b, two PNG files in each."""
    monkeypatch.setattr("datasets.check.__main__.draw_report", lambda *arguments: None)  # slower than all the rest
    monkeypatch.setattr("datasets.check.findings.FEW", 1)  # no class here has as many images as one should have
    for seed, (split, label, i) in enumerate(product(("train", "val"), "ab", range(2))):
        path = tmp_path / split / label / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        fake_image(48, 40, seed).save(path)
    return tmp_path


@pytest.fixture
def check():
    """A function that checks a folder with more flags, and returns the exit code and check.json."""

    def check_folder(folder, *flags):
        out = folder.with_name(f"{folder.name}-check")  # in the folder it would be a class
        code = main([str(folder), "--num_workers=0", "--output_dir", str(out), *map(str, flags)])
        return code, json.loads((out / "check.json").read_text())

    return check_folder
