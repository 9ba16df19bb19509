"""Classes have one source, the data; where two sources name them, they agree by name or are refused."""

import pytest

from common.errors import DataError
from datasets.class_names import imagenet_labels, refuse_other_order
from datasets.classes import Classes, choose_classes, compare_splits, compare_with_weights, describe_order
from datasets.reading.image_folder import scan_image_folder
from datasets.reading.image_list import read_image_list


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "1.jpg").touch()
    return scan_image_folder(root)


def listed(folder, text, root="R"):
    path = folder / f"list-{abs(hash(text))}.txt"
    path.write_text(text)
    return read_image_list(path, root)


def label_list(folder, *names):
    path = folder / "labels.txt"
    path.write_text("".join(f"{number} {name}\n" for number, name in enumerate(names)))
    return str(path)


# --- Number and names -----------------------------------------------------------------------------------------------


def test_class_folders_give_number_and_names(tmp_path):
    images = folders(tmp_path / "train", "cat", "dog")
    for given in (None, 2):
        classes = choose_classes(images, given=given)
        assert (classes.number, classes.names, classes.folders) == (2, ("cat", "dog"), ("cat", "dog"))
        assert "2 classes, the class folders of" in classes.source


@pytest.mark.parametrize("given", [1, 3, 1000])
def test_another_number_than_that_of_the_folders_is_refused(tmp_path, given):
    with pytest.raises(DataError, match=rf"2 class folders \(cat, dog\), but --nb_classes is {given}; leave .* out"):
        choose_classes(folders(tmp_path / "train", "cat", "dog"), given=given)


def test_a_list_gives_the_largest_label_and_one(tmp_path):
    classes = choose_classes(listed(tmp_path, "a.jpg 0\nb.jpg 4\n"))
    assert (classes.number, classes.names) == (5, None)
    assert "the largest label of the list is 4" in classes.source and ":2)" in classes.source


def test_a_list_of_imagenet_has_1000_classes_with_its_names(tmp_path):
    images = listed(tmp_path, "train/n01440764/a.jpg 0\ntrain/n01443537/b.jpg 1\n")
    classes = choose_classes(images)
    assert classes.number == 1000 and classes.names[0].startswith("tench")
    assert "synset folders of ImageNet, with its labels; only 2 of them have training images" in classes.source
    other = choose_classes(listed(tmp_path, "train/n01440764/a.jpg 0\ntrain/cats/b.jpg 1\n"))
    assert (other.number, other.names) == (2, None)


def test_a_part_of_imagenet_with_labels_of_its_own_is_named_by_its_folders(tmp_path):
    """Imagenette is such a list; ImageNet's first names would be wrong for it."""
    lines = "train/n01440764/a.jpg 0\ntrain/n02102040/b.jpg 1\ntrain/n02979186/c.jpg 2\n"
    for given, number in ((None, 3), (3, 3), (1000, 1000)):
        classes = choose_classes(listed(tmp_path, lines), given=given)
        assert classes.number == number
        names = [name.partition(",")[0] for name in classes.names or ()]
        assert names == (["tench", "English springer", "cassette player"] if number == 3 else [])
    assert "the folders, whose labels are not those of ImageNet" in choose_classes(listed(tmp_path, lines)).source
    foreign = choose_classes(listed(tmp_path, "train/n01440764/a.jpg 0\ntrain/n00000001/b.jpg 1\n"))
    assert (foreign.number, foreign.names) == (2, None)


def test_the_folders_of_imagenet_are_in_the_order_of_its_names():
    labels = imagenet_labels()
    assert len(labels) == 1000 and list(labels) == sorted(labels)
    assert [labels["n01440764"], labels["n15075141"]] == [0, 999]


def test_folders_that_are_no_classes_are_not_compared(tmp_path):
    """Two cameras saw both classes."""
    train = listed(tmp_path, "cam1/a.jpg 0\ncam2/b.jpg 1\ncam1/c.jpg 1\ncam2/d.jpg 0\n")
    val = listed(tmp_path, "cam2/e.jpg 0\ncam1/f.jpg 1\n")
    assert compare_splits(train, val, 2) == []


