"""LayerCAM: the map is that of the paper, lies where the class is decided, and exists for every network."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest
from paddle import nn

import models
from engine.layer_cam import LayerCam


class RedFinder(nn.Layer):
    """Class 1 is the mean of red over the image, class 0 that of blue: made of one layer of known weights."""

    def __init__(self, stride=4):
        super().__init__()
        self.pool = nn.AvgPool2D(stride, stride)
        self.colours = nn.Conv2D(3, 2, 1, bias_attr=False)
        self.colours.weight.set_value(np.array([[0, 0, 1], [1, 0, 0]], np.float32).reshape(2, 3, 1, 1))

    def forward(self, images):
        return nn.functional.relu(self.colours(self.pool(images))).mean([2, 3])


def test_the_map_lies_on_the_patch_that_decides_the_class():
    images = np.zeros((2, 3, 32, 32), np.float32)
    images[0, 0, 8:12, 20:28] = 1  # red
    images[0, 2, 0:4, 0:4] = 1  # blue, elsewhere
    images[1, 2, 28:32, 0:4] = 1
    maps = LayerCam(RedFinder(), 32).maps(images, np.array([1, 0]))
    expected = np.zeros((2, 8, 8))
    expected[0, 2, 5:7] = 1
    expected[1, 7, 0] = 1
    assert maps == pytest.approx(expected, abs=1e-6)


def test_other_threads_may_run_the_model_meanwhile():
    """As predict.py does, whose worker is one batch ahead."""
    model = RedFinder()
    cam, image = LayerCam(model, 32), np.ones((1, 3, 32, 32), np.float32)

    def predict_in_another_thread(layer, inputs):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(run).result()

    def run():
        hook.remove()
        with paddle.no_grad():
            model(paddle.zeros([1, 3, 32, 32]))

    hook = model.register_forward_post_hook(lambda layer, inputs, output: predict_in_another_thread(layer, inputs))
    assert (cam.maps(image, np.array([1])) == 1).all()


def test_nothing_that_raised_the_score_is_an_empty_map():
    [heat] = LayerCam(RedFinder(), 32).maps(np.zeros((1, 3, 32, 32), np.float32), np.array([1]))
    assert (heat == 0).all()


def test_the_map_equals_the_formula_of_the_paper():
    """relu(sum over channels of relu(d score / d activation) * activation), by differences of the score."""
    paddle.seed(0)
    head = nn.Sequential(nn.Flatten(), nn.Linear(2 * 8 * 8, 3))
    model = nn.Sequential(nn.Conv2D(3, 2, 4, stride=4), head)
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    cam = LayerCam(model, 32)
    assert cam.layer is model[0]
    [heat] = cam.maps(image, np.array([2]))
    with paddle.no_grad():
        activation = model[0](paddle.to_tensor(image)).numpy()
    gradient = head[1].weight.numpy()[:, 2].reshape(2, 8, 8)  # the head is linear
    expected = np.maximum((np.maximum(gradient, 0) * activation[0]).sum(axis=0), 0)
    assert heat == pytest.approx(expected / expected.max(), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("peleenet", 32),
        ("peleenet", 96),
        ("mobilenet_v3_small_x0_35", 96),
        ("mobilenet_v3_small_x0_35_paddleclas", 32),
        ("alexnet", 64),
    ],
)
def test_every_kind_of_network_has_maps(name, side):
    paddle.seed(0)
    cam = LayerCam(models.create_model(name, num_classes=3), side)
    images = np.random.default_rng(0).standard_normal((2, 3, side, side)).astype(np.float32)
    maps = cam.maps(images, np.array([0, 2]))
    assert maps.shape[0] == 2 and min(maps.shape[1:]) >= 4
    assert maps.min() >= 0 and maps.max() == 1 and np.isfinite(maps).all()
    [alone] = cam.maps(images[1:], np.array([2]))
    assert alone == pytest.approx(maps[1], abs=1e-4), "a map does not depend on the other images of the batch"
