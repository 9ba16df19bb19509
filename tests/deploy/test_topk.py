"""Softmax and predictions: keys, order, Python types, few classes, classes without names."""

import json

import numpy as np
import pytest

from deploy.topk import softmax, topk_predictions

LOGITS = np.array([[1.0, 3.0, 2.0], [0.0, 0.0, 5.0]], np.float32)


def test_predictions_have_the_keys_of_peleenet_paddle_and_plain_python_values():
    predictions = topk_predictions(LOGITS, ["a.jpg", "b.jpg"], ["x", "y", "z"], topk=2)
    assert [list(prediction) for prediction in predictions] == [["class_ids", "scores", "file_name", "label_names"]] * 2
    assert predictions[0]["class_ids"] == [1, 2]
    assert predictions[0]["label_names"] == ["y", "z"]
    assert [prediction["file_name"] for prediction in predictions] == ["a.jpg", "b.jpg"]
    assert {type(value) for prediction in predictions for value in prediction["class_ids"]} == {int}
    assert {type(value) for prediction in predictions for value in prediction["scores"]} == {float}
    assert json.loads(json.dumps(predictions)) == predictions


def test_scores_are_the_softmax_over_all_classes():
    [prediction, _] = topk_predictions(LOGITS, ["a", "b"], None, topk=2)
    expected = np.exp([3.0, 2.0]) / np.exp(LOGITS[0].astype(np.float64)).sum()
    np.testing.assert_allclose(prediction["scores"], expected, rtol=1e-12)


def test_softmax_of_large_logits_is_accurate():
    probabilities = softmax(np.array([[1e4, 1e4 - 1, -1e4]], np.float32))
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-15)
    np.testing.assert_allclose(probabilities[0, :2], [0.7310586, 0.2689414], rtol=1e-6)


def test_the_temperature_divides_the_logits():
    probabilities = softmax(LOGITS, 2.5)
    np.testing.assert_allclose(probabilities, softmax(LOGITS.astype(np.float64) / 2.5), rtol=1e-12)
    assert (softmax(LOGITS, 1.0) == softmax(LOGITS)).all()
    [cold, warm] = (topk_predictions(LOGITS[:1], ["a"], None, temperature=one)[0] for one in (0.5, 2.5))
    assert cold["class_ids"] == warm["class_ids"] == [1, 2, 0]
    np.testing.assert_allclose(warm["scores"], np.sort(probabilities[0])[::-1], rtol=1e-12)


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e30, 1.7e308])
def test_an_extreme_temperature_gives_probabilities(temperature):
    np.testing.assert_allclose(softmax(LOGITS, temperature).sum(axis=1), 1, rtol=1e-12)


def test_the_temperature_comes_before_the_threshold():
    [prediction, _] = topk_predictions(LOGITS, ["a", "b"], None, threshold=0.2, temperature=100.0)
    assert prediction["class_ids"] == [1, 2, 0]


def test_topk_is_limited_by_the_number_of_classes():
    assert [len(prediction["class_ids"]) for prediction in topk_predictions(LOGITS, ["a", "b"], None, topk=5)] == [3, 3]


def test_of_equal_logits_the_lower_class_comes_first():
    assert topk_predictions(LOGITS, ["a", "b"], None)[1]["class_ids"] == [2, 0, 1]


def test_classes_without_names_are_named_by_their_number():
    assert topk_predictions(LOGITS, ["a", "b"], None, topk=1)[0]["label_names"] == ["class 1"]


def test_threshold_leaves_out_improbable_classes():
    predictions = topk_predictions(LOGITS, ["a", "b"], None, threshold=0.2)
    assert [prediction["class_ids"] for prediction in predictions] == [[1, 2], [2]]


def test_a_class_as_probable_as_the_threshold_stays():
    [prediction] = topk_predictions(np.zeros((1, 4), np.float32), ["a"], None, threshold=0.25)
    assert prediction["class_ids"] == [0, 1, 2, 3]
    [prediction] = topk_predictions(np.zeros((1, 4), np.float32), ["a"], None, threshold=np.nextafter(0.25, 1))
    assert prediction["class_ids"] == prediction["scores"] == prediction["label_names"] == []


def test_every_row_needs_a_file_name():
    with pytest.raises(ValueError, match="zip"):
        topk_predictions(LOGITS, ["only one"], None)
