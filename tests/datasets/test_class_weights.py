"""Weights of the classes: balanced as in scikit-learn, or those of a file, whose faults are named by line."""

import numpy as np
import pytest

from common.errors import DataError
from configs.schema import LossConfig
from datasets.class_weights import choose_class_weights, describe_class_weights
from datasets.classes import Classes

CLASSES = Classes(3, ("Cat", "big dog", "2"), ("cat", "big dog", "2"))
LABELS = np.array([0] * 6 + [1] * 3 + [2] * 1)


def weights_of(tmp_path, text, **settings):
    path = tmp_path / "w.txt"
    path.write_text(text, encoding="utf-8")
    return choose_class_weights(LossConfig(class_weights=str(path)), CLASSES, LABELS, **settings)


def test_no_flag_no_weights():
    assert choose_class_weights(LossConfig(), CLASSES, LABELS) is None


def test_balanced_is_that_of_scikit_learn():
    weights = choose_class_weights(LossConfig(class_weights="balanced"), CLASSES, LABELS)
    np.testing.assert_allclose(weights, 10 / (3 * np.array([6, 3, 1])), rtol=1e-6)
    assert weights.dtype == np.float32
    four = Classes(4)
    with_empty = choose_class_weights(LossConfig(class_weights="balanced"), four, LABELS)
    assert with_empty[3] == 1 and np.array_equal(with_empty[:3], weights), "a class without images"


def test_a_file_names_classes_and_is_scaled_to_the_mean_1(tmp_path):
    """6 images of 1, 3 of 2 and 1 of 8: the mean is 2."""
    expected = [0.5, 1, 4]
    for text in ("cat 1\nbig dog 2\n2 8\n", "# costs\n2\t8\nCat 1.0\nbig dog\t2\n", "0 10\n1 20\n2 80"):
        np.testing.assert_allclose(weights_of(tmp_path, text), expected)
    np.testing.assert_allclose(weights_of(tmp_path, "cat 1\nbig dog 2\n2 9", is_balanced=True), [0.25, 0.5, 2.25])


def test_the_name_of_a_class_goes_before_its_number(tmp_path):
    """A folder that is called 0 is not the class with the label 0."""
    classes = Classes(2, ("1", "0"), ("1", "0"))
    (tmp_path / "w.txt").write_text("0 3\n1 1\n")
    weights = choose_class_weights(LossConfig(class_weights=str(tmp_path / "w.txt")), classes, np.array([0, 1]))
    np.testing.assert_allclose(weights, [0.5, 1.5])


def test_the_largest_numbers_do_not_overflow(tmp_path):
    np.testing.assert_allclose(weights_of(tmp_path, "cat 1e308\nbig dog 1e308\n2 1e308"), [1, 1, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 1\ndog 2\n", r"w\.txt:2: no class 'dog'; the first classes are cat, big dog, 2"),
        ("cat one", r"w\.txt:1: expected '<class> <weight>' with a weight of 0 or more, got 'cat one'"),
        ("cat -1", "expected '<class> <weight>'"),
        ("cat nan", "expected '<class> <weight>'"),
        ("cat 1\nCat 2", r"w\.txt:2: the class 'Cat' has a weight already"),
        ("cat 1", "2 classes have no weight, the first is big dog"),
        ("", "3 classes have no weight, the first is cat"),
        ("cat 0\nbig dog 0\n2 0", "all classes that have images have the weight 0"),
    ],
)
def test_faults_of_a_file(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        weights_of(tmp_path, text)


def test_a_missing_file():
    with pytest.raises(DataError, match=r"none\.txt: No such file"):
        choose_class_weights(LossConfig(class_weights="none.txt"), CLASSES, LABELS)


def test_the_log_shows_the_largest_weights():
    described = describe_class_weights(np.array([0.5, 1, 4], np.float32), CLASSES)
    assert described == "class weights (mean over the images 1): 2 4, big dog 1, cat 0.5"
    assert describe_class_weights(np.arange(20.0), Classes(20)).endswith("class 12 12, ...")
