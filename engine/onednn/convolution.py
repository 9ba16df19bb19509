"""Convolutions of a training on a CPU by oneDNN, and the choice of those that it computes faster than Paddle.

In eager mode Paddle 3.3.1 computes a convolution on a CPU as a matrix product of copied patches, image by image, and a
depthwise one channel by channel. docs/journal.md has the measurements.
"""

import functools
import logging
import math
from typing import NamedTuple

import paddle
from paddle import nn
from paddle.autograd import PyLayer

from common.cpus import is_intel

from . import library as dnn
from .library import Chain, Library, Shape, UnsupportedError, dims, find_library

logger = logging.getLogger(__name__)

FORWARD_TRAINING, DIRECT = 64, 1
PADDLE = "Paddle"
MIN_IMAGES = 32  # in a batch; Paddle computes image by image, so that small convolutions of many images take it long


class Limits(NamedTuple):
    """The convolutions at which Paddle is as fast as oneDNN; depthwise ones are faster by oneDNN at any size.

    Attributes:
        min_pixels_of_product: A 1x1 convolution is a matrix product without copied patches. oneDNN reorders input and
            output around it, which pays below this number of pixels, where the products of MKL are too small.
        min_macs: Below this number of multiply-accumulates, and of MIN_IMAGES in a batch, a call costs more (in Python,
            and to reorder the weights) than it gains.
    """

    min_pixels_of_product: float
    min_macs: int


# MKL has its fast kernels for processors of Intel alone: there its large products come near the processor's rate, on
# an AMD EPYC they have a third of it.
INTEL, OTHERS = Limits(100, 5_000_000), Limits(math.inf, 500_000)


@functools.cache
def limits() -> Limits:
    """The limits for the processor of this machine."""
    return INTEL if is_intel() else OTHERS


class Geometry(NamedTuple):
    """Everything that determines the kernels of a convolution.

    Attributes:
        images: shape [N, C, H, W] of the input.
        weight: shape [out, C / groups, kernel height, kernel width].
        stride: vertical, horizontal.
        padding: top, bottom, left, right.
        groups: number of groups.
        has_bias: whether a bias [out] is added.
    """

    images: Shape
    weight: Shape
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int
    has_bias: bool

    @property
    def output(self) -> Shape:
        """Shape [N, out, H, W] of the output."""
        top, bottom, left, right = self.padding
        height = (self.images[2] + top + bottom - self.weight[2]) // self.stride[0] + 1
        width = (self.images[3] + left + right - self.weight[3]) // self.stride[1] + 1
        return self.images[0], self.weight[0], height, width

    def used_taps(self) -> tuple[slice, slice]:
        """Rows and columns of the kernel that any output takes from the images; the others meet zeros alone."""
        taps = []
        for axis, before in enumerate((self.padding[0], self.padding[2])):
            last = (self.output[2 + axis] - 1) * self.stride[axis]  # where the kernel is placed last
            first_tap, end = max(0, before - last), min(self.weight[2 + axis], self.images[2 + axis] + before)
            taps.append(slice(first_tap, end))
        return tuple(taps)

    def cropped(self, taps: tuple[slice, slice]) -> "Geometry":
        """The geometry with the same output whose kernel has these rows and columns only."""
        rows, columns = taps
        height, width = self.weight[2:]
        top, bottom, left, right = self.padding
        weight = (*self.weight[:2], rows.stop - rows.start, columns.stop - columns.start)
        vertical = top - rows.start, bottom - (height - rows.stop)
        horizontal = left - columns.start, right - (width - columns.stop)
        return self._replace(weight=weight, padding=(*vertical, *horizontal))

    def is_small(self) -> bool:
        """Whether the gain is smaller than the cost of the call."""
        is_depthwise = self.groups == self.images[1] > 1
        is_little = math.prod(self.output) * math.prod(self.weight[1:]) < limits().min_macs
        return not is_depthwise and is_little and self.images[0] < MIN_IMAGES

    def is_large_product(self) -> bool:
        """Whether the convolution is a matrix product that MKL computes as fast or faster."""
        is_product = self.weight[2:] == (1, 1) and self.groups == 1 and max(self.stride) == 1 and not any(self.padding)
        return is_product and self.images[2] * self.images[3] >= limits().min_pixels_of_product


