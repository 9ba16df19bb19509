"""Holds the models to their golden numbers, the names of their weights, their training behaviour and their export.

`python -m tests.test_models` writes golden_models.json anew, after a change that is meant to change it.
"""

import hashlib
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.pir_utils import DygraphOldIrGuard
from paddle.static import InputSpec

from common.errors import ModelError
from engine.export import export_program
from models import MODELS, create_model, list_models
from models.complexity import count_macs, count_parameters
from models.mobilenet_v3 import Hardsigmoid

GOLDEN_FILE = Path(__file__).with_name("golden_models.json")
GOLDEN = json.loads(GOLDEN_FILE.read_text(encoding="utf-8")) if GOLDEN_FILE.exists() else {}


def fill(model: nn.Layer) -> None:
    """Weights that depend on numpy alone: He-scaled, in the order of the sorted names, batch norms near 1 and 0."""
    rng = np.random.default_rng(0)
    for name, tensor in sorted(model.state_dict().items()):
        value = rng.random(tensor.shape, dtype=np.float32) * 2 - 1
        if tensor.ndim > 1:
            fan_in = tensor.shape[0] if tensor.ndim == 2 else math.prod(tensor.shape[1:])
            value *= math.sqrt(6 / fan_in)
        elif name.endswith((".weight", "._variance")):
            value = 1 + value / 4
        else:
            value /= 4
        tensor.set_value(value.astype(np.float32))


def fixed_logits(model: nn.Layer, dtype: str) -> list[float]:
    """The first four logits of one fixed image, as both sides of an alignment would see them."""
    model.to(dtype=dtype)
    model.eval()
    image = np.random.default_rng(1).random([1, 3, 64, 64]) * 2 - 1
    with paddle.no_grad():
        return model(paddle.to_tensor(image, dtype=dtype))[0, :4].tolist()


def measure(model: nn.Layer) -> dict:
    state = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return {
        "trainable_parameters": count_parameters(model),
        "state_entries": len(state),
        "state_elements": sum(math.prod(shape) for shape in state.values()),
        "macs_224": count_macs(model, 224),
        "names_and_shapes_sha256": hashlib.sha256(json.dumps(state).encode()).hexdigest(),
    }


@pytest.fixture(scope="module")
def fresh_weights(alexnet):
    paddle.seed(0)
    models = {name: create_model(name) for name in NAMES if name != "alexnet"} | {"alexnet": alexnet}
    return {name: {key: value.numpy() for key, value in model.state_dict().items()} for name, model in models.items()}


@pytest.fixture(scope="module")
def alexnet():
    """One for all tests that leave its weights alone: 61 million take a second to draw."""
    paddle.seed(0)
    return create_model("alexnet")


