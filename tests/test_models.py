"""Holds the models to their golden numbers, names, sides, arguments and initial weights.

`python -m tests.test_models` writes golden_models.json anew, after a change that is meant to change it.
"""

import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.static import InputSpec

from models import MODELS, ModelError, check_input_size, create_model, list_models
from models.complexity import count_macs, count_parameters
from models.mobilenet_v3 import Hardsigmoid

ROOT = Path(__file__).parent.parent
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
    models = {name: create_model(name) for name in ("peleenet", "mobilenet_v3_small")} | {"alexnet": alexnet}
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
    "alexnet": {"features.10.bias": [256], "classifier.1.weight": [9216, 4096], "classifier.6.weight": [4096, 1000]},
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_of_the_reference(fresh_weights, name):
    state = fresh_weights[name]
    assert [key for key in state if not re.fullmatch(NAMES[name], key)] == []
    assert {key: list(state[key].shape) for key in SHAPES[name]} == SHAPES[name]


# Sides


@pytest.mark.parametrize(
    ("name", "side", "nearest"),
    [
        ("peleenet", 33, "nearest: 32 and 35"),
        ("peleenet", 226, "nearest: 224 and 227"),
        ("peleenet", 28, "nearest: 31"),
        ("alexnet", 62, "63 or more; nearest: 63"),
        ("mobilenet_v3_large", 0, "nearest: 1"),
    ],
)
def test_impossible_sides_name_the_possible_ones(name, side, nearest):
    with pytest.raises(ModelError, match=rf"^{name} cannot take an image side of {side}: .*{nearest}$"):
        check_input_size(name, side)


def test_peleenet_sides_are_those_that_run():
    features = create_model("peleenet").features
    features.eval()
    for side in range(27, 42):
        try:
            before_last_pool = features[:9](paddle.zeros([1, 3, side, 64]))
            ran = before_last_pool.shape[2] >= 2  # Paddle pools a clipped window where torch refuses
        except ValueError:  # the stem joins two sizes
            ran = False
        assert ran == MODELS["peleenet"].sides.allows(side), side


@pytest.mark.parametrize("side", [59, 62, 63, 64])
def test_alexnet_sides_are_those_that_fill_the_last_pool(alexnet, side):
    has_room = alexnet.features[:12](paddle.zeros([1, 3, side, 64])).shape[2] >= 3
    assert has_room == MODELS["alexnet"].sides.allows(side)


@pytest.mark.parametrize("shape", [[1, 3, 33, 64], [1, 3, 64, 33], [1, 3, 30, 30]])
def test_forward_refuses_impossible_sides(shape):
    with pytest.raises(ModelError, match=r"peleenet cannot take an image side of 3[03]"):
        create_model("peleenet")(paddle.zeros(shape))


def test_forward_takes_rectangles():
    model = create_model("peleenet", num_classes=5)
    assert model(paddle.zeros([2, 3, 35, 64])).shape == [2, 5]


# The table and its errors


def test_table_needs_no_paddle():
    program = (
        "import sys; sys.modules['paddle'] = None\n"
        "import models\n"
        "models.check_input_size('peleenet', 224)\n"
        "try: models.create_model('peleent')\n"
        "except models.ModelError as error: print(len(models.list_models()), error.exit_code, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = "14 2 unknown model 'peleent'; did you mean 'peleenet'? known models: peleenet, mobilenet_v3_small, "
    assert done.stdout.startswith(expected)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnetx", {}, "unknown model 'resnetx'; known models: peleenet, "),
        (
            "peleenet",
            {"growth_rat": 32},
            "unknown argument 'growth_rat' of model 'peleenet'; did you mean 'growth_rate'",
        ),
        ("peleenet", {"width_mult": 1.0}, "known arguments: growth_rate, block_config, num_init_features, "),
        ("mobilenet_v3_small_x0_5", {"width_mult": 1}, "known arguments: reduced_tail, dilated, num_classes, dropout"),
        ("peleenet", {"growth_rate": 31}, "growth_rate must be even"),
        ("peleenet", {"growth_rate": [32, 32]}, r"growth_rate must be an integer or 4 integers, got \[32, 32\]"),
        ("peleenet", {"growth_rate": "32"}, "growth_rate must be an integer or 4 integers, got '32'"),
        ("peleenet", {"growth_rate": 2}, "no channels are left in a bottleneck"),
        ("peleenet", {"block_config": 3}, "block_config must be 4 integers, got 3"),
        ("peleenet", {"block_config": [3, 4, 0, 6]}, "block_config must be an integer of 1 or more, got 0"),
        ("peleenet", {"bottleneck_width": [1, 2, 4, 4.5]}, "bottleneck_width must be an integer of 1 or more, got 4.5"),
        ("peleenet", {"num_init_features": 1}, "num_init_features must be 2 or more"),
        ("peleenet", {"drop_rate": 1.5}, "drop_rate must be a number from 0 to 1, got 1.5"),
        ("peleenet", {"num_classes": 0}, "num_classes must be an integer of 1 or more, got 0"),
        ("alexnet", {"num_classes": True}, "num_classes must be an integer of 1 or more, got True"),
        ("alexnet", {"dropout": "0.5"}, "dropout must be a number from 0 to 1, got '0.5'"),
        ("mobilenet_v3_large", {"num_classes": 10.0}, "num_classes must be an integer of 1 or more, got 10.0"),
        ("mobilenet_v3_large", {"width_mult": 0}, "width_mult must be a number from 0.01 to 100, got 0"),
        ("mobilenet_v3_large", {"dilated": "False"}, "dilated must be true or false, got 'False'"),
    ],
)
def test_wrong_arguments_are_refused(name, arguments, message):
    with pytest.raises(ModelError, match=message):
        create_model(name, **arguments)


