"""Weights of the classes in the loss: by the number of their images, or from a file."""

import math
import os

import numpy as np

from common.errors import DataError
from configs.schema import LossConfig

from .classes import Classes
from .reading.text_lines import read_lines, refuse

NUM_SHOWN = 8


def choose_class_weights(
    config: LossConfig, classes: Classes, labels: np.ndarray, *, is_balanced: bool = False
) -> np.ndarray | None:
    """Choose the weights that --class_weights names, [C] float32; None without the flag.

    They are scaled so that the mean over the training images is 1: the learning rate keeps its meaning. With "balanced"
    the weight of a class is N / (C * n), N images in C classes and n in this one, as scikit-learn's "balanced"; a class
    without images has 1.

    Args:
        config: branch `loss` of the config.
        classes: number and names of the classes.
        labels: class of each training image.
        is_balanced: every class is drawn equally often, so that the mean is over the classes.

    Raises:
        DataError: the file cannot be read, a line is wrong, or a class has no weight.
    """
    if not config.class_weights:
        return None
    counts = np.bincount(labels, minlength=classes.number)
    if config.class_weights == "balanced":
        weights = 1 / np.maximum(counts, 1)
    else:
        weights = np.array(read_class_weights(config.class_weights, classes))
    weights = np.where(counts > 0, weights, 0)
    weights = weights / (weights.max() or 1)  # the sum below must not overflow
    drawn = (counts > 0).astype(float) if is_balanced else counts
    mean = (weights * drawn).sum() / drawn.sum()
    if mean == 0:
        raise DataError(
            f"{config.class_weights}: all classes that have images have the weight 0; nothing would be learnt"
        )
    return np.where(counts > 0, weights / mean, 1).astype(np.float32)


def read_class_weights(path: str | os.PathLike, classes: Classes) -> list[float]:
    """Read one weight for each class, in the order of the labels.

    A line is `<class> <weight>`; the class is the name of its folder, its name, or else its number.

    Raises:
        DataError: names the line that is wrong, or the class without a weight.
    """
    labels = {str(label): label for label in range(classes.number)}
    for names in (classes.names, classes.folders):
        labels |= {name: label for label, name in enumerate(names or ())}
    weights: dict[int, float] = {}
    faults = []
    for number, line in read_lines(path):
        name, _, text = line.decode("utf-8").replace("\t", " ").rpartition(" ")
        label, weight = labels.get(name.strip()), _weight(text)
        if weight is None:
            faults.append((number, f"expected '<class> <weight>' with a weight of 0 or more, got {line.decode()!r}"))
        elif label is None:
            known = ", ".join((classes.folders or classes.names or tuple(labels))[:NUM_SHOWN])
            faults.append((number, f"no class {name.strip()!r}; the first classes are {known}"))
        elif label in weights:
            faults.append((number, f"the class {name.strip()!r} has a weight already"))
        else:
            weights[label] = weight
    refuse(path, faults)
    if missing := [label for label in range(classes.number) if label not in weights]:
        raise DataError(f"{path}: {len(missing)} classes have no weight, the first is {_name(missing[0], classes)}")
    return [weights[label] for label in range(classes.number)]


def describe_class_weights(weights: np.ndarray, classes: Classes) -> str:
    """Describe the weights for the log: the largest ones."""
    largest = np.argsort(-weights, kind="stable")[:NUM_SHOWN].tolist()
    shown = ", ".join(f"{_name(label, classes)} {weights[label]:.3g}" for label in largest)
    return f"class weights (mean over the images 1): {shown}" + ", ..." * (len(weights) > NUM_SHOWN)


def _name(label: int, classes: Classes) -> str:
    names = classes.folders or classes.names
    return names[label] if names else f"class {label}"


def _weight(text: str) -> float | None:
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if weight >= 0 and math.isfinite(weight) else None
