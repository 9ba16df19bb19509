"""The constructor arguments that decide what a layer computes, read from both frameworks in one form."""

import inspect
import math
from collections.abc import Callable

PADDLE, TORCH = 0, 1
AXES = {"axis", "first_axis", "last_axis"}  # words of settings that are numbers of axes
SOFTMAXES = ("softmax", "logsoftmax")
MAX_ROUNDING = 1e-6  # relative; two settings that differ by less are one number written with fewer digits

# Other names of one kind of layer, in lower case.
SAME_KIND = {
    "swish": "silu", "thresholdedrelu": "threshold", "multiheadattention": "multi_head_attention",
    "simplernn": "rnn", "syncbatchnorm": "batchnorm", "upsamplingbilinear2d": "upsample",
    "upsamplingnearest2d": "upsample", "softmax2d": "softmax", "relu6": "hardtanh",
}  # fmt: skip
DIMENSIONS = ("1d", "2d", "3d")
PADS = {"zeropad": "constant", "constantpad": "constant", "reflectionpad": "reflect", "replicationpad": "replicate",
        "circularpad": "circular", "pad": ""}  # fmt: skip

CHANNELS_LAST = ("NLC", "NHWC", "NDHWC")  # values of `data_format` of Paddle


def is_channels_last(layer) -> bool:
    """Whether a layer of Paddle takes tensors whose last axis has the channels."""
    return any(getattr(layer, name, None) in CHANNELS_LAST for name in ("_data_format", "data_format"))


def _padding(layer) -> object:
    """The padding of a convolution or pool, one number for each axis whose two ends have the same.

    Paddle also takes [top, bottom, left, right], and pairs of all four axes.
    """
    padding = getattr(layer, "_padding", None)
    padding = layer.padding if padding is None else padding
    if isinstance(padding, str):
        return 0 if padding.lower() == "valid" else padding
    if not isinstance(padding, tuple | list):
        return padding
    num_axes = next((int(letter) for letter in type(layer).__name__ if letter.isdigit()), len(padding))
    if all(isinstance(ends, tuple | list) for ends in padding):
        pairs = padding[1:-1] if is_channels_last(layer) else padding[2:]
    elif len(padding) == 2 * num_axes:
        pairs = list(zip(padding[::2], padding[1::2], strict=True))
    else:
        return padding
    return [ends[0] for ends in pairs] if all(ends[0] == ends[1] for ends in pairs) else padding


# {kind without 1d, 2d, 3d: {word: (attribute in Paddle, in PyTorch)}}. A function takes the layer; None is not set.
_CONV = {
    "stride": ("_stride", "stride"), "padding": (_padding, _padding), "dilation": ("_dilation", "dilation"),
    "groups": ("_groups", "groups"), "padding_mode": ("_padding_mode", "padding_mode"),
    "kernel": ("_kernel_size", "kernel_size"),
    "bias": (lambda layer: layer.bias is not None, lambda layer: layer.bias is not None),
}  # fmt: skip
_AFFINE = {"affine": (lambda layer: layer.weight is not None, lambda layer: layer.weight is not None),
           "bias": (lambda layer: layer.bias is not None, lambda layer: layer.bias is not None)}  # fmt: skip


def _kernel(layer) -> object:
    return layer.ksize if hasattr(layer, "ksize") else layer.kernel_size


def _pool_stride(layer) -> object:
    return _kernel(layer) if layer.stride is None else layer.stride


_POOL = {"kernel": (_kernel, "kernel_size"), "stride": (_pool_stride, _pool_stride),
         "padding": (_padding, _padding), "ceil_mode": ("ceil_mode", "ceil_mode")}  # fmt: skip
_RECURRENT = {
    "hidden_size": ("hidden_size", "hidden_size"), "num_layers": ("num_layers", "num_layers"),
    "num_directions": ("num_directions", lambda layer: 2 if layer.bidirectional else 1),
    "time_first": ("time_major", lambda layer: not layer.batch_first), "dropout": ("dropout", "dropout"),
}  # fmt: skip
_SLIDING = {
    "kernel": ("kernel_sizes", "kernel_size"), "stride": ("strides", "stride"),
    "padding": ("paddings", "padding"), "dilation": ("dilations", "dilation"),
}  # fmt: skip


