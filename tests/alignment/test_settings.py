"""Settings have one form on both sides; a difference is named with the edit that the port needs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alignment.layers.settings import (
    PADDLE,
    SETTINGS,
    differing_settings,
    kind_of_class,
    plain_value,
    settings_of,
    suggested_edit,
)

ROOT = Path(__file__).parents[2]
# {kind: (constructor of Paddle, of PyTorch)} with equal settings on both sides.
LAYERS = {
    "conv2d": ("Conv2D(3, 4, 3, stride=2, padding=1)", "Conv2d(3, 4, 3, stride=2, padding=1)"),
    "conv2dtranspose": ("Conv2DTranspose(3, 4, 3, bias_attr=False)", "ConvTranspose2d(3, 4, 3, bias=False)"),
    "linear": ("Linear(3, 4)", "Linear(3, 4)"),
    "batchnorm2d": ("BatchNorm2D(4)", "BatchNorm2d(4)"),
    "batchnorm1d": ("BatchNorm1D(4, use_global_stats=False)", "BatchNorm1d(4, track_running_stats=False)"),
    "instancenorm2d": ("InstanceNorm2D(4)", "InstanceNorm2d(4, affine=True)"),
    "layernorm": ("LayerNorm(4, weight_attr=False, bias_attr=False)", "LayerNorm(4, elementwise_affine=False)"),
    "groupnorm": ("GroupNorm(2, 4, epsilon=1e-6)", "GroupNorm(2, 4, eps=1e-6)"),
    "localresponsenorm": ("LocalResponseNorm(5)", "LocalResponseNorm(5)"),
    "avgpool2d": ("AvgPool2D(3, 2, 1, exclusive=False)", "AvgPool2d(3, 2, 1)"),
    "maxpool1d": ("MaxPool1D(3)", "MaxPool1d(3)"),
    "adaptiveavgpool2d": ("AdaptiveAvgPool2D((1, 1))", "AdaptiveAvgPool2d(1)"),
    "dropout": ("Dropout(0.2)", "Dropout(0.2)"),
    "leakyrelu": ("LeakyReLU()", "LeakyReLU()"),
    "hardtanh": ("ReLU6()", "Hardtanh(0, 6)"),
    "gelu": ("GELU(approximate=True)", "GELU('tanh')"),
    "softmax": ("Softmax(1)", "Softmax(1)"),
    "upsample": ("UpsamplingBilinear2D(scale_factor=2)",
                 "Upsample(scale_factor=2, mode='bilinear', align_corners=True)"),
    "pad2d": ("Pad2D(2, mode='reflect')", "ReflectionPad2d(2)"),
    "embedding": ("Embedding(9, 4, padding_idx=0)", "Embedding(9, 4, padding_idx=0)"),
    "unfold": ("Unfold(2)", "Unfold(2)"),
    "lstm": ("LSTM(3, 4, direction='bidirect')", "LSTM(3, 4, bidirectional=True, batch_first=True)"),
}  # fmt: skip
READ = """
import json, sys
from torch import nn
from alignment.layers.settings import TORCH, kind_of_class, settings_of
layers = [eval("nn." + text) for text in sys.argv[1:]]
print(json.dumps([[kind_of_class(type(layer).__name__), settings_of(layer, TORCH)] for layer in layers]))
"""


# {constructor of Paddle: (of PyTorch, number of axes of the input)} with equal settings in another notation.
NOTATIONS = {
    "Softmax()": ("Softmax(dim=1)", 2), "Softmax(-1)": ("Softmax()", 2), "Softmax(-3)": ("Softmax()", 3),
    "LogSoftmax(1)": ("LogSoftmax(-1)", 2), "GLU(1)": ("GLU(-3)", 4), "Flatten(1, 3)": ("Flatten()", 4),
    "Conv2D(3, 4, 3, padding=[1, 1, 2, 2])": ("Conv2d(3, 4, 3, padding=(1, 2))", 4),
    "Conv2D(3, 4, 3, padding=[[0, 0], [0, 0], [1, 1], [2, 2]])": ("Conv2d(3, 4, 3, padding=(1, 2))", 4),
    "Conv2D(3, 4, 3, padding=[[0, 0], [1, 1], [2, 2], [0, 0]], data_format='NHWC')":
        ("Conv2d(3, 4, 3, padding=(1, 2))", 4),
    "Conv2D(3, 4, 3)": ("Conv2d(3, 4, 3, padding='valid')", 4),
    "MaxPool2D(3, padding=[1, 1, 1, 1])": ("MaxPool2d(3, padding=1)", 4),
}  # fmt: skip


@pytest.mark.torch
def test_other_notations_are_equal_settings():
    from paddle import nn

    texts = [f"{text}, {num_axes}" for text, num_axes in NOTATIONS.values()]
    code = READ.replace("settings_of(layer, TORCH)", "settings_of(layer[0], TORCH, layer[1])")
    code = code.replace("type(layer)", "type(layer[0])")
    done = subprocess.run([sys.executable, "-c", code, *texts], cwd=ROOT, capture_output=True, text=True, check=True)
    for (text, (_, num_axes)), (_, other) in zip(NOTATIONS.items(), json.loads(done.stdout), strict=True):
        settings = settings_of(eval("nn." + text, {"nn": nn}), PADDLE, num_axes)
        assert settings.keys() == other.keys() and differing_settings(settings, other) == {}, text


def test_a_padding_of_two_ends_that_differ_is_no_other_notation():
    from paddle import nn

    settings = settings_of(nn.Conv2D(3, 4, 3, padding=[1, 2, 1, 2]), PADDLE, 4)
    assert differing_settings(settings, settings | {"padding": [1, 2]}) and settings["padding"] == [1, 2, 1, 2]


@pytest.mark.torch
def test_equal_layers_of_both_frameworks_have_equal_settings():
    from paddle import nn

    command = [sys.executable, "-c", READ, *(texts[1] for texts in LAYERS.values())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for (kind, (text, _)), (other_kind, other) in zip(LAYERS.items(), json.loads(done.stdout), strict=True):
        layer = eval("nn." + text, {"nn": nn})
        settings = settings_of(layer, PADDLE)
        assert kind_of_class(type(layer).__name__) == kind == other_kind
        assert settings and differing_settings(settings, other) == {}, kind
        assert settings.keys() == other.keys(), kind


def test_the_default_of_every_layer_is_read():
    """Each word of the table names an attribute that Paddle's layer has."""
    from paddle import nn

    settings = settings_of(nn.BatchNorm2D(4), PADDLE)
    assert settings["new_batch_share"] == 0.1 and settings.keys() == SETTINGS["batchnorm"].keys()
    assert settings_of(nn.AvgPool2D(3), PADDLE)["stride"] == 3


