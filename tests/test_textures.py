"""The drawn pictures are the same every time, and the messy folder holds what its description says."""

import numpy as np
import pytest
from PIL import Image

from demo import textures
from demo.textures import DRAW, draw_texture, write_textures
from tests.messy_folder import NOT_READABLE, write_messy_folder


@pytest.mark.parametrize("name", DRAW)
def test_a_texture_depends_on_name_and_seed_alone(name):
    first, again, other = (np.asarray(draw_texture(name, seed)) for seed in ([0, 1], [0, 1], [0, 2]))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)
    assert first.std() > 20  # a structure, not one colour


def test_textures_are_written_by_class(tmp_path):
    write_textures(tmp_path, {"wood": 2, "brick": 1})
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jpg")) == [
        "brick/brick_000.jpg",
        "wood/wood_000.jpg",
        "wood/wood_001.jpg",
    ]


def test_the_program_writes_all_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(textures, "draw_texture", lambda name, seed: Image.new("RGB", (8, 8)))
    assert textures.main([str(tmp_path / "My Pictures")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'My Pictures'}: 310 pictures in 5 classes\n"
    assert len(list(tmp_path.rglob("*.jpg"))) == 310


def test_new_pictures_are_no_copies_of_the_others(tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(textures, "draw_texture", lambda *draw: drawn.append(draw) or Image.new("RGB", (8, 8)))
    assert textures.main([str(tmp_path / "a"), "--new_pictures", str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.endswith(f"wrote {tmp_path / 'b'}: 10 pictures without a class\n")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == sorted(f"{i}.jpg" for i in range(1, 11))
    assert len({(name, *seed) for name, seed in drawn}) == 320


def test_the_messy_folder_has_its_faults(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.messy_folder.draw_texture", lambda name, seed: Image.new("RGB", (20, 10)))
    write_messy_folder(tmp_path, share=0.2)
    assert all((tmp_path / name).is_file() for name in NOT_READABLE)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"трава", "石头", "__MACOSX", "new folder", "Thumbs.db"} <= names
    assert (tmp_path / "трава" / "grass 000.jpg").read_bytes() == (tmp_path / "water, still/DSC_0001.jpg").read_bytes()
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} >= {".PNG", ".JPEG", ".gif", ".HEIC"}
