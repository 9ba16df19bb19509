"""Softmax and records: keys, order, Python types, few classes, unnamed classes."""

import json

import numpy as np
import pytest

from deploy.topk import softmax, topk_predictions

LOGITS = np.array([[1.0, 3.0, 2.0], [0.0, 0.0, 5.0]], np.float32)


def test_records_have_the_predecessors_keys_in_its_order_and_plain_python_values():
    records = topk_predictions(LOGITS, ["a.jpg", "b.jpg"], ["x", "y", "z"], topk=2)
    assert [list(record) for record in records] == [["class_ids", "scores", "file_name", "label_names"]] * 2
    assert records[0]["class_ids"] == [1, 2]
    assert records[0]["label_names"] == ["y", "z"]
    assert [record["file_name"] for record in records] == ["a.jpg", "b.jpg"]
    assert {type(value) for record in records for value in record["class_ids"]} == {int}
    assert {type(value) for record in records for value in record["scores"]} == {float}
    assert json.loads(json.dumps(records)) == records


def test_scores_are_the_softmax_over_all_classes():
    [record, _] = topk_predictions(LOGITS, ["a", "b"], None, topk=2)
    expected = np.exp([3.0, 2.0]) / np.exp(LOGITS[0].astype(np.float64)).sum()
    np.testing.assert_allclose(record["scores"], expected, rtol=1e-12)


def test_softmax_neither_overflows_nor_loses_the_sum():
    probabilities = softmax(np.array([[1e4, 1e4 - 1, -1e4]], np.float32))
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-15)
    np.testing.assert_allclose(probabilities[0, :2], [0.7310586, 0.2689414], rtol=1e-6)


def test_k_is_limited_by_the_number_of_classes():
    assert [len(record["class_ids"]) for record in topk_predictions(LOGITS, ["a", "b"], None, topk=5)] == [3, 3]


def test_of_equal_logits_the_lower_class_comes_first():
    assert topk_predictions(LOGITS, ["a", "b"], None)[1]["class_ids"] == [2, 0, 1]


def test_unnamed_classes_are_called_by_their_number():
    assert topk_predictions(LOGITS, ["a", "b"], None, topk=1)[0]["label_names"] == ["class 1"]


def test_threshold_leaves_out_improbable_classes():
    records = topk_predictions(LOGITS, ["a", "b"], None, threshold=0.2)
    assert [record["class_ids"] for record in records] == [[1, 2], [2]]


def test_a_class_as_probable_as_the_threshold_stays():
    [record] = topk_predictions(np.zeros((1, 4), np.float32), ["a"], None, threshold=0.25)
    assert record["class_ids"] == [0, 1, 2, 3]
    [record] = topk_predictions(np.zeros((1, 4), np.float32), ["a"], None, threshold=np.nextafter(0.25, 1))
    assert record["class_ids"] == record["scores"] == record["label_names"] == []


def test_a_name_for_each_row():
    with pytest.raises(ValueError, match="zip"):
        topk_predictions(LOGITS, ["only one"], None)
