"""Convolutions by oneDNN: the numbers of Paddle's to rounding, where they are used, and where they are not."""

import copy

import numpy as np
import paddle
import pytest
from paddle import nn

from engine.onednn import convolution, library
from engine.onednn.convolution import PADDLE, Geometry, OneDNNConv2D, convolution_library, use_onednn_convolutions

needs_onednn = pytest.mark.skipif(library.find_library() is None, reason="this Paddle has no oneDNN")


@pytest.fixture(autouse=True)
def _small_convolutions_too(monkeypatch):
    limit(monkeypatch, min_macs=0)
    convolution.find_kernels.cache_clear()
    yield
    convolution.find_kernels.cache_clear()


def limit(monkeypatch, **limits):
    """Take the limits for Intel, with these changed, on every processor."""
    monkeypatch.setattr(convolution, "limits", lambda: convolution.INTEL._replace(**limits))


# image size, arguments of nn.Conv2D
GEOMETRIES = {
    "3x3": (7, {"in_channels": 16, "out_channels": 24, "kernel_size": 3, "padding": 1}),
    "stride": (10, {"in_channels": 3, "out_channels": 16, "kernel_size": 7, "stride": (2, 3), "padding": (3, 1)}),
    "sides": (9, {"in_channels": 4, "out_channels": 5, "kernel_size": (3, 5), "padding": [0, 1, 2, 3]}),
    "groups": (6, {"in_channels": 12, "out_channels": 18, "kernel_size": 3, "groups": 3}),
    "depthwise": (8, {"in_channels": 20, "out_channels": 20, "kernel_size": 5, "padding": 2, "groups": 20}),
    "one pixel": (1, {"in_channels": 6, "out_channels": 6, "kernel_size": 5, "padding": 2, "groups": 6}),
    "two pixels": (2, {"in_channels": 6, "out_channels": 6, "kernel_size": 5, "padding": 2, "groups": 6}),
    "kernel beyond": (
        3,
        {"in_channels": 4, "out_channels": 5, "kernel_size": (7, 6), "stride": 2, "padding": [4, 3, 1, 5]},
    ),
    "small product": (4, {"in_channels": 40, "out_channels": 8, "kernel_size": 1}),
}


def results(layer: nn.Layer, x: paddle.Tensor) -> list[np.ndarray]:
    """Output, and the gradients of the input and of the parameters for fixed gradients of the output."""
    y = layer(x)
    ramp = paddle.linspace(-1, 1, y.size).reshape(y.shape).cast(y.dtype)
    inputs = [tensor for tensor in [x, *layer.parameters()] if not tensor.stop_gradient]
    return [tensor.numpy() for tensor in [y, *paddle.grad([(y * ramp).sum()], inputs)]]


def images(side: int, channels: int, dtype: str = "float32") -> paddle.Tensor:
    paddle.seed(0)
    x = paddle.randn([2, channels, side, side]).cast(dtype)
    x.stop_gradient = False
    return x


def assert_close(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape and np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@needs_onednn
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_numbers_are_those_of_paddle_and_the_same_each_time(name, has_bias, monkeypatch):
    side, arguments = GEOMETRIES[name]
    layer = nn.Conv2D(**arguments, bias_attr=None if has_bias else False)
    if has_bias:
        layer.bias.set_value(paddle.randn(layer.bias.shape))
    x = images(side, arguments["in_channels"])
    expected = results(layer, x)
    assert use_onednn_convolutions(layer) == 1
    monkeypatch.setattr(nn.Conv2D, "forward", None)  # Paddle must not be asked
    first, second = results(layer, x), results(layer, x)
    assert_close(first, expected)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("side", "kernel", "padding", "stride", "taps"),
    [(1, 5, 2, 1, (2, 3)), (2, 5, 2, 1, (1, 4)), (2, 5, 2, 2, (2, 4)), (4, 5, 2, 1, (0, 5)), (3, 7, 3, 3, (3, 6))],
)
def test_taps_that_meet_zeros_alone_are_left_out(side, kernel, padding, stride, taps):
    geometry = Geometry((2, 6, side, 8), (6, 1, kernel, 3), (stride, 1), (padding, padding, 1, 1), 6, False)
    assert geometry.used_taps() == (slice(*taps), slice(0, 3))
    cropped = geometry.cropped(geometry.used_taps())
    assert cropped.weight == (6, 1, taps[1] - taps[0], 3) and cropped.output == geometry.output


@needs_onednn
@pytest.mark.parametrize("frozen", [["x"], ["weight"], ["bias"], ["weight", "bias"], ["x", "weight"], ["x", "bias"]])
def test_gradients_are_only_of_what_is_trained(frozen):
    layer, x = nn.Conv2D(8, 8, 3), images(6, 8)
    for name in frozen:
        (x if name == "x" else getattr(layer, name)).stop_gradient = True
    expected = results(layer, x)
    use_onednn_convolutions(layer)
    assert_close(results(layer, x), expected)


@needs_onednn
def test_without_gradients_and_with_a_view_as_input():
    layer, x = nn.Conv2D(8, 8, 3), paddle.randn([2, 6, 6, 8]).transpose([0, 3, 1, 2])
    expected = layer(x).numpy()
    use_onednn_convolutions(layer)
    with paddle.no_grad():
        y = layer(x)
    assert y.stop_gradient and np.abs(y.numpy() - expected).max() < 1e-5