def _paddle_statistics(layer) -> str:
    used = getattr(layer, "_use_global_stats", None)
    if used or getattr(layer, "_is_test", False):
        return "running in training too"
    is_old = type(layer).__name__ == "BatchNorm"  # its False means what None means for the others
    return "of the batch in evaluation too" if used is False and not is_old else "of the batch, then running"


def _torch_statistics(layer) -> str:
    has_statistics = getattr(layer, "running_mean", None) is not None
    return "of the batch, then running" if has_statistics else "of the batch in evaluation too"


def _upsample_mode(layer) -> str:
    if name := type(layer).__name__.lower().removeprefix("upsampling").removesuffix("2d"):
        return name if name in ("bilinear", "nearest") else getattr(layer, "mode", "nearest")
    return layer.mode


def _aligns_corners(layer) -> bool:
    return bool(getattr(layer, "align_corners", type(layer).__name__.lower() == "upsamplingbilinear2d"))


def _approximate(value: object) -> str:
    return {True: "tanh", False: "none"}.get(value, value)


def _low(layer) -> float:
    return getattr(layer, "_min", getattr(layer, "min_val", 0.0))


def _high(layer) -> float:
    return getattr(layer, "_max", getattr(layer, "max_val", 6.0))


def _pad_mode(layer) -> str:
    if hasattr(layer, "_mode"):
        return layer._mode
    return PADS[_without_dimensions(type(layer).__name__.lower())]


def _pad_value(layer) -> float | None:
    return getattr(layer, "value", 0.0) if _pad_mode(layer) == "constant" else None


UPSCALE = "upscale_in_train"


def _one(paddle_name: str, torch_name: str | None = None) -> dict:
    word = torch_name or paddle_name.lstrip("_")
    return {word: (paddle_name, torch_name or paddle_name.lstrip("_"))}


def _always(value: object) -> Callable:
    return lambda layer: value