def test_peleenet_arguments_reach_the_layers():
    model = create_model(
        "peleenet",
        growth_rate=[16, 32, 64, 8],
        block_config=(1, 2, 1, 1),
        num_init_features=16,
        bottleneck_width=[4, 1, 2, 4],
        drop_rate=0.3,
        num_classes=7,
    )
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["features.stemblock.stem2a.conv.weight"] == [8, 16, 1, 1]
    # Asked for 8 * 4 / 4 * 4 = 32 channels from 16, the bottleneck is cut to half of 16.
    assert shapes["features.denseblock1.denselayer1.branch1a.conv.weight"] == [8, 16, 1, 1]
    assert shapes["features.denseblock2.denselayer2.branch1a.conv.weight"] == [16, 64, 1, 1]
    assert shapes["features.denseblock3.denselayer1.branch2c.conv.weight"] == [32, 32, 3, 3]
    assert shapes["features.transition4.conv.weight"] == [168, 168, 1, 1]
    assert shapes["classifier.weight"] == [168, 7]
    assert model.dropout.p == 0.3
    assert model(paddle.zeros([2, 3, 32, 32])).shape == [2, 7]


def test_mobilenet_arguments_reach_the_layers():
    model = create_model(
        "mobilenet_v3_small", width_mult=0.5, reduced_tail=True, dilated=True, num_classes=7, dropout=0
    )
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["features.12.0.weight"] == [144, 24, 1, 1]  # 96 / 2 (tail) * 0.5 (width) = 24; times 6
    assert shapes["classifier.0.weight"] == [144, 256]
    assert shapes["classifier.3.weight"] == [256, 7]
    assert model.classifier[2].p == 0
    assert model.features(paddle.zeros([1, 3, 64, 64])).shape == [1, 144, 4, 4]  # stride 16, not 32


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


@pytest.mark.parametrize(
    ("name", "argument"), [("peleenet", "drop_rate"), ("mobilenet_v3_small_x0_35", "dropout"), ("alexnet", "dropout")]
)
def test_dropout_acts_in_training_only(alexnet, name, argument):
    paddle.seed(0)
    model = alexnet if name == "alexnet" else create_model(name, num_classes=3, **{argument: 0.5})
    model.train()
    images = paddle.randn([2, 3, 64, 64])
    dropouts = [layer for layer in model.sublayers() if isinstance(layer, nn.Dropout)]
    with paddle.no_grad():
        assert not np.array_equal(model(images).numpy(), model(images).numpy())
        assert set(dropouts[0](paddle.ones([1000])).tolist()) == {0.0, 2.0}  # scaled up in training
        model.eval()
        assert np.array_equal(model(images).numpy(), model(images).numpy())
        assert set(dropouts[0](paddle.ones([1000])).tolist()) == {1.0}


# Export


@pytest.mark.parametrize("name", ["peleenet", "mobilenet_v3_small_x0_35", "alexnet"])
def test_static_program_takes_any_batch(alexnet, name):
    model = alexnet if name == "alexnet" else create_model(name, num_classes=3)
    model.eval()
    program = paddle.jit.to_static(
        model.forward, input_spec=[InputSpec([-1, 3, 64, 64], "float32", "x")], full_graph=True
    )
    with paddle.no_grad():
        for batch_size in (1, 3):
            images = paddle.randn([batch_size, 3, 64, 64])
            np.testing.assert_allclose(program(images).numpy(), model(images).numpy(), rtol=1e-5, atol=1e-6)


def test_export_refuses_impossible_sides_and_allows_open_ones():
    model = create_model("peleenet", block_config=[1, 1, 1, 1], num_classes=3)
    num_ops = {}
    for side in (64, -1, 33):
        spec = [InputSpec([-1, 3, side, side], "float32", "x")]
        program = paddle.jit.to_static(model.forward, input_spec=spec, full_graph=True)
        if side == 33:
            with pytest.raises(ModelError, match="nearest: 32 and 35"):
                program.concrete_program  # noqa: B018 (traces)
        else:
            num_ops[side] = len(program.concrete_program.main_program.global_block().ops)
    assert num_ops[-1] == num_ops[64]  # the check of the sides leaves nothing in the program


if __name__ == "__main__":
    rows = {}
    for name in MODELS:
        model = create_model(name)
        rows[name] = measure(model)
        fill(model)
        rows[name]["logits"] = [round(value, 9) for value in fixed_logits(model, "float64")]
    GOLDEN_FILE.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
