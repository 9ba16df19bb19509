"""Compare forwards on other inputs: other sizes, one image, and values so large or small that every kink is reached."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from common.errors import ReferenceFailedError

from ..compare import compare
from ..layers.operations import Operation
from ..layers.source import code_before
from ..layers.table import LayerTable
from ..rules import Arrays
from ..session import Session, TraceRequest
from ..trace import Trace
from ..verdict import REMARK, Check, exactly
from .first_operation import operations_at, with_hint
from .rounding import may_be_rounding, widened
from .unjudged import trace_reason, unjudged

# Added to height and width: every remainder of a division by 8 appears, so that three layers of stride 2 round
# once up and once down, and no size but the first is a square.
SIZES = ((1, 2), (3, 4), (5, 6), (7, 0))
# Factors of the images in evaluation mode: beyond the kinks of ReLU6, hardswish and clamps of some tens, and below the
# size at which an epsilon matters.
FACTORS = (8.0, 64.0, 2.0**-10)
# Factors of the images and of all vectors (weights of norms, biases) in train mode, for nets whose norms take the size
# of the images out again.
NORM_FACTORS = (16.0,)
MAX_IMAGES = 2
SOFTMAX_DEPTH = 64  # Paddle's softmax on a CPU clips the exponents at -64
CLIPPED = "an input is more than 64 below the largest, where Paddle's softmax on a CPU stops falling"


class Variation(NamedTuple):
    """One other input; `name` is for the report."""

    name: str
    request: TraceRequest


def varied_checks(session: Session) -> list[Check]:
    """One check for all inputs on which port and reference agree, and the first difference of each other kind.

    A size that the reference does not take is left out, and said; so is an input on which both models are not finite.
    """
    passed, refused, unbounded, failed = [], [], [], []
    for variation in _variations(session):
        try:
            port, reference = session.traces(variation.request)
        except ReferenceFailedError as error:
            refused.append(f"{variation.name} ({_reason(error)})")
            continue
        if first := _first_difference(session, variation.request, port, reference):
            known = {check.layer for check in failed}
            first = replace(first, name=f"first difference, {variation.name}")
            failed += unjudged([first], trace_reason(port, reference)) * (first.layer not in known)
        elif not np.isfinite(reference.arrays[reference.logits]).all():
            unbounded.append(variation.name)
        else:
            passed.append(variation.name)
    detail = ", ".join(passed) + (f"; the reference refuses {', '.join(refused)}" if refused else "")
    detail += f"; not judged, because both sides are not finite: {', '.join(unbounded)}" if unbounded else ""
    return failed or [exactly("other inputs", True, detail)]


def _first_difference(session: Session, request: TraceRequest, port: Trace, reference: Trace) -> Check | None:
    """The first layer that differs; layers are compared only if the logits differ."""
    if not port.error:
        actual, expected = port.arrays[port.logits], reference.arrays[reference.logits]
        if compare(actual, expected).relative <= session.case.tolerances.float64:
            return None
    table = LayerTable(session.case, port, reference, is_backward=False)
    first = table.first_difference()
    if first and may_be_rounding([first]):
        table = LayerTable(widened(session, request, reference), port, reference, is_backward=False)
        first = table.first_difference()
    if first and _is_beyond_softmax(table, first.layer):
        return replace(first, status=REMARK, hints=[CLIPPED])
    if not first:
        return None
    found = operations_at(session, request, table, first)
    if found.port and found.reference and _is_clipped(found.port, found.reference):
        return replace(first, status=REMARK, hints=[CLIPPED])
    return with_hint(replace(first, source=code_before(table, first.layer)), found)


def _is_clipped(port: Operation, reference: Operation) -> bool:
    """Whether two calls are softmaxes of inputs so far apart that Paddle's kernel for a CPU clips them."""
    lowest = {"softmax": math.exp(-SOFTMAX_DEPTH), "log_softmax": -SOFTMAX_DEPTH}.get(reference.name)
    return port.name == reference.name and lowest is not None and reference.lowest < lowest


def _is_beyond_softmax(table: LayerTable, path: str) -> bool:
    """Whether the layer is a softmax with inputs so far apart that Paddle's kernel for a CPU clips them."""
    return any(
        node["path"] == path
        and "softmax" in node["class"].lower()
        and any(np.ptp(table.port.arrays[name]) > SOFTMAX_DEPTH for name in node["inputs"])
        for node in table.port.nodes
    )


def _variations(session: Session) -> Iterator[Variation]:
    shape = session.case.train.shape
    images = session.images((min(shape[0], MAX_IMAGES), *shape[1:]), "varied")
    request = session.evaluation_request(images)
    yield Variation("one image", request.with_inputs(images[:1]))
    if len(shape) == 4:
        for height, width in SIZES:
            size = (len(images), shape[1], shape[2] + height, shape[3] + width)
            yield Variation(f"{size[2]} x {size[3]} pixels", request.with_inputs(session.images(size, "varied")))
    for factor in FACTORS:
        yield Variation(f"images times {factor:g}", request.with_inputs(images * np.float32(factor)))
    training = replace(request, settings=replace(request.settings, is_training=True))
    for factor in NORM_FACTORS:
        large = _with_large_vectors(session, factor)
        name = f"train mode, images, biases and weights of norms times {factor:g}"
        yield Variation(name, training.with_inputs(images * np.float32(factor), large))


def _with_large_vectors(session: Session, factor: float) -> Arrays:
    """The weights of the session with every parameter that is a vector times `factor`."""
    vectors = {
        entry["name"] for entry in session.inventory["entries"] if entry["is_parameter"] and len(entry["shape"]) <= 1
    }
    return {
        name: np.asarray(array * array.dtype.type(factor)) if name in vectors else array
        for name, array in session.reference_weights.items()
    }


def _reason(error: Exception) -> str:
    """The last words of a message of the reference."""
    return re.sub(r"\s+", " ", str(error).split(": ", 2)[-1])[:80]