SETTINGS: dict[str, dict[str, tuple]] = {
    "conv": _CONV,
    "convtranspose": _CONV | {"output_padding": ("output_padding", "output_padding")},
    "linear": {"bias": _CONV["bias"]},
    "bilinear": {"bias": _CONV["bias"]},
    "batchnorm": _AFFINE | {
        "epsilon": ("_epsilon", "eps"),
        "new_batch_share": (lambda layer: round(1 - layer._momentum, 12), "momentum"),
        "statistics": (_paddle_statistics, _torch_statistics),
        "activation": (lambda layer: getattr(layer, "_act", None), _always(None)),
    },
    "instancenorm": {
        "affine": (lambda layer: getattr(layer, "scale", getattr(layer, "weight", None)) is not None,
                   lambda layer: layer.weight is not None),
        "epsilon": ("_epsilon", "eps"),
        "statistics": (_always("of the batch in evaluation too"), _torch_statistics),
    },
    "layernorm": _AFFINE | {"epsilon": ("_epsilon", "eps"), "shape": ("_normalized_shape", "normalized_shape")},
    "groupnorm": _AFFINE | {"epsilon": ("_epsilon", "eps"), "num_groups": ("_num_groups", "num_groups")},
    "rmsnorm": {"epsilon": ("_epsilon", "eps")},
    "localresponsenorm": _one("size") | _one("alpha") | _one("beta") | _one("k"),
    "avgpool": _POOL | {
        "count_include_pad": (lambda layer: not layer.exclusive, "count_include_pad"),
        "divisor_override": ("divisor", "divisor_override"),
    },
    "maxpool": _POOL | {"dilation": (_always(1), "dilation"), "returns_indices": ("return_mask", "return_indices")},
    "lppool": {"norm_type": ("norm_type", "norm_type"), "kernel": (_kernel, "kernel_size"),
               "stride": (_pool_stride, _pool_stride), "ceil_mode": ("ceil_mode", "ceil_mode")},
    "adaptiveavgpool": {"output_size": (lambda layer: _either(layer, "_output_size", "output_size"), "output_size")},
    "adaptivemaxpool": {"output_size": (lambda layer: _either(layer, "_output_size", "output_size"), "output_size")},
    "dropout": {"p": ("p", "p"),
                "dropout_mode": (lambda layer: getattr(layer, "mode", UPSCALE), _always(UPSCALE)),
                "axis": (lambda layer: getattr(layer, "axis", None), _always(None))},
    "alphadropout": _one("p"), "featurealphadropout": _one("p"),
    "leakyrelu": _one("_negative_slope"), "prelu": _one("_num_parameters"),
    "rrelu": _one("_lower") | _one("_upper"), "elu": _one("_alpha"), "celu": _one("_alpha"),
    "gelu": {"approximate": (lambda layer: _approximate(layer._approximate), "approximate")},
    "softplus": _one("_beta") | _one("_threshold"),
    "hardtanh": {"min": (_low, _low), "max": (_high, _high)},
    "hardshrink": {"threshold": ("_threshold", "lambd")}, "softshrink": {"threshold": ("_threshold", "lambd")},
    "threshold": _one("_threshold") | _one("_value"), "glu": {"axis": ("_axis", "dim")},
    "softmax": {"axis": (lambda layer: getattr(layer, "_axis", -3), lambda layer: getattr(layer, "dim", -3))},
    "logsoftmax": {"axis": ("_axis", "dim")},
    "upsample": {"mode": (_upsample_mode, _upsample_mode), "align_corners": (_aligns_corners, _aligns_corners),
                 "align_mode": (lambda layer: getattr(layer, "align_mode", 0), _always(0))},
    "pad": {"mode": (_pad_mode, _pad_mode), "padding": ("padding", "padding"), "value": (_pad_value, _pad_value)},
    "pixelshuffle": _one("_upscale_factor"), "pixelunshuffle": _one("_downscale_factor"),
    "channelshuffle": _one("_groups"), "flatten": {"first_axis": ("start_axis", "start_dim"),
                                                   "last_axis": ("stop_axis", "end_dim")},
    "unfold": _SLIDING, "fold": _SLIDING | {"output_size": ("output_sizes", "output_size")},
    "embedding": _one("_padding_idx") | {"max_norm": (lambda layer: getattr(layer, "_max_norm", None), "max_norm")},
    "lstm": _RECURRENT, "gru": _RECURRENT, "rnn": _RECURRENT | {
        "activation": (lambda layer: getattr(layer, "activation", layer.mode.split("_")[-1].lower()), "nonlinearity")},
    "multi_head_attention": {"num_heads": ("num_heads", "num_heads"), "dropout": ("dropout", "dropout")},
    "cosinesimilarity": {"axis": ("_axis", "dim"), "epsilon": ("_eps", "eps")},
    "pairwisedistance": {"p": (lambda layer: _either(layer, "p", "norm"), "norm"),
                         "epsilon": ("epsilon", "eps"), "keepdim": ("keepdim", "keepdim")},
    "hardsigmoid": {}, "maxout": _one("_groups"),
}  # fmt: skip

# {word: argument of Paddle classes that have no argument of this word}
OTHER_ARGUMENTS = {"shape": "normalized_shape", "epsilon": "eps", "kernel": "kernel_sizes"}
# {word: (argument of the Paddle class, value there for a value of the reference)}, to suggest an edit.
PADDLE_ARGUMENTS = {
    "new_batch_share": ("momentum", lambda value: round(1 - value, 12)),
    "count_include_pad": ("exclusive", lambda value: not value),
    "bias": ("bias_attr", lambda value: None if value else False),
    "affine": ("weight_attr", lambda value: None if value else False),
    "kernel": ("kernel_size", lambda value: value),
    "first_axis": ("start_axis", lambda value: value),
    "last_axis": ("stop_axis", lambda value: value),
    "time_first": ("time_major", lambda value: value),
    "num_directions": ("direction", lambda value: "bidirect" if value == 2 else "forward"),
    "returns_indices": ("return_mask", lambda value: value),
    "statistics": ("use_global_stats", lambda value: {"of the batch, then running": None}.get(value, False)),
    "activation": ("act", lambda value: value),
    "dropout_mode": ("mode", lambda value: value),
    "approximate": ("approximate", lambda value: value == "tanh"),
}


def kind_of_class(name: str) -> str:
    """Kind of a layer by the name of its class, one word for both frameworks: `conv2d` for Conv2d and Conv2D."""
    name = name.lower()
    name = SAME_KIND.get(name, name)
    base = _without_dimensions(name)
    if base in PADS and name != base:
        return "pad" + name.removeprefix(base)
    if name.startswith("convtranspose"):  # Conv2DTranspose of Paddle
        return f"conv{name[-2:]}transpose"
    return name


