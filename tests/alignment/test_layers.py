"""Layers are paired by path, values and shape, and hints name the known mistakes."""

import numpy as np
import pytest

from alignment.case import Case, Training
from alignment.layers.hints import setting_hints, value_hints
from alignment.layers.pairing import pair, without_guesses
from alignment.runner import run_stages
from alignment.trace import Trace


def node(path, kind, outputs, parameters=0):
    return {"path": path, "class": kind, "inputs": [], "outputs": outputs, "num_parameters": parameters}


def test_different_trees_are_paired_by_values_and_then_by_shape():
    rng = np.random.default_rng(0)
    values = {f"v{k}": rng.normal(size=(2, 3)) for k in range(4)}
    reference = [node("a", "Conv2d", ["v0"], 9), node("b", "ReLU", ["v1"]), node("c", "Conv2d", ["v2"], 9)]
    port = [node("x", "Conv2D", ["v0"], 9), node("y.z", "Conv2D", ["v3"], 9)]
    found = pair(Trace(port, values), Trace(reference, values), {})
    assert [(p.port, p.reference, p.by) for p in found.pairs] == [(0, 0, "values"), (1, 2, "shape")]
    assert found.only_reference == [1]


@pytest.mark.parametrize(("distance", "by"), [(0.0, "values"), (1e-9, "values"), (1e-6, "shape"), (1e-4, "shape")])
def test_values_are_equal_that_differ_by_rounding(distance, by):
    """Values that differ by 1e-6 may come from the same layer, but a number in it is another."""
    values = np.random.default_rng(0).uniform(1, 2, size=(8, 8))
    port = Trace([node("x", "Conv2D", ["v0"], 9)], {"v0": values * (1 + distance)})
    reference = Trace([node("a", "Conv2d", ["v0"], 9)], {"v0": values})
    assert [p.by for p in pair(port, reference, {}).pairs] == [by]


def test_layers_of_one_kind_are_paired_after_all_shapes_differ_and_wrong_guesses_are_dropped():
    arrays = {"v0": np.ones((1, 2, 4, 4)), "v1": np.ones((1, 2, 5, 5)), "v2": np.arange(4.0)}
    port = Trace([node("a", "MaxPool2D", ["v0"]), node("b", "ReLU", ["v0"])], arrays)
    reference = Trace([node("x", "MaxPool2d", ["v1"]), node("y", "Tanh", ["v1"])], arrays)
    found = pair(port, reference, {})
    assert [(one.port, one.reference, one.by) for one in found.pairs] == [(0, 0, "shape")] and found.only_port == [1]
    rest = without_guesses(found, lambda one: True)
    assert (rest.pairs, rest.only_port, rest.only_reference) == ([], [0, 1], [0, 1])


def test_paths_are_renamed_before_they_are_paired():
    values = {"v0": np.zeros((1, 2))}
    port = Trace([node("body.0", "ReLU", ["v0"])], values)
    reference = Trace([node("features.0", "ReLU", ["v0"])], values)
    assert pair(port, reference, {"features.*": "body.*"}).pairs[0].by == "path"


def test_hints_name_the_usual_mistakes():
    momentum = setting_hints({"new_batch_share": 0.9}, {"new_batch_share": 0.1})
    assert "momentum is 0.1 (Paddle), in the reference 0.1 (torch), which is 0.9 in Paddle" in momentum[0]
    image = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    assert "times 0.5" in value_hints(image / 2, image)[0]
    assert "reverse order" in value_hints(image[:, ::-1], image)[0]
    assert "another order" in value_hints(image[:, [1, 0, 2]], image)[0]
    assert "clipped to [-1, 1]" in value_hints(image, image.clip(-1, 1))[0]
    one_lower = np.where(image == image.max(), np.sort(image, None)[-2:].mean(), image)
    assert not any("clipped" in hint for hint in value_hints(image, one_lower))
    assert "the reference's are not" in value_hints(image.clip(-1, 1), image)[0]
    assert value_hints(image, image) == []
    assert value_hints(image + 1e-9, image) == [] == value_hints(image * (1 + 1e-9), image)
    assert "plus 0.001" in value_hints(image + 1e-3, image)[0]


CHANNELS_LAST = """
from paddle import nn

class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 6, 3, padding=PADDING, data_format="NHWC")
        self.norm = nn.BatchNorm2D(6, data_format="NHWC")
        self.pool = nn.MaxPool2D(2, data_format="NHWC")

    def forward(self, x):
        return self.pool(self.norm(self.conv(x.transpose([0, 2, 3, 1])))).transpose([0, 3, 1, 2])
"""
CHANNELS_FIRST = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.pool = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.MaxPool2d(2)

    def forward(self, x):
        return self.pool(self.norm(self.conv(x)))
"""


@pytest.mark.torch
@pytest.mark.parametrize(("padding", "status"), [("1", "pass"), ("[1, 1, 0, 2]", "fail")])
def test_layers_with_channels_last_are_compared_in_the_chain(padding, status, tmp_path, reference):
    (tmp_path / "port.py").write_text(CHANNELS_LAST.replace("PADDING", padding))
    (tmp_path / "ref.py").write_text(CHANNELS_FIRST)
    train = Training(shape=(4, 3, 6, 6), steps=2, curve_side=0)
    case = Case("net", tmp_path, "port.py:Net", "ref.py:Net", shape=(2, 3, 6, 6), train=train)
    verdict = run_stages(case, ("weights", "forward", "backward", "train"), reference)
    assert verdict.status == status, verdict.problems()
