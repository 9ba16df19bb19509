"""Layers of a model: what is frozen stays to the last bit, and each layer learns at its share of the rate."""

import numpy as np
import paddle
import pytest
from paddle import nn

import models
from common.errors import UsageError
from configs.schema import OptimConfig
from engine.layer_groups import freeze_layers, list_layers, lr_multipliers
from engine.optim import OPTIMIZERS, create_optimizer, optimizer_arrays, set_optimizer_arrays
from tests.engine.tiny import arrays_of, same

ONE_OF_EACH_FILE = ("peleenet", "mobilenet_v3_small_x0_35", "alexnet", "mobilenet_v3_small_x0_35_paddleclas")


def small_net(seed: int = 0) -> nn.Layer:
    """Three layers: features.0 and features.1 (convolution and batch norm), and the classifier."""
    paddle.seed(seed)
    net = nn.Layer()
    net.features = nn.Sequential(Block(3), Block(4))
    net.classifier = nn.Linear(4, 5)
    net.forward = lambda x: net.classifier(net.features(x).mean([2, 3]))
    return net


class Block(nn.Layer):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2D(channels, 4, 3, bias_attr=False), nn.BatchNorm2D(4))

    def forward(self, x):
        return nn.functional.relu(self.layers(x))


def take_steps(model, optimizer, num=3, first=0):
    model.train()
    for step in range(first, first + num):
        paddle.seed(step)
        model(paddle.randn([4, 3, 8, 8])).square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()


@pytest.mark.parametrize("name", ONE_OF_EACH_FILE)
def test_every_parameter_is_in_one_layer_and_the_classifier_is_the_last(name):
    model = models.create_model(name, num_classes=5)
    layers = list_layers(model)
    assert list(layers)[-1] == models.heads_of(name)[0]
    names = [parameter.name for layer in layers.values() for parameter in layer.parameters()]
    assert sorted(names) == sorted(parameter.name for parameter in model.parameters())


def test_the_layers_of_peleenet_go_from_the_stem_to_the_classifier():
    names = list(list_layers(models.create_model("peleenet", num_classes=5)))
    assert names[:3] == ["features.stemblock", "features.denseblock1", "features.transition1"] and len(names) == 10


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("freeze", "is_kept"), [("backbone", "features."), ("1", "features.0.")])
def test_frozen_layers_keep_weights_and_statistics(name, freeze, is_kept):
    model, config = small_net(), OptimConfig(opt=name, weight_decay=0.5, freeze=freeze)
    freeze_layers(model, config)
    before = arrays_of(model)
    take_steps(model, create_optimizer(model, config, lr=0.1))
    changed = {key for key, array in arrays_of(model).items() if array.tobytes() != before[key].tobytes()}
    assert changed == {key for key in before if not key.startswith(is_kept)}


def test_a_frozen_layer_is_the_same_function_in_training_and_in_evaluation():
    model = small_net()
    take_steps(model, create_optimizer(model, OptimConfig(), lr=0.1))
    freeze_layers(model, OptimConfig(freeze="1"))
    images = paddle.randn([4, 3, 8, 8])
    model.train()
    in_training, other = model.features[0](images).numpy(), model.features(images).numpy()
    model.eval()
    assert np.array_equal(model.features[0](images).numpy(), in_training)
    assert not np.array_equal(model.features(images).numpy(), other), "the layer that is not frozen"


def test_the_number_of_frozen_layers_is_one_of_the_model():
    with pytest.raises(UsageError, match=r"--freeze 3: the model has 2 layers before its classifier: features\.0, "):
        freeze_layers(small_net(), OptimConfig(freeze="3"))
    freeze_layers(small_net(), OptimConfig(freeze="2"))


def test_a_frozen_run_continues_to_the_last_bit():
    config = OptimConfig(freeze="1", layer_decay=0.5)
    whole, resumed = small_net(), small_net(seed=9)
    for model in (whole, resumed):
        freeze_layers(model, config)
    optimizer = create_optimizer(whole, config, lr=0.1)
    take_steps(whole, optimizer)
    resumed.set_state_dict({key: paddle.to_tensor(array) for key, array in arrays_of(whole).items()})
    other = create_optimizer(resumed, config, lr=0.1)
    set_optimizer_arrays(other, resumed, optimizer_arrays(optimizer, whole), source="a file")
    for model, its_optimizer in ((whole, optimizer), (resumed, other)):
        take_steps(model, its_optimizer, first=3)
    assert same(arrays_of(whole), arrays_of(resumed))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_backbone_moves_as_with_a_smaller_rate(name):
    """One step from the same gradients: the backbone as with lr 0.01, the classifier as with lr 0.1."""
    after = {}
    for lr, mult in ((0.1, 0.1), (0.01, 1.0), (0.1, 1.0)):
        model = small_net()
        optimizer = create_optimizer(model, OptimConfig(opt=name, weight_decay=0.3, backbone_lr_mult=mult), lr=1.0)
        optimizer.set_lr(lr)
        take_steps(model, optimizer, num=1)
        after[lr, mult] = {key: p.numpy() for key, p in model.named_parameters() if not p.stop_gradient}
    for key, array in after[0.1, 0.1].items():
        expected = after[(0.1, 1.0) if key.startswith("classifier") else (0.01, 1.0)][key]
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-7, err_msg=key)
    key = "features.0.layers.0.weight"
    assert not np.allclose(after[0.1, 0.1][key], after[0.1, 1.0][key], rtol=1e-3)


def test_the_rates_of_layer_decay():
    model = models.create_model("peleenet", num_classes=5)
    shares = lr_multipliers(model, OptimConfig(layer_decay=0.5))
    of = {key: shares[parameter.name] for key, parameter in model.named_parameters()}
    assert of["classifier.weight"] == of["classifier.bias"] == 1
    assert of["features.transition4.conv.weight"] == 0.5 and of["features.stemblock.stem1.conv.weight"] == 0.5**9
    assert lr_multipliers(model, OptimConfig()) == {}
