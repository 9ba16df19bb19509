"""A plain folder: which folders are split, what is in them, and what the message says of each that cannot be."""

import os

import pytest

from common.errors import DataError
from datasets.split.plain_folder import find_plain_folder, is_plain_folder
from tests.datasets.fake_images import fake_image


def write(folder, *names):
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fake_image(seed=seed).save(path, "PNG")
    return folder


def test_a_folder_of_classes_is_plain_and_one_with_train_or_val_is_not(tmp_path):
    assert is_plain_folder(write(tmp_path / "own", "a/1.png", "b/1.png"))
    assert not is_plain_folder(write(tmp_path / "laid out", "train/a/1.png", "val/a/1.png"))
    assert not is_plain_folder(write(tmp_path / "half", "train/a/1.png"))
    assert is_plain_folder(tmp_path / "half/train")  # nothing beside it that would be its other half
    assert not is_plain_folder(tmp_path / "none")


@pytest.mark.parametrize(("name", "message"), [("train", "did you mean"), ("val", "did you mean")])
def test_half_of_a_split_asks_for_the_whole(tmp_path, name, message):
    write(tmp_path, "train/a/1.png", "val/a/1.png")
    with pytest.raises(DataError, match=rf"{message} {tmp_path}, which holds train/ and val/\?"):
        is_plain_folder(tmp_path / name)


def test_a_class_that_is_called_train_is_told_from_a_split(tmp_path):
    with pytest.raises(DataError, match=r"folder train has no class folders and stands beside bus, car, .* train_"):
        is_plain_folder(write(tmp_path / "vehicles", "bus/1.png", "car/1.png", "train/1.png"))
    assert not is_plain_folder(write(tmp_path / "laid out", "train/a/1.png", "meta/1.png"))


def test_other_names_of_a_split_are_no_classes(tmp_path):
    write(tmp_path, "Training/a/1.png", "validation/a/1.png")
    with pytest.raises(DataError, match="got Training, validation; rename them to train and val"):
        is_plain_folder(tmp_path)


def test_one_file_of_every_kind(tmp_path):
    write(tmp_path, "Кошки/1.JPG", "Кошки/2019/old/2.JPEG", "狗/1.png", "1.png", "test/x.gif")
    write(tmp_path, ".git/1.png", "@eaDir/1.png", "狗/.ipynb_checkpoints/1.png", "__MACOSX/1.png")
    (tmp_path / "read me.txt").write_text("")
    (tmp_path / "狗/2.HEIC").write_bytes(b"\0" * 40)
    (tmp_path / "狗/line\nbreak.png").write_bytes((tmp_path / "狗/1.png").read_bytes())
    (tmp_path / "empty").mkdir()
    folder = find_plain_folder(tmp_path)
    assert folder.names == ("test", "Кошки", "狗")
    assert set(folder.paths) == {"test/x.gif", "Кошки/1.JPG", "Кошки/2019/old/2.JPEG", "狗/1.png", "狗/line\nbreak.png"}
    assert [folder.names[label] for label in folder.labels] == [path.split("/")[0] for path in folder.paths]
    assert folder.unlistable == ("狗/line\nbreak.png",)
    remarks = "\n".join(folder.remarks)
    for text in (
        "folders without a picture are no classes: empty",
        "2 files beside the class folders are not used: 1.png, read me.txt",
        "test is taken for a class",
        "1 .git, 1 .ipynb_checkpoints, 1 @eaDir, 1 __MACOSX",
        "1 .heic file is not read: convert it to JPEG or PNG, for example with magick mogrify -format jpg *.heic",
    ):
        assert text in remarks


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "expected one folder of pictures per class, or train/ and val/ with one each, got none"),
        (["1.png", "2.png"], r"got 2 pictures that lie in it directly: 1.png, 2.png. .*did you mean .*\?"),
        (["cats/1.png"], "one class only, cats, and a classifier needs two"),
        (["photos/cats/1.png", "photos/dogs/1.png"], r"did you mean .*/photos, which holds cats, dogs"),
        (["1.png", "old/1.png"], r"got 1 picture that lies .* beside that is the folder old. .* did you mean"),
        (["# a/1.png", "b/1.png"], "no line of a list can hold the names of class '# a'; rename the folder"),
        ([" a/1.png", "b/1.png"], "no line of a list can hold the names of class ' a'; rename the folder"),
    ],
)
def test_what_is_no_folder_of_classes_is_an_error_with_a_next_step(tmp_path, files, message):
    write(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        find_plain_folder(tmp_path)


def test_a_class_of_heic_files_alone_is_an_error(tmp_path):
    write(tmp_path, "a/1.png", "b/1.png", "c/1.heic")
    with pytest.raises(DataError, match=r"no picture of class c can be read; 1 .heic file is not read: convert"):
        find_plain_folder(tmp_path)


def test_class_names_that_look_alike_are_named(tmp_path):
    write(tmp_path, "cafe\u0301/1.png", "caf\u00e9/1.png", "Dog/1.png", "dog/1.png")
    remarks = "\n".join(find_plain_folder(tmp_path).remarks)
    assert "'cafe\\u0301' and 'caf\\xe9' look alike" in remarks and "'Dog' and 'dog' look alike" in remarks


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_class_whose_name_is_not_utf8_is_an_error(tmp_path):
    write(tmp_path, "a/1.png", os.fsdecode(b"\xb9\xb7") + "/1.png")
    with pytest.raises(DataError, match="convmv"):
        find_plain_folder(tmp_path)