def test_every_model_has_a_golden_row():
    assert list(GOLDEN) == list_models() == list(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_golden_numbers(name):
    model = create_model(name)
    golden = dict(GOLDEN[name])
    logits = golden.pop("logits")
    assert measure(model) == golden
    fill(model)
    # float32 leaves room for other CPUs; float64 shows a wrong epsilon (1e-5 for 1e-3 moves a logit by about 1e-3).
    np.testing.assert_allclose(fixed_logits(model, "float32"), logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(fixed_logits(model, "float64"), logits, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "trainable", "entries", "macs"),
    [
        ("peleenet", 2_802_248, 567, 507_757_568),
        ("mobilenet_v3_small", 2_542_856, 210, 56_510_400),
        ("mobilenet_v3_large", 5_483_032, 266, 216_589_760),
        ("alexnet", 61_100_840, 16, 714_188_480),
        # PaddleClas's own network (ppcls/arch/backbone/legendary_models/mobilenet_v3.py), counted in it
        ("mobilenet_v3_small_x0_35_paddleclas", 1_665_954, 214, 13_161_528),
        ("mobilenet_v3_small_x1_25_paddleclas", 3_627_370, 214, 95_364_424),
        ("mobilenet_v3_large_x1_0_paddleclas", 5_480_206, 270, 219_799_200),
    ],
)
def test_golden_rows_are_the_published_numbers(name, trainable, entries, macs):
    row = GOLDEN[name]
    assert (row["trainable_parameters"], row["state_entries"], row["macs_224"]) == (trainable, entries, macs)
    assert GOLDEN["peleenet"]["state_elements"] == 2_811_976


def test_macs_at_other_sizes_leave_the_model_alone():
    model = create_model("peleenet")
    model.classifier.eval()
    millions = {size: round(count_macs(model, size) / 1e6, 2) for size in (160, 192, 256, 304, 320)}
    assert millions == {160: 259.40, 192: 373.23, 256: 662.98, 304: 924.67, 320: 1035.51}
    assert (model.training, model.features.training, model.classifier.training) == (True, True, False)
    assert not model.classifier._forward_post_hooks


NAMES = {
    "peleenet": r"classifier\.(weight|bias)|features\."
    r"(stemblock\.stem(1|2a|2b|3)|denseblock[1-4]\.denselayer[1-8]\.branch(1a|1b|2a|2b|2c)|transition[1-4])\."
    r"(conv\.weight|norm\.(weight|bias|_mean|_variance))",
    "mobilenet_v3_small": r"classifier\.[03]\.(weight|bias)|features\.(0|12|\d+\.block\.\d)\."
    r"(0\.weight|1\.(weight|bias|_mean|_variance)|fc[12]\.(weight|bias))",
    "mobilenet_v3_small_x0_35_paddleclas": r"(conv|last_second_conv|blocks\.\d+\.(expand|bottleneck|linear)_conv)"
    r"\.(conv\.weight|bn\.(weight|bias|_mean|_variance))|blocks\.\d+\.mid_se\.conv[12]\.(weight|bias)"
    r"|last_conv\.weight|fc\.(weight|bias)",
    "alexnet": r"(features\.(0|3|6|8|10)|classifier\.[146])\.(weight|bias)",
}
SHAPES = {
    "peleenet": {
        "features.stemblock.stem2a.conv.weight": [16, 32, 1, 1],
        "features.denseblock3.denselayer8.branch1a.conv.weight": [64, 480, 1, 1],
        "features.denseblock4.denselayer6.branch2c.norm._variance": [16],
        "features.transition4.conv.weight": [704, 704, 1, 1],
        "classifier.weight": [704, 1000],
    },
    "mobilenet_v3_small": {
        "features.0.0.weight": [16, 3, 3, 3],
        "features.1.block.1.fc1.weight": [8, 16, 1, 1],
        "features.11.block.2.fc2.bias": [576],
        "features.12.1._mean": [576],
        "classifier.0.weight": [576, 1024],
        "classifier.3.weight": [1024, 1000],
    },
    "mobilenet_v3_small_x0_35_paddleclas": {
        "blocks.0.expand_conv.conv.weight": [8, 8, 1, 1],
        "blocks.0.mid_se.conv1.weight": [2, 8, 1, 1],
        "last_second_conv.conv.weight": [200, 32, 1, 1],
        "last_conv.weight": [1280, 200, 1, 1],
        "fc.weight": [1280, 1000],
    },
    "alexnet": {"features.10.bias": [256], "classifier.1.weight": [9216, 4096], "classifier.6.weight": [4096, 1000]},
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_of_the_reference(fresh_weights, name):
    state = fresh_weights[name]
    assert [key for key in state if not re.fullmatch(NAMES[name], key)] == []
    assert {key: list(state[key].shape) for key in SHAPES[name]} == SHAPES[name]


# Initial weights, batch norms, dropout


@pytest.mark.parametrize(
    ("name", "parameter", "std"),
    [
        ("peleenet", "features.transition4.conv.weight", math.sqrt(2 / 704)),
        ("peleenet", "features.denseblock4.denselayer6.branch1b.conv.weight", math.sqrt(2 / (9 * 16))),
        ("peleenet", "classifier.weight", 0.01),
        (
            "mobilenet_v3_small",
            "features.9.block.1.0.weight",
            math.sqrt(2 / (25 * 288)),
        ),  # depthwise: fan_out = 25 * 288
        ("mobilenet_v3_small", "features.11.block.2.fc1.weight", math.sqrt(2 / 144)),
        ("mobilenet_v3_small", "classifier.3.weight", 0.01),
        ("alexnet", "features.3.weight", 1 / math.sqrt(3 * 64 * 25)),
        ("alexnet", "classifier.6.weight", 1 / math.sqrt(3 * 4096)),
    ],
)
def test_initial_spread(fresh_weights, name, parameter, std):
    weights = fresh_weights[name][parameter]
    assert weights.std() == pytest.approx(std, rel=4 / math.sqrt(2 * weights.size))  # four standard errors
    assert abs(weights.mean()) < 4 * std / math.sqrt(weights.size)


def test_initial_constants(fresh_weights):
    for name in ("peleenet", "mobilenet_v3_small"):
        for key, value in fresh_weights[name].items():
            if value.ndim == 1:
                assert np.all(value == key.endswith((".weight", "._variance"))), key
    biases = fresh_weights["alexnet"]["classifier.1.bias"]
    assert 0.9 / 96 < np.abs(biases).max() <= 1 / 96  # 1 / sqrt(9216)


def test_initial_weights_follow_the_seed():
    def first_weights(seed):
        paddle.seed(seed)
        return create_model("mobilenet_v3_small_x0_35").features[0][0].weight.numpy()

    assert np.array_equal(first_weights(1), first_weights(1))
    assert not np.array_equal(first_weights(1), first_weights(2))


@pytest.mark.parametrize(
    ("name", "momentum", "epsilon"),
    [("peleenet", 0.9, 1e-5), ("mobilenet_v3_small_x0_35", 0.99, 1e-3), ("mobilenet_v3_large_x0_35", 0.99, 1e-3)],
)
def test_batch_norm_values(name, momentum, epsilon):
    norms = [layer for layer in create_model(name).sublayers() if isinstance(layer, nn.BatchNorm2D)]
    assert {(norm._momentum, norm._epsilon) for norm in norms} == {(momentum, epsilon)}
    norms[0](paddle.ones([2, norms[0]._num_features, 4, 4]))  # old statistics weigh `momentum`, the new batch the rest
    assert norms[0]._mean[0].item() == pytest.approx(1 - momentum, rel=1e-5)


def test_hardsigmoid_has_slope_one_sixth():
    x = np.linspace(-4, 4, 81)
    y = Hardsigmoid()(paddle.to_tensor(x)).numpy()
    np.testing.assert_allclose(y, np.clip(x / 6 + 0.5, 0, 1), atol=2e-8, rtol=0)  # Paddle's own layer is 1e-7 off


def dropouts_of(model: nn.Layer) -> list[nn.Dropout]:
    return [layer for layer in model.sublayers() if isinstance(layer, nn.Dropout)]


def rate_of(dropout: nn.Dropout) -> float:
    """The probability that a dropout acts by: the rest is scaled up in training by 1 / (1 - probability)."""
    values = set(dropout(paddle.ones([10_000])).tolist()) - {0.0}
    [scale] = values or {math.inf}
    return 1 - 1 / scale


@pytest.mark.parametrize(
    ("name", "argument"), [("peleenet", "drop_rate"), ("mobilenet_v3_small_x0_35", "dropout"), ("alexnet", "dropout")]
)
def test_dropout_acts_in_training_only_and_each_by_the_given_probability(name, argument, monkeypatch):
    paddle.seed(0)
    monkeypatch.setattr("models.alexnet._init_fan_in_uniform", lambda model: None)  # Paddle's own weights are faster
    model = create_model(name, num_classes=3, **{argument: 0.75})
    model.train()
    images = paddle.randn([2, 3, 64, 64])
    with paddle.no_grad():
        assert not np.array_equal(model(images).numpy(), model(images).numpy())
        assert [rate_of(dropout) for dropout in dropouts_of(model)] == [0.75] * (2 if name == "alexnet" else 1)
        model.eval()
        assert np.array_equal(model(images).numpy(), model(images).numpy())
        assert [rate_of(dropout) for dropout in dropouts_of(model)] == [0.0] * len(dropouts_of(model))


# By the papers' code and torchvision; no golden number shows a dropout, which does nothing in evaluation.
DROPOUT_RATES = {"peleenet": [0.05], "mobilenet_v3_small": [0.2], "mobilenet_v3_large": [0.2], "alexnet": [0.5, 0.5]}


@pytest.mark.parametrize("name", DROPOUT_RATES)
def test_the_published_dropout_is_the_default(alexnet, name):
    paddle.seed(0)
    model = alexnet if name == "alexnet" else create_model(name)
    model.train()
    rates = [rate_of(dropout) for dropout in dropouts_of(model)]
    model.eval()
    assert rates == pytest.approx(DROPOUT_RATES[name], abs=1e-6)


def test_the_dropout_of_paddleclas_scales_in_evaluation():
    dropout = create_model("mobilenet_v3_small_x0_35_paddleclas").dropout
    assert set(dropout(paddle.ones([10, 100])).flatten().tolist()) == {0.0, 1.0}
    dropout.eval()
    assert dropout(paddle.ones([1, 2])).flatten().tolist() == pytest.approx([0.8, 0.8])


# Export


@pytest.mark.parametrize("name", ["peleenet", "mobilenet_v3_small_x0_35", "alexnet"])
def test_static_program_takes_any_batch(alexnet, name, tmp_path):
    blocks = {"block_config": [1, 1, 1, 1]} if name == "peleenet" else {}  # to trace 100 layers takes a second
    model = alexnet if name == "alexnet" else create_model(name, num_classes=3, **blocks)
    model.eval()
    export_program(model, 64, tmp_path)
    program = paddle.jit.load(str(tmp_path / "model"))
    program.eval()
    with paddle.no_grad():
        for batch_size in (1, 3):
            images = paddle.randn([batch_size, 3, 64, 64])
            np.testing.assert_allclose(program(images).numpy(), model(images).numpy(), rtol=1e-5, atol=1e-6)


def test_translated_code_gives_the_same_program():
    """Whoever calls `paddle.jit.to_static` has the code translated, which our export leaves out."""
    model = create_model("peleenet", block_config=[1, 1, 1, 1], num_classes=3)
    model.eval()
    program = paddle.jit.to_static(
        model.forward, input_spec=[InputSpec([-1, 3, 64, 64], "float32", "x")], full_graph=True
    )
    images = paddle.randn([2, 3, 64, 64])
    with paddle.no_grad():
        np.testing.assert_allclose(program(images).numpy(), model(images).numpy(), rtol=1e-5, atol=1e-6)


def test_a_program_does_not_tell_where_it_was_traced(tmp_path):
    """Paddle notes the call stack of each operator, and a .pdmodel keeps it; later tracebacks are whole."""
    model = create_model("peleenet", block_config=[1, 1, 1, 1], num_classes=3)
    with DygraphOldIrGuard():
        export_program(model, 64, tmp_path)
    data = (tmp_path / "model.pdmodel").read_bytes()
    assert b"batch_norm" in data and b".py" not in data
    assert not hasattr(sys, "tracebacklimit")


def test_export_refuses_impossible_sides_and_allows_open_ones(tmp_path):
    model = create_model("peleenet", block_config=[1, 1, 1, 1], num_classes=3)
    num_ops = {}
    for side in (64, -1, 33):
        if side == 33:
            with pytest.raises(ModelError, match="nearest: 32 and 35"):
                export_program(model, side, tmp_path)
        else:
            export_program(model, side, tmp_path)
            num_ops[side] = (tmp_path / "model.json").read_text().count('"#":"1.')
    assert num_ops[-1] == num_ops[64] > 50  # the check of the sides leaves nothing in the program


if __name__ == "__main__":
    rows = {}
    for name in MODELS:
        model = create_model(name)
        rows[name] = measure(model)
        fill(model)
        rows[name]["logits"] = [round(value, 9) for value in fixed_logits(model, "float64")]
    GOLDEN_FILE.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