def test_lists_of_equal_values_are_one_value():
    assert [plain_value(value) for value in ([1, 1], (2, 3), [[0, 0], [0, 0]], None, 1.5, "Same")] == [
        1, [2, 3], 0, None, 1.5, "same"
    ]  # fmt: skip
    assert plain_value(np.float32) == str(np.float32).lower() or plain_value(np.float32) == str(np.float32)


def test_a_class_of_the_user_with_a_known_name_may_lack_the_settings():
    from paddle import nn

    class LSTM(nn.Layer):
        hidden_size = 3

    assert settings_of(LSTM(), PADDLE) == {"hidden_size": 3}


@pytest.mark.parametrize(
    ("port", "reference", "differs"),
    [(1e-5, 1e-3, True), (1e-5, 0.00001000000001, False), (None, False, False), (False, True, True), (0, None, True)],
)
def test_settings_differ_by_more_than_rounding(port, reference, differs):
    assert bool(differing_settings({"x": port}, {"x": reference})) == differs


def test_the_edit_is_in_the_words_of_paddle():
    assert suggested_edit("BatchNorm2D", "new_batch_share", 0.1) == "BatchNorm2D(..., momentum=0.9)"
    assert suggested_edit("AvgPool2D", "count_include_pad", True) == "AvgPool2D(..., exclusive=False)"
    assert suggested_edit("MaxPool2D", "ceil_mode", True) == "MaxPool2D(..., ceil_mode=True)"


@pytest.mark.parametrize(
    ("class_name", "word", "value", "edit"),
    [
        ("InstanceNorm2D", "affine", False, "InstanceNorm2D(..., weight_attr=False, bias_attr=False)"),
        ("GroupNorm", "affine", False, "GroupNorm(..., weight_attr=False, bias_attr=False)"),
        ("LayerNorm", "shape", [4, 5], "LayerNorm(..., normalized_shape=[4, 5])"),
        ("BatchNorm", "activation", "relu", "BatchNorm(..., act='relu')"),
        ("SimpleRNN", "activation", "relu", "SimpleRNN(..., activation='relu')"),
        ("Unfold", "kernel", 3, "Unfold(..., kernel_sizes=3)"),
        ("Fold", "stride", 2, "Fold(..., strides=2)"),
        ("CosineSimilarity", "epsilon", 1e-6, "CosineSimilarity(..., eps=1e-06)"),
        ("InstanceNorm2D", "statistics", "of the batch, then running", ""),
        ("MaxPool2D", "dilation", 2, ""),
        ("ReLU6", "max", 5, ""),
        ("Dropout2D", "dropout_mode", "upscale_in_train", ""),
        ("Conv2DTranspose", "padding_mode", "circular", ""),
        ("AvgPool1D", "divisor_override", 3, ""),
        ("ALayerOfTheUser", "epsilon", 1e-6, ""),
    ],
)
def test_an_edit_has_only_arguments_that_the_class_takes(class_name, word, value, edit):
    assert suggested_edit(class_name, word, value) == edit


@pytest.mark.parametrize(
    ("others", "word", "differs"),
    [
        ({"padding": 0, "ceil_mode": False}, "count_include_pad", False),
        ({"padding": 1, "ceil_mode": False}, "count_include_pad", True),
        ({"padding": 0, "ceil_mode": True}, "count_include_pad", True),
        ({"padding": 0}, "padding_mode", False),
        ({"kernel": 1}, "dilation", False),
        ({"mode": "nearest"}, "align_corners", False),
        ({"mode": "bilinear"}, "align_corners", True),
        ({"p": 0}, "dropout_mode", False),
    ],
)
def test_a_setting_without_effect_is_no_difference(others, word, differs):
    assert bool(differing_settings(others | {word: 1}, others | {word: 2})) == differs
