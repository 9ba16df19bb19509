"""Call the user's functions in either process, and bring what they return into one form. numpy alone."""

import inspect
import math
import random
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import numpy as np
from PIL import Image

from ..adapter import original_of
from ..rules import Arrays

# What a step changes.
SCHEDULE_STATE = {"last_epoch", "last_lr", "best", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i"}
PLATEAU = 3  # steps with one loss, after which a schedule that waits for progress sees a plateau


def flatten(value: object, name: str = "") -> Arrays:
    """The arrays in nested lists, tuples and tables, by their path: {"0.boxes": array}. None is left out.

    A list of numbers is one array.

    Raises:
        TypeError: a value is neither a tensor nor an array, a number or a text.
    """
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple) and not all(isinstance(item, int | float | str) for item in value):
        items = enumerate(value)
    elif value is None:
        return {}
    else:
        return {name or "value": as_array(value, name)}
    arrays: Arrays = {}
    for key, item in items:
        arrays |= flatten(item, f"{name}.{key}" if name else str(key))
    return arrays


def as_array(value: object, name: str = "") -> np.ndarray:
    """A tensor of either framework, a picture, a number or a text as an array.

    Raises:
        TypeError: it is something else.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):  # numpy has no such type
            value = value.astype("float32") if hasattr(value, "astype") else value.float()
        return np.array(value.numpy())
    array = np.array(value)
    if array.dtype.hasobject:
        raise TypeError(f"{name or 'the value'} is of type {type(value).__name__}; expected tensors, arrays or numbers")
    return array


def num_positional(function: Callable) -> int:
    """Number of positional parameters without a default; 2 for a function that does not tell."""
    try:
        parameters = inspect.signature(getattr(function, "forward", function)).parameters.values()
    except (TypeError, ValueError):
        return 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


def made(value: object) -> object:
    """An object of the class `value`, or `value` itself, for example a function."""
    return value() if inspect.isclass(value) else value


def call_loss(loss: Callable, output: object, target: object) -> object:
    """The scalar tensor that the loss returns, also in a table under `loss`; a loss of one parameter gets the output.

    Raises:
        TypeError: the loss returns something else.
    """
    output = original_of(output)
    value = loss(output) if num_positional(loss) == 1 else loss(output, target)
    if isinstance(value, Mapping) and "loss" in value:
        value = value["loss"]
    if not hasattr(value, "backward"):
        kind = f"a table of {', '.join(map(str, value))}" if isinstance(value, Mapping) else type(value).__name__
        raise TypeError(f"the loss returns {kind}; expected one number as a tensor, or a table with the key loss")
    if math.prod(value.shape) != 1:
        raise TypeError(f"the loss returns a tensor of shape {list(value.shape)}; expected one number: take its mean")
    return value


def call_step(step: Callable, values: Mapping[str, object]) -> object:
    """Call the training step of the user with those of the `values` that it has parameters for; returns its loss.

    Raises:
        TypeError: it has a parameter of another name.
    """
    parameters = inspect.signature(step).parameters.values()
    unknown = [p.name for p in parameters if p.name not in values and p.default is p.empty]
    if unknown:
        raise TypeError(f"the step has the parameter {unknown[0]}; known: {', '.join(values)}")
    return step(**{p.name: values[p.name] for p in parameters if p.name in values})


def as_number(loss: object) -> float:
    """The loss that a training step returns, a number or a tensor of one."""
    return float(as_array(loss).reshape(()))


def set_seeds(seed: int, seed_framework: Callable[[int], object]) -> None:
    """Seed the generators of Python, of numpy and of the framework."""
    random.seed(seed)
    np.random.seed(seed)
    seed_framework(seed)


def preprocess_images(function: Callable, paths: list[str], seed: int, seed_framework: Callable) -> Arrays:
    """What the function makes of each picture; before each call all generators are seeded.

    Args:
        function: (picture of Pillow, RGB) -> tensor, array, or a table or list of these.
        paths: of the files.
        seed: of the first call.
        seed_framework: seeds the framework.
    """
    function, arrays = made(function), {}
    for index, path in enumerate(paths):
        with Image.open(path) as image:
            picture = image.convert("RGB")
        set_seeds(seed + index, seed_framework)
        arrays |= flatten(function(picture), str(index))
    return arrays


def dataset_items(source: object, num: int | list[int], seed: int, seed_framework: Callable) -> Arrays:
    """Items of a data set by their numbers, and its `length`.

    Args:
        source: the data set, or a function or class that makes it.
        num: largest number of items, which are spread over the whole data set, or the numbers of the items.
        seed: before the data set is made, and before each item.
        seed_framework: seeds the framework.
    """
    set_seeds(seed, seed_framework)
    dataset = source if hasattr(source, "__getitem__") and not inspect.isclass(source) else source()
    length = len(dataset)
    arrays: Arrays = {"length": np.array(length)}
    spread = num if isinstance(num, list) else np.linspace(0, length - 1, min(num, length))
    for index in sorted({round(position) for position in spread if position < length}):
        set_seeds(seed + index, seed_framework)
        arrays |= flatten(dataset[index], str(index))
    return arrays


def plateau_loss(index: int) -> float:
    """A loss for step `index` that falls only at every third step, so that a schedule sees plateaus."""
    return math.exp(-(index // PLATEAU))


def schedule_settings(schedule: object) -> dict[str, list[float]]:
    """{name: numbers} of the public settings of a schedule, such as T_max, gamma and milestones."""
    found = {}
    for name, value in vars(schedule).items():
        values = list(value) if isinstance(value, list | tuple | Mapping) else [value]
        is_number = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
        if is_number and not name.startswith("_") and name not in SCHEDULE_STATE:
            found[name] = [float(one) for one in values]
    return found


def loader_batches(source: object, num: int, seed: int, seed_framework: Callable) -> Arrays:
    """The first `num` batches.

    Args:
        source: an iterable of batches, or a function or class that makes it.
        num: largest number of batches.
        seed: of all generators, set before the loader is made.
        seed_framework: seeds the framework.
    """
    set_seeds(seed, seed_framework)
    loader: Iterable = source if hasattr(source, "__iter__") and not inspect.isclass(source) else source()
    arrays: Arrays = {}
    if hasattr(loader, "__len__"):
        arrays["length"] = np.array(len(loader))
    for index, batch in enumerate(islice(iter(loader), num)):
        arrays |= flatten(batch, str(index))
    return arrays


def metric_values(metric: object, batches: list[tuple]) -> Arrays:
    """The metric after all batches, or of each batch if it is a function of one.

    Args:
        metric: a function of (output, target), or an object, class or function without parameters that gives an object
            with `update` and one of `accumulate` and `compute`.
        batches: pairs (output, target) of tensors.

    Raises:
        TypeError: an object has neither `accumulate` nor `compute`.
    """
    metric = made(metric)
    if not hasattr(metric, "update"):
        if num_positional(metric) == 0:
            return metric_values(metric(), batches)
        arrays: Arrays = {}
        for index, (output, target) in enumerate(batches):
            arrays |= flatten(metric(output, target), f"batch {index}")
        return _not_empty(arrays)
    is_of_paddle = hasattr(metric, "accumulate") and hasattr(metric, "compute")
    for output, target in batches:
        if is_of_paddle:
            found = metric.compute(output, target)
            metric.update(*(found if isinstance(found, list | tuple) else [found]))
        else:
            metric.update(output, target)
    finish = getattr(metric, "accumulate", getattr(metric, "compute", None))
    if finish is None:
        raise TypeError(f"{type(metric).__name__} has update, but neither accumulate nor compute")
    return _not_empty(flatten(finish(), "all batches"))


def _not_empty(arrays: Arrays) -> Arrays:
    if not arrays:
        raise TypeError("the metric returns None; expected a number, an array or a list of these")
    return arrays
