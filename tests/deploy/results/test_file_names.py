"""Names of files made of images: safe on every system, below their folder, never one for two."""

import os
from pathlib import Path

import pytest

from common.errors import UsageError
from deploy.results.file_names import OutputNames, folder_names, numbered_name, refuse_inside_inputs


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("tabby cat", "tabby cat"),
        ("tench, Tinca tinca", "tench, Tinca tinca"),
        ("三只猫", "三只猫"),
        ("../x", "_x"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc", "_etc"),
        ("a/b", "a_b"),
        ("a\\b", "a_b"),
        ("C:\\x", "C__x"),
        ("..", "class 0"),
        ("", "class 0"),
        (" . ", "class 0"),
        (".hidden", "hidden"),
        ("con", "_con"),
        ("Aux.txt", "_Aux.txt"),
        ("COM1", "_COM1"),
        ("console", "console"),
        ("nul\x00\n", "nul__"),
        ("dots...", "dots"),
        ("~", "~"),
        ("x" * 300, "x" * 200),
        ("猫" * 100, "猫" * 66),
        ("bytes \udcff", "bytes _"),
    ],
)
def test_a_class_name_becomes_the_name_of_one_folder(name, folder, tmp_path):
    assert folder_names([name]) == [folder]
    (tmp_path / folder).mkdir()
    assert os.listdir(tmp_path) == [folder]


def test_every_class_has_a_folder_of_its_own():
    names = ["Cat", "cat", "a/b", "a_b", "cafe\u0301", "caf\u00e9", "no class", "cat (class 1)", "..", "class 8"]
    folders = folder_names(names, taken=["no class"])
    assert folders[:6] == ["Cat", "cat (class 1)", "a_b", "a_b (class 3)", "cafe\u0301", "caf\u00e9 (class 5)"]
    assert folders[6:] == ["no class (class 6)", "cat (class 1) (class 7)", "class 8", "class 8 (class 9)"]


def test_outputs_are_named_as_below_their_input_folder(tmp_path):
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    names = OutputNames(tmp_path / "out", [str(tmp_path / "photos"), str(tmp_path / "other" / "one.png")])

    def path_of(name):
        path = names.path_of(str(tmp_path / name), ".jpg", may_replace=lambda path: True)
        return path.relative_to(tmp_path / "out").as_posix()

    assert path_of("photos/a.jpg") == "a.jpg"
    assert path_of("photos/a.png") == "a.png.jpg", "not the name of a.jpg"
    assert path_of("photos/sub/a.jpg") == "sub/a.jpg"
    assert path_of("photos/B.JPG") == "B.JPG"
    assert path_of("other/one.png") == "one.png.jpg"
    assert path_of("elsewhere/A.jpg") == "A (2).jpg", "the same as a.jpg on some systems"
    assert path_of("../x.png") == "x.png.jpg"


def test_only_own_files_are_replaced(tmp_path):
    (tmp_path / "a.jpg").write_text("of the user")
    names = OutputNames(tmp_path, ["photos"])
    assert names.path_of("photos/a.jpg", ".jpg", may_replace=lambda path: False).name == "a (2).jpg"


@pytest.mark.parametrize(
    ("stem", "number", "extension"), [("x" * 250, 1, ".jpg"), ("猫" * 83, 12, ".jpeg"), ("a", 2, "." + "e" * 240)]
)
def test_long_names_are_cut(stem, number, extension, tmp_path):
    (tmp_path / numbered_name(stem, number, extension)).write_text("")
    name = numbered_name(stem, number, extension)
    assert len(os.fsencode(name)) <= 200
    if len(extension) < 9:
        assert name.endswith((f" ({number})" if number > 1 else "") + extension)


@pytest.mark.parametrize("folder", ["photos", "photos/sub/new", "photos/../photos/x", "link/x"])
def test_an_output_folder_inside_an_input_folder_is_refused(tmp_path, folder):
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    with pytest.raises(UsageError, match=r"--sort_into .* is inside the input folder .*photos"):
        refuse_inside_inputs(str(tmp_path / folder), [str(tmp_path / "photos")], "--sort_into")


def test_a_folder_beside_the_inputs_is_taken(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    for folder, given in (("photos sorted", "photos"), (".", "photos"), ("photos", "photos/a.jpg")):
        refuse_inside_inputs(str(tmp_path / folder), [str(tmp_path / given)], "--sort_into")
    assert Path(tmp_path / "photos").exists()
