"""Holds the table of models to its word: which sides are possible, which arguments exist, and where they go."""

import subprocess
import sys
from pathlib import Path

import paddle
import pytest

from common.errors import ModelError
from models import MODELS, check_input_size, create_model, heads_of

ROOT = Path(__file__).parent.parent


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


def test_alexnet_sides_are_those_that_fill_the_last_pool():
    before_last_pool = create_model("alexnet").features[:12]
    for side in (59, 62, 63, 64):
        has_room = before_last_pool(paddle.zeros([1, 3, side, 64])).shape[2] >= 3
        assert has_room == MODELS["alexnet"].sides.allows(side), side


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
    expected = "24 2 unknown model 'peleent'; did you mean peleenet? known models: peleenet, mobilenet_v3_small, "
    assert done.stdout.startswith(expected)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnetx", {}, "unknown model 'resnetx'; known models: peleenet, "),
        (
            "peleenet",
            {"growth_rat": 32},
            "unknown argument 'growth_rat' of model 'peleenet'; did you mean growth_rate?",
        ),
        ("peleenet", {"width_mult": 1.0}, "known arguments: growth_rate, block_config, num_init_features, "),
        ("mobilenet_v3_small_x0_5", {"width_mult": 1}, "known arguments: reduced_tail, dilated, num_classes, dropout"),
        ("peleenet", {"growth_rate": 31}, "growth_rate must be even"),
        ("peleenet", {"growth_rate": [32, 32]}, r"growth_rate must be an integer or 4 integers, got \[32, 32\]"),
        ("peleenet", {"growth_rate": "32"}, "growth_rate must be an integer or 4 integers, got '32'"),
        ("peleenet", {"growth_rate": 2}, "a bottleneck would have no channels"),
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


@pytest.mark.parametrize(
    "name", ["peleenet", "alexnet", "mobilenet_v3_small_x0_35", "mobilenet_v3_small_x0_35_paddleclas"]
)
def test_the_head_of_the_table_is_the_last_linear_layer(name):
    model = create_model(name, num_classes=3)
    linear = [name for name, layer in model.named_sublayers() if isinstance(layer, paddle.nn.Linear)]
    assert heads_of(name)[0] == linear[-1]
    published = getattr(model, "published_layouts", {}).values()
    assert heads_of(name)[1:] == tuple(layout.layers[linear[-1]] for layout in published)