def settings_of(layer, side: int, num_axes: int | None = None) -> dict:
    """The settings of a layer, {word: plain value}.

    An attribute that the layer does not have is left out: the class may be the user's own and have a known name.

    Args:
        layer: of either framework.
        side: PADDLE or TORCH.
        num_axes: of the tensor that the layer takes. With it an axis is counted from the first, so that -1 and 1 are
            the same for [B, C].
    """
    settings, kind = {}, _without_dimensions(kind_of_class(type(layer).__name__))
    for word, attributes in SETTINGS.get(kind, {}).items():
        source = attributes[side]
        try:
            value = source(layer) if callable(source) else getattr(layer, source)
        except (AttributeError, KeyError, TypeError):
            continue
        settings[word] = plain_value(value)
    if num_axes:
        if kind in SOFTMAXES and settings.get("axis", 0) is None:
            settings["axis"] = 0 if num_axes in (0, 1, 3) else 1  # what torch takes where no axis is given
        for word in AXES & settings.keys():
            if _is_number(settings[word]) and settings[word] < 0:
                settings[word] += num_axes
    return settings


def differing_settings(port: dict, reference: dict) -> dict[str, tuple]:
    """{word: (value in the port, in the reference)} of the settings that both sides have and that differ.

    A setting that has no effect beside the others, such as a padding mode without padding, is left out.
    """
    without_effect = _without_effect(port) & _without_effect(reference)
    return {
        word: (port[word], reference[word])
        for word in sorted(port.keys() & reference.keys() - without_effect)
        if not _is_equal(port[word], reference[word])
    }


def _without_effect(settings: dict) -> set[str]:
    """The words that change nothing whatever their value is."""
    words = set()
    if settings.get("padding") == 0:
        words |= {"padding_mode"} | ({"count_include_pad"} if not settings.get("ceil_mode") else set())
    if settings.get("divisor_override"):
        words |= {"count_include_pad"}
    if settings.get("kernel") == 1:
        words |= {"dilation"}
    if settings.get("mode") == "nearest":
        words |= {"align_corners", "align_mode"}
    if settings.get("align_corners"):
        words |= {"align_mode"}
    if settings.get("p") == 0:
        words |= {"dropout_mode", "axis"}
    return words


def suggested_edit(class_name: str, word: str, reference_value: object) -> str:
    """The constructor of the Paddle class with the argument that the reference's value needs.

    An empty text if paddle.nn has no such class, or the class no such argument: the port needs another layer then.
    """
    from paddle import nn

    kind = getattr(nn, class_name, None)
    known = inspect.signature(kind.__init__).parameters if inspect.isclass(kind) else ()
    argument, convert = PADDLE_ARGUMENTS.get(word, (word, lambda value: value))
    others = [(name, lambda value: value) for name in (word, f"{word}s", OTHER_ARGUMENTS.get(word))]
    for name, converted in [(argument, convert), *others]:
        if name in known:
            edit = f"{name}={converted(reference_value)!r}"
            if word == "affine":  # without its own argument the bias stays
                edit += f", bias_attr={converted(reference_value)!r}"
            return f"{class_name}(..., {edit})"
    return ""


def plain_value(value):
    """A value of a setting that JSON can hold. A list of equal values becomes one value: [1, 1] and 1 mean the same."""
    if isinstance(value, tuple | list):
        value = [plain_value(element) for element in value]
        return value[0] if value and all(element == value[0] for element in value) else value
    if isinstance(value, str):
        return value.lower()
    return value if isinstance(value, int | float | bool | None) else str(value)


def _is_equal(a: object, b: object) -> bool:
    if _is_number(a) and _is_number(b):
        return math.isclose(a, b, rel_tol=MAX_ROUNDING)
    return a == b or not (a or b or _is_number(a) or _is_number(b))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _without_dimensions(name: str) -> str:
    for dimension in DIMENSIONS:
        name = name.replace(dimension, "")
    return name


def _either(layer, first: str, second: str) -> object:
    return getattr(layer, first) if hasattr(layer, first) else getattr(layer, second)