class Kernels:
    """The kernels of oneDNN for one geometry: forward, and backward for what needs a gradient.

    Args:
        library: the library that makes them.
        geometry: of the convolution that they compute.
        taps: rows and columns of a larger kernel which make up the weight of `geometry`; None: it is the whole one.

    Raises:
        UnsupportedError: oneDNN has none.
    """

    def __init__(self, library: Library, geometry: Geometry, taps: tuple[slice, slice] | None):
        self._library, self._geometry, self.taps = library, geometry, taps
        out_channels, *rest = geometry.weight
        groups = geometry.groups
        grouped = geometry.weight if groups == 1 else (groups, out_channels // groups, *rest)
        self._shapes = {"x": geometry.images, "weight": grouped, "y": geometry.output}
        self._layouts = [library.free(shape) for shape in self._shapes.values()]
        if geometry.has_bias:
            self._shapes["bias"] = (out_channels,)
        self._bias_layout = library.plain((out_channels,)) if geometry.has_bias else dnn.NOTHING
        top, bottom, left, right = geometry.padding
        self._window = dims(*geometry.stride), dims(0, 0), dims(top, left), dims(bottom, right)
        x, weight, y = self._layouts
        self._descriptor = library.create(
            "convolution_forward_primitive_desc_create",
            *(library.engine, FORWARD_TRAINING, DIRECT, x, weight, self._bias_layout, y, *self._window, dnn.NOTHING),
        )
        self.forward = self._chain("x", "weight", "y", "bias")
        reads = {dnn.SRC: "x", dnn.WEIGHTS: "weight"} | ({dnn.BIAS: "bias"} if geometry.has_bias else {})
        self.forward.add(self._descriptor, reads, {dnn.DST: "y"})
        self.backward = functools.cache(self._create_backward)
        self.backward(True, True)  # what oneDNN refuses shows before the first forward pass

    def _chain(self, *names: str) -> Chain:
        return Chain(self._library, {name: self._shapes[name] for name in names if name in self._shapes})

    def _create_backward(self, needs_x: bool, needs_weight: bool) -> Chain:
        """The chain that reads x, weight and the gradient in y, and writes the gradients in x, weight and bias."""
        library, (x, weight, y), has_bias = self._library, self._layouts, self._geometry.has_bias
        shapes = self._shapes | {f"{name}_gradient": shape for name, shape in self._shapes.items()}
        chain = Chain(library, shapes)
        rest = (*self._window, self._descriptor, dnn.NOTHING)
        if needs_weight:
            descriptor = library.create(
                "convolution_backward_weights_primitive_desc_create",
                *(library.engine, DIRECT, x, weight, self._bias_layout, y, *rest),
            )
            writes = {dnn.DIFF_WEIGHTS: "weight_gradient"} | ({dnn.DIFF_BIAS: "bias_gradient"} if has_bias else {})
            chain.add(descriptor, {dnn.SRC: "x", dnn.DIFF_DST: "y_gradient"}, writes)
        if needs_x:
            descriptor = library.create(
                "convolution_backward_data_primitive_desc_create", library.engine, DIRECT, x, weight, y, *rest
            )
            chain.add(descriptor, {dnn.DIFF_DST: "y_gradient", dnn.WEIGHTS: "weight"}, {dnn.DIFF_SRC: "x_gradient"})
        return chain


@functools.cache
def find_kernels(geometry: Geometry) -> Kernels | None:
    """Create the kernels for a geometry once; None where Paddle's are to be taken.

    They are those for the taps that are used: for a depthwise kernel larger than the image oneDNN has only slow ones.
    """
    library, taps = find_library(), geometry.used_taps()
    cropped = geometry.cropped(taps)
    if library is None or 0 in geometry.images or cropped.is_large_product() or cropped.is_small():
        return None
    try:
        return Kernels(library, cropped, None if cropped == geometry else taps)
    except UnsupportedError:
        return None


class _Convolve(PyLayer):
    """Convolution with the kernels of oneDNN, forward and backward."""

    @staticmethod
    def forward(ctx, x, weight, bias, kernels, shape):
        y = paddle.empty(shape, "float32")
        tensors = {"x": x, "weight": weight, "y": y} | ({} if bias is None else {"bias": bias})
        kernels.forward.run(**tensors)
        ctx.save_for_backward(x, weight)
        ctx.kernels, ctx.has_bias = kernels, bias is not None
        ctx.trainable = [tensor is not None and not tensor.stop_gradient for tensor in (x, weight, bias)]
        return y

    @staticmethod
    def backward(ctx, y_gradient):
        x, weight = ctx.saved_tensor()
        needs_x, needs_weight = ctx.trainable[0], any(ctx.trainable[1:])  # one kernel writes those of weight and bias
        tensors = {"x": x, "weight": weight, "y_gradient": y_gradient.contiguous()}
        if needs_x:
            tensors["x_gradient"] = paddle.empty_like(x)
        if needs_weight:
            tensors["weight_gradient"] = paddle.empty_like(weight)
            if ctx.has_bias:
                tensors["bias_gradient"] = paddle.empty([weight.shape[0]], "float32")
        ctx.kernels.backward(needs_x, needs_weight).run(**tensors)
        names = ("x", "weight", "bias")[: 2 + ctx.has_bias]
        wanted = dict(zip(names, ctx.trainable, strict=False))
        return tuple(tensors[f"{name}_gradient"] if wanted[name] else None for name in names)


class OneDNNConv2D(nn.Conv2D):
    """A convolution with the parameters of nn.Conv2D that oneDNN computes where it is faster; else Paddle computes."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not paddle.in_dynamic_mode() or x.dtype != paddle.float32 or self.weight.dtype != paddle.float32:
            return super().forward(x)
        padding = self._updated_padding  # vertical, horizontal; or top, bottom, left, right
        if len(padding) == 2:
            padding = [side for side in padding for _ in range(2)]
        has_bias = self.bias is not None
        geometry = Geometry(
            tuple(x.shape), tuple(self.weight.shape), tuple(self._stride), tuple(padding), self._groups, has_bias
        )
        kernels = find_kernels(geometry)
        if kernels is None:
            return super().forward(x)
        weight = self.weight
        if kernels.taps:
            rows, columns = kernels.taps
            weight = weight[:, :, rows, columns].contiguous()
        return _Convolve.apply(x.contiguous(), weight, self.bias, kernels, geometry.output)


def use_onednn_convolutions(model: nn.Layer) -> int:
    """Let oneDNN compute the convolutions of a model in place, on a CPU and where Paddle has the library.

    Parameters, their names and exported programs stay as they are; the results differ by rounding.

    Returns:
        The number of convolutions that oneDNN may compute.
    """
    library = find_library() if paddle.get_device() == "cpu" else None
    if library is None:
        return 0
    convolutions = [layer for layer in model.sublayers(include_self=True) if _is_simple(layer)]
    for layer in convolutions:
        layer.__class__ = OneDNNConv2D
    logger.info(f"convolutions: by oneDNN {library.version} where that is faster (--no_onednn: all by Paddle)")
    return len(convolutions)


def _is_simple(layer: nn.Layer) -> bool:
    """Whether the layer is a convolution of [N, C, H, W] with zeros around, without holes."""
    return type(layer) is nn.Conv2D and (
        layer._data_format == "NCHW"
        and layer._padding_mode == "zeros"
        and layer._padding_algorithm == "EXPLICIT"
        and list(layer._dilation) == [1, 1]
    )


def convolution_library(model: nn.Layer) -> str:
    """Name and version of the library of the convolutions of a model on a CPU, on which their last bits depend."""
    is_used = any(isinstance(layer, OneDNNConv2D) for layer in model.sublayers(include_self=True))
    return f"oneDNN {find_library().version}" if is_used else PADDLE
