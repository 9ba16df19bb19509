"""Scores are exact counts over the images; equal logits give the score of chance, and missing images are noticed."""

import math

import numpy as np
import paddle
import pytest

from common.errors import NonFiniteLossError
from common.logs import set_up_logging
from engine.evaluate import evaluate, evaluate_samples
from engine.metrics import SampleScores, per_sample, score
from tests.engine.tiny import (
    NUM_CLASSES,
    FakeEvalLoader,
    arrays_of,
    batches,
    eval_loader,
    images_and_labels,
    same,
    tiny_net,
)


def test_scores_by_the_definition():
    model = tiny_net()
    images, labels = images_and_labels(33)
    model.eval()
    logits = model(paddle.to_tensor(images)).numpy().astype(float)
    model.train()
    own = logits[np.arange(33), labels]
    better = (logits > own[:, None]).sum(1)
    losses = np.log(np.exp(logits).sum(1)) - own
    before = arrays_of(model)
    scores = evaluate(model, eval_loader(33, 8))
    assert scores.num_samples == 33
    assert scores.top1_percent == 100 * (better < 1).sum() / 33
    assert scores.top5_percent == 100 * (better < 5).sum() / 33
    assert scores.loss == pytest.approx(losses.mean(), rel=1e-6)
    assert model.training and same(arrays_of(model), before)


@pytest.mark.parametrize("is_training", [True, False])
def test_the_model_is_left_in_the_mode_it_was_in(is_training):
    model = tiny_net()
    model.train() if is_training else model.eval()
    modes = []
    model.register_forward_pre_hook(lambda layer, inputs: modes.append(layer.training))
    evaluate(model, eval_loader(9, 4))
    assert modes == [False] * 3
    assert [layer.training for layer in model.sublayers(include_self=True)] == [is_training] * 7


@pytest.mark.parametrize("batch_size", [1, 5, 8, 33, 40])
def test_the_order_of_batches_changes_no_bit(batch_size):
    def samples(batches):
        return evaluate_samples(tiny_net(), FakeEvalLoader(batches, 33, batch_size), keep_logits=True)

    straight, reverse = samples(batches(33, batch_size)), samples(batches(33, batch_size)[::-1])
    for a, b in zip(straight, reverse, strict=True):
        assert a.tobytes() == b.tobytes()
    assert score(straight) == score(reverse)


@pytest.mark.parametrize(("num_classes", "top5"), [(3, 100), (10, 50)])
def test_a_model_with_equal_logits_gets_the_score_of_chance(num_classes, top5):
    labels = np.arange(30) % num_classes
    results = per_sample(paddle.zeros([30, num_classes]), paddle.to_tensor(labels)).numpy()
    samples = SampleScores(np.arange(30), *results)
    scores = score(samples)
    assert scores.top1_percent == pytest.approx(100 / num_classes)
    assert scores.top5_percent == top5
    assert scores.loss == pytest.approx(math.log(num_classes))


@pytest.mark.parametrize(
    ("indices", "message"),
    [(np.arange(30), "30 of 33 images were evaluated"), ([*range(32), 31], "an image was evaluated twice")],
)
def test_images_that_are_missing_or_double_are_noticed(indices, message):
    with pytest.raises(AssertionError, match=message):
        evaluate(tiny_net(), FakeEvalLoader(batches(33, 8, indices=np.array(indices)), 33, 8))


def test_a_model_with_nan_has_no_scores():
    model = tiny_net()
    model[5].bias.set_value(paddle.full([NUM_CLASSES], float("nan")))
    with pytest.raises(NonFiniteLossError, match="of 9 of 9 evaluated images is not a finite number"):
        evaluate(model, eval_loader(9, 4))


def test_the_lines(capsys):
    set_up_logging()
    evaluate(tiny_net(), eval_loader(33, 3))
    lines = capsys.readouterr().out.splitlines()
    starts = ["Test:  [ 0/11]", "Test:  [10/11]", "Test: Total tim", "* Acc@1 18.182"]
    assert [line[18:33].strip() for line in lines] == starts
    assert " eta: 0:00:0" in lines[0] and "  loss: " in lines[0] and "  acc1: " in lines[0] and "  acc5: " in lines[0]


def test_an_image_that_could_not_be_read_counts_as_wrong_and_its_loss_does_not_count(caplog):
    """The other images have the scores that they have without it."""
    good = evaluate_samples(tiny_net(), eval_loader(33, 8))
    loader = eval_loader(33, 8)
    for index in (0, 9, 32):
        batch = loader.batches()[index // 8]
        is_bad = np.zeros(len(batch.indices), bool) if batch.is_bad is None else batch.is_bad
        is_bad[index % 8] = True
        loader.batches()[index // 8] = batch._replace(is_bad=is_bad)
    scores = evaluate(tiny_net(), loader)
    kept = np.setdiff1d(np.arange(33), [0, 9, 32])
    assert (scores.num_samples, scores.num_unreadable) == (33, 3)
    assert scores.top1_percent == 100 * int((good.positions[kept] < 1).sum()) / 33
    assert scores.top5_percent == 100 * int((good.positions[kept] < 5).sum()) / 33
    assert scores.loss == pytest.approx(float(good.losses[kept].astype(float).mean()), rel=1e-6)
    assert "3 of 33 images could not be read and count as wrong" in caplog.text