def test_a_name_that_two_classes_have_is_no_conflict(tmp_path):
    """ImageNet has two cranes, a bird and a machine."""
    names = ("crane", "dog", "crane")
    refuse_other_order(names, names, "labels.txt")
    images = listed(tmp_path, "crane/a.jpg 0\ndog/b.jpg 1\n")
    assert choose_classes(images, label_list=label_list(tmp_path, *names)).number == 3
    with pytest.raises(DataError, match="class 0 is dog in the file, crane in the model"):
        refuse_other_order(("dog", "crane", "crane"), names, "labels.txt")


def test_1000_classes_that_are_not_imagenets_have_no_names(tmp_path):
    assert choose_classes(listed(tmp_path, "a.jpg 0\nb.jpg 999\n")).names is None
    assert choose_classes(listed(tmp_path, "a.jpg 0\nb.jpg 9\n"), given=1000).names is None


def test_some_folders_of_imagenet_are_named_as_they_are(tmp_path):
    assert choose_classes(folders(tmp_path / "train", "n01440764", "n01443537")).names == ("n01440764", "n01443537")


def test_a_number_that_is_given_with_a_list(tmp_path):
    images = listed(tmp_path, "a.jpg 0\nb.jpg 4\n")
    assert "only 2 of them have training images" in choose_classes(images, given=9).source
    with pytest.raises(DataError, match=r":2: label 4, but --nb_classes is 4; set --nb_classes 5 or more"):
        choose_classes(images, given=4)


def test_a_label_list_gives_number_and_names_of_a_list(tmp_path):
    images = listed(tmp_path, "a.jpg 0\nb.jpg 2\n")
    classes = choose_classes(images, label_list=label_list(tmp_path, "cat", "dog", "fox"))
    assert (classes.number, classes.names) == (3, ("cat", "dog", "fox"))
    with pytest.raises(DataError, match=r":2: label 2, but .*labels.txt names 2 classes, 0 to 1"):
        choose_classes(images, label_list=label_list(tmp_path, "cat", "dog"))
    crossed = listed(tmp_path, "cat/a.jpg 1\ndog/b.jpg 0\n")
    with pytest.raises(DataError, match=r"the images of folder dog have label 0, but .* gives dog the label 1"):
        choose_classes(crossed, label_list=label_list(tmp_path, "cat", "dog"))


def test_a_label_list_and_folders(tmp_path):
    images = folders(tmp_path / "train", "cat", "dog", "fox")
    same = choose_classes(images, label_list=label_list(tmp_path, "cat", "dog", "fox"))
    assert same.names == same.folders and "names them alike" in same.source
    with pytest.raises(DataError, match=r"(?s)in another order .*0 fox in the list, cat in the folders"):
        choose_classes(images, label_list=label_list(tmp_path, "fox", "cat", "dog"))
    with pytest.raises(DataError, match=r"(?s)names other classes .*2 bear in the list, fox in the folders"):
        choose_classes(images, label_list=label_list(tmp_path, "cat", "dog", "bear"))


@pytest.mark.parametrize("codes", [("n01440764", "n01443537"), ("0", "1")])
def test_a_label_list_may_name_folders_that_are_codes(tmp_path, codes):
    classes = choose_classes(folders(tmp_path / "train", *codes), label_list=label_list(tmp_path, "cat", "dog"))
    assert (classes.names, classes.folders) == (("cat", "dog"), codes)
    assert "cannot be compared" in classes.source


def test_numbers_that_are_not_sorted_as_numbers_are_described():
    assert describe_order([str(number) for number in range(10)]) == ""
    assert describe_order(["cat", "dog"]) == ""
    assert "label 2 is folder '10'" in describe_order(sorted(str(number) for number in range(12)))


# --- Two splits -----------------------------------------------------------------------------------------------------


def test_folders_of_both_splits_have_the_same_names(tmp_path):
    train = folders(tmp_path / "train", "a", "b", "c")
    assert compare_splits(train, train, 3) == []
    val = folders(tmp_path / "val", "a", "c")
    with pytest.raises(DataError, match=r"class b is in .*train but not in .*val"):
        compare_splits(train, val, 3)
    with pytest.raises(DataError, match=r"class b is in .*train but not in .*val"):
        compare_splits(val, train, 3)


def test_the_same_name_in_two_unicode_forms_is_explained(tmp_path):
    train, val = folders(tmp_path / "train", "caf\u00e9", "tea"), folders(tmp_path / "val", "cafe\u0301", "tea")
    with pytest.raises(DataError, match="the same text in another Unicode form"):
        compare_splits(train, val, 2)