@needs_onednn
@pytest.mark.parametrize(
    ("side", "arguments", "dtype"),
    [
        (10, {"kernel_size": 1}, "float32"),  # a large product
        (6, {"kernel_size": 3, "padding": "SAME"}, "float32"),
        (6, {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}, "float32"),
        (6, {"kernel_size": 3, "dilation": 2}, "float32"),
        (6, {"kernel_size": 3}, "float64"),
    ],
)
def test_the_others_are_computed_by_paddle(side, arguments, dtype):
    layer, x = nn.Conv2D(4, 6, **arguments).to(dtype=dtype), images(side, 4, dtype)
    expected = results(layer, x)
    use_onednn_convolutions(layer)
    assert all(np.array_equal(a, b) for a, b in zip(results(layer, x), expected, strict=True))


@needs_onednn
@pytest.mark.parametrize(("groups", "is_by_paddle"), [(1, True), (2, True), (8, False)])
def test_small_ones_are_computed_by_paddle_unless_depthwise(groups, is_by_paddle, monkeypatch):
    layer, x = nn.Conv2D(8, 8, 3, groups=groups), images(6, 8)  # an output of [2, 8, 4, 4]
    use_onednn_convolutions(layer)
    limit(monkeypatch, min_macs=2 * 8 * 4 * 4 * 9 * 8 // groups + 1)
    monkeypatch.setattr(nn.Conv2D, "forward", lambda self, x: None)
    assert (layer(x) is None) == is_by_paddle
    limit(monkeypatch, min_macs=2 * 8 * 4 * 4 * 9 * 8 // groups)
    convolution.find_kernels.cache_clear()
    assert layer(x) is not None


@needs_onednn
def test_small_ones_of_many_images_are_computed_by_onednn(monkeypatch):
    layer = nn.Conv2D(8, 8, 3)
    use_onednn_convolutions(layer)
    limit(monkeypatch, min_macs=10**9)
    monkeypatch.setattr(nn.Conv2D, "forward", lambda self, x: None)
    assert layer(paddle.ones([convolution.MIN_IMAGES - 1, 8, 4, 4])) is None
    assert layer(paddle.ones([convolution.MIN_IMAGES, 8, 4, 4])) is not None


@pytest.mark.parametrize(("is_intel", "is_by_onednn"), [(True, False), (False, True)])
def test_products_that_are_large_are_left_to_mkl_where_it_is_fast(is_intel, is_by_onednn, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(convolution, "is_intel", lambda: is_intel)
    convolution.limits.cache_clear()
    product = Geometry((64, 32, 56, 56), (32, 32, 1, 1), (1, 1), (0, 0, 0, 0), 1, False)
    assert (not product.is_large_product() and not product.is_small()) == is_by_onednn
    convolution.limits.cache_clear()


@needs_onednn
@pytest.mark.parametrize("refused", ["forward", "backward_data", "backward_weights"])
def test_what_onednn_refuses_is_computed_by_paddle(refused, monkeypatch):
    layer, x = nn.Conv2D(5, 7, 3), images(5, 5)
    expected = results(layer, x)
    use_onednn_convolutions(layer)
    create = library.Library.create

    def refuse(self, name, *arguments):
        if name == f"convolution_{refused}_primitive_desc_create":
            raise library.UnsupportedError
        return create(self, name, *arguments)

    monkeypatch.setattr(library.Library, "create", refuse)
    convolution.find_kernels.cache_clear()
    assert all(np.array_equal(a, b) for a, b in zip(results(layer, x), expected, strict=True))
    convolution.find_kernels.cache_clear()


@needs_onednn
def test_copies_names_and_traced_programs_stay(tmp_path):
    model = nn.Sequential(nn.Conv2D(3, 4, 3), nn.Sequential(nn.Conv2D(4, 4, 1)))
    names, x = list(model.state_dict()), paddle.randn([1, 3, 5, 5])
    assert convolution_library(model) == PADDLE
    assert use_onednn_convolutions(model) == 2
    assert list(model.state_dict()) == names
    assert convolution_library(model) == f"oneDNN {library.find_library().version}"
    twin = copy.deepcopy(model)
    twin[0].weight.set_value(paddle.zeros_like(twin[0].weight))
    assert isinstance(twin[0], OneDNNConv2D) and not np.allclose(twin(x).numpy(), model(x).numpy())
    model.eval()
    paddle.jit.save(model, str(tmp_path / "model"), input_spec=[paddle.static.InputSpec([None, 3, 5, 5])])
    assert_close([paddle.jit.load(str(tmp_path / "model"))(x).numpy()], [model(x).numpy()])


@pytest.mark.parametrize(("device", "found"), [("gpu:0", "the library"), ("cpu", None)])
def test_nothing_happens_on_a_gpu_and_without_the_library(device, found, monkeypatch):
    monkeypatch.setattr(paddle, "get_device", lambda: device)
    monkeypatch.setattr(convolution, "find_library", lambda: found)
    layer = nn.Conv2D(3, 4, 3)
    assert use_onednn_convolutions(layer) == 0 and type(layer) is nn.Conv2D and convolution_library(layer) == PADDLE