def test_a_list_and_folders_with_other_labels_are_refused(tmp_path):
    val = folders(tmp_path / "val", "cat", "dog")
    same = listed(tmp_path, "train/cat/1.jpg 0\ntrain/cat/2.jpg 0\ntrain/dog/1.jpg 1\n")
    crossed = listed(tmp_path, "train/dog/1.jpg 0\ntrain/cat/1.jpg 1\n")
    assert compare_splits(same, val, 2) == compare_splits(val, same, 2) == compare_splits(crossed, crossed, 2) == []
    for pair in ((crossed, val), (val, crossed), (crossed, same)):
        with pytest.raises(DataError, match=r"class .* has label . in .*, but . in "):
            compare_splits(*pair, 2)


def test_a_flat_list_and_folders_cannot_be_compared_which_is_said(tmp_path):
    val, flat = folders(tmp_path / "val", "cat", "dog"), listed(tmp_path, "1.jpg 1\n2.jpg 0\n")
    assert "cannot be compared with the class folders" in compare_splits(flat, val, 2)[0]
    with pytest.raises(DataError, match=r"2 class folders \(cat, dog\) for labels 0 to 2"):
        compare_splits(listed(tmp_path, "1.jpg 1\n2.jpg 2\n"), val, 3)


def test_a_folder_of_another_list_is_no_class(tmp_path):
    vehicles = folders(tmp_path / "vehicles", "bus", "train")
    assert len(compare_splits(listed(tmp_path, "train/2.jpg 1\ntrain/1.jpg 0\n"), vehicles, 2)) == 1


def test_a_validation_label_that_the_training_does_not_have_is_refused(tmp_path):
    train, val = listed(tmp_path, "1.jpg 1\n"), listed(tmp_path, "1.jpg 1\n2.jpg 2\n")
    with pytest.raises(DataError, match=r":2: label 2, but the training has 2 classes"):
        compare_splits(train, val, 2)


# --- Data and weights -----------------------------------------------------------------------------------------------

TRAINED = Classes(3, ("a", "b", "c"), ("a", "b", "c"))


def test_folders_of_an_evaluation_are_those_of_the_training(tmp_path):
    assert compare_with_weights(folders(tmp_path / "val", "a", "b", "c"), TRAINED, "w.pd") == []
    for names, message in (
        (("a", "c"), "no folder for class b of the weights w.pd"),
        (
            ("a", "b", "d"),
            "the weights w.pd do not know class d; they were trained on a, b, c. Leave these folders out",
        ),
    ):
        with pytest.raises(DataError, match=message):
            compare_with_weights(folders(tmp_path / "-".join(names), *names), TRAINED, "w.pd")
    with pytest.raises(DataError, match=r"class . has label . in .*, but . in w\.pd"):
        compare_with_weights(folders(tmp_path / "abc", "a", "b", "c"), Classes(3, ("c", "a", "b")), "w.pd")


@pytest.mark.parametrize("names", [None, ("first", "second", "third")])
def test_weights_without_folder_names_are_compared_by_number(tmp_path, names):
    weights = Classes(3, names)
    remarks = compare_with_weights(folders(tmp_path / "three", "x", "y", "z"), weights, "w.pd")
    assert len(remarks) == 1 and "does not say its class folders" in remarks[0]
    with pytest.raises(DataError, match=r"2 class folders \(x, y\), but w.pd has 3 outputs"):
        compare_with_weights(folders(tmp_path / "two", "x", "y"), weights, "w.pd")
    with pytest.raises(DataError, match=r"label 3, but w.pd has 3 outputs, 0 to 2"):
        compare_with_weights(folders(tmp_path / "four", "x", "y", "z", "zz"), weights, "w.pd")


def test_a_list_is_compared_by_the_folders_of_its_paths(tmp_path):
    assert compare_with_weights(listed(tmp_path, "a/1.jpg 0\nc/1.jpg 2\n"), TRAINED, "w.pd") == []
    with pytest.raises(DataError, match=r"class c has label 1 in the list of R, but 2 in w\.pd"):
        compare_with_weights(listed(tmp_path, "a/1.jpg 0\nc/1.jpg 1\n"), TRAINED, "w.pd")
