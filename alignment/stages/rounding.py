"""Judge distances by the rounding of the reference itself, measured tensor by tensor in float32 and in float64.

The float64 trace of the reference is exact for the comparison in float32. The reference's own distance between float32
and float64 says how far rounding alone moves each tensor in this network, with these weights: no constant can know it.
It is measured in three runs, all but the first from weights and inputs in which every number is moved to the next
float32 number. A port that is above the limit is run again from moved numbers, beside three other runs of the
reference, and differs only if it is above the limit both times.

False alarms: if the error of a tensor had a single direction, which is the worst case, the quotient of the port's and
the reference's distance would follow Student's distribution with 3 degrees of freedom; it is above 6 with a chance of
0.9 %, and twice in a row of 1 in 10,000. With ten independent directions it is never above 3.5 in two million draws.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from ..case import Case
from ..compare import LEAST_SHARE, Difference, compare, distance_of, least_scale
from ..exchange import as_floats
from ..layers.pairing import WEIGHTS
from ..layers.table import LayerTable
from ..rules import Arrays
from ..session import Session, TraceRequest
from ..trace import Trace
from ..verdict import FAIL, REMARK, Check, within

NUM_RUNS = 3  # of the reference
# A difference in float64 up to this size may be rounding that the network amplifies: then it is measured.
MAX_AMPLIFIED = 1e-5
FLOAT64_MULTIPLE = 30.0  # of the reference's own distance in float64 that passes
# Above the limit is a remark, and this many times above it a failure: operations of two frameworks differ that much.
# The gradient of the bias of Paddle's 3-D convolution has 8 times the error of torch's.
FAILURE = 10.0
Compared = list[tuple[str, Difference, float]]  # (name of the tensor, difference, largest relative one that passes)


def moved(session: Session, request: TraceRequest, run: int) -> TraceRequest:
    """The request with every weight and pixel moved to a neighbour in its precision, up or down at random; run 0 is it.

    Args:
        session: has the weights.
        request: of a trace.
        run: decides the directions, with the seed of the case.
    """
    if run == 0:
        return request
    rng, kind = np.random.default_rng([session.case.seed, run]), np.dtype(request.settings.dtype)
    weights = session.reference_weights if request.weights is None else request.weights
    images = next_floats(rng, {"images": request.images}, kind)["images"]
    return request.with_inputs(images, next_floats(rng, weights, kind))


def next_floats(rng: np.random.Generator, arrays: Arrays, kind: np.dtype, num_floats: int = 1) -> Arrays:
    """The float32 arrays in the type `kind` with every number moved, up or down; zeros and whole numbers stay.

    Args:
        rng: decides the directions.
        arrays: {name: array}.
        kind: float32 or float64.
        num_floats: how many neighbours away each number is moved.
    """
    return {name: _moved_array(rng, array, kind, num_floats) for name, array in arrays.items()}


def _moved_array(rng: np.random.Generator, array: np.ndarray, kind: np.dtype, num_floats: int) -> np.ndarray:
    if array.dtype != np.float32:
        return array
    moved = np.array(array, kind, order="C")
    bits = moved.reshape(-1).view(f"i{kind.itemsize}")  # the neighbours of a number have the next bit patterns
    is_up = np.unpackbits(np.frombuffer(rng.bytes(-(-bits.size // 8)), np.uint8), count=bits.size)
    step = np.int8(2) * is_up.view(np.int8) - np.int8(1)
    step[moved.reshape(-1) == 0] = 0
    bits += step if num_floats == 1 else step * bits.dtype.type(num_floats)
    return moved


class Rounding:
    """The reference's own distances between float32 and float64, and the judge of the port's distances.

    Args:
        session: the case; `tolerances.rounding` is the largest multiple of the own distance that passes.
        exact: trace of the reference in float64.
        request: of that trace, in float32.
        first_run: number of the first run, see `moved`.
    """

    def __init__(self, session: Session, exact: Trace, request: TraceRequest, first_run: int):
        self._session, self._exact = session, tensors(exact)
        self._scales = _scales(self._exact)
        self._squares = dict.fromkeys(self._exact, 0.0)
        for run in range(first_run, first_run + NUM_RUNS):
            found = tensors(session.reference_trace(moved(session, request, run))())
            for name, array in self._exact.items():
                self._squares[name] += distance_of(found[name], array) ** 2 if name in found else 0.0

    def own(self, name: str) -> float:
        """Root mean square of the distances of a tensor over the runs, relative to the norm of the tensor."""
        return float(np.sqrt(self._squares[name] / NUM_RUNS)) / self._scales[name]

    def compare(self, name: str, actual: np.ndarray) -> tuple[Difference, float]:
        """(relative distance of the port's tensor in float32 from the exact one, largest distance that passes)."""
        exact = self._exact[name]
        if not np.isfinite(exact).all():
            return Difference(0.0), 1.0  # the float64 comparison reports it
        distance, scale = distance_of(actual, exact), self._scales[name]
        return Difference(distance / scale, distance, scale), self._session.allowed_rounding(self.own(name))


def judged(
    session: Session, exact: Trace, request: TraceRequest, collect: Callable[[Trace, Rounding], Compared]
) -> Compared:
    """Compare the port in float32, and a second time from moved numbers if a tensor is above its limit.

    Args:
        session: the case.
        exact: trace of the reference in float64.
        request: of that trace.
        collect: (trace of the port in float32, rounding) -> comparisons, in the order of execution.
    """
    request = request.as_float32()
    port = session.port_trace(request)
    if port.error:
        return []
    first = collect(port, Rounding(session, exact, request, 0))
    if all(difference.relative <= allowed for _, difference, allowed in first):
        return first
    port = session.port_trace(moved(session, request, 2 * NUM_RUNS))
    second = collect(port, Rounding(session, exact, request, NUM_RUNS))
    return [min(pair, key=_share) for pair in zip(first, second, strict=True)]


def _share(compared: tuple[str, Difference, float]) -> float:
    return compared[1].relative / compared[2]


def tensors(trace: Trace) -> Mapping[str, np.ndarray]:
    """Every output and gradient of a trace by one name: v3, g.v3, p.conv.weight, images."""
    found = dict(trace.arrays)
    found |= {f"g.{name}": array for name, array in trace.gradients.items()}
    found |= {f"p.{name}": array for name, array in trace.parameter_gradients.items()}
    return found if trace.image_gradient is None else found | {"images": trace.image_gradient}


def float32_checks(session: Session, table: LayerTable, request: TraceRequest) -> list[Check]:
    """Judge the float32 forward of the port: every layer in the chain, and the logits.

    Args:
        session: the case.
        table: of the float64 traces; `float32_error` of its rows is filled.
        request: of these traces.
    """

    def collect(port: Trace, rounding: Rounding) -> Compared:
        found = []
        for row, (index, match, by) in zip(table.rows, table.pairing.pairs, strict=True):
            actual, exact = port.nodes[index].get("outputs"), table.reference.nodes[match].get("outputs")
            if (
                by != WEIGHTS
                and actual
                and exact
                and port.arrays[actual[0]].shape == table.reference.arrays[exact[0]].shape
            ):
                difference, allowed = rounding.compare(exact[0], port.arrays[actual[0]])
                row.float32_error = difference.relative
                found.append((row.path, difference, allowed))
        return [*found, ("logits", *rounding.compare(table.reference.logits, port.arrays[port.logits]))]

    compared = judged(session, table.reference, request, collect)
    return [worst_of("each layer, float32", compared[:-1]), worst_of("logits, float32", compared[-1:])]


def worst_of(name: str, compared: Iterable[tuple[str, Difference, float]]) -> Check:
    """One check for many tensors: the first that is above what is allowed, or the one nearest to it.

    Args:
        name: of the check.
        compared: (name of the tensor, difference, largest that passes), in the order of execution.
    """
    compared = list(compared)
    above = [entry for entry in compared if not entry[1].relative <= entry[2]]
    wrong = [entry for entry in above if not _share(entry) <= FAILURE]
    nearest = max(compared, key=_share, default=("none", Difference(0.0), 1.0))
    path, difference, allowed = wrong[0] if wrong else nearest
    detail = f"{len(compared)} tensors; " + (
        f"{len(above)} above, first {above[0][0]}" if above else f"nearest: {path}"
    )
    if above and not wrong:
        detail += "; an operation of this framework rounds more, for example a sum that is added up in another order"
        return Check(name, REMARK, difference.relative, allowed, detail)
    return within(name, difference._replace(inconclusive=""), allowed, layer=path if wrong else "", detail=detail)


def _scales(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The norm of each tensor; of a gradient that is zero but for rounding, a share of the largest of its kind."""
    norms = {name: float(np.linalg.norm(np.ravel(as_floats(array)))) for name, array in arrays.items()}
    kinds = {name: name.partition(".")[0] if "." in name else "" for name in norms}
    largest = {kind: max(norms[name] for name in norms if kinds[name] == kind) for kind in set(kinds.values()) if kind}
    return {name: max(norm, LEAST_SHARE * largest.get(kinds[name], 0.0)) or 1e-300 for name, norm in norms.items()}


def may_be_rounding(checks: Iterable[Check]) -> bool:
    """Whether every failed check with a number is small enough for amplified rounding, and there is one."""
    values = [check.value for check in checks if check.status == FAIL and check.tolerance is not None]
    return bool(values) and all(value is not None and value <= MAX_AMPLIFIED for value in values)


def widened(session: Session, request: TraceRequest, exact: Trace) -> Case:
    """The case with tolerances of float64 that leave room for the rounding that this network amplifies.

    The reference is run in float64 from weights and inputs that are moved to the next float64 number. The largest
    relative change of a value, times 30, is allowed if that is more than the tolerance; the same for gradients.

    Args:
        session: the case.
        request: of the trace in float64.
        exact: that trace of the reference.
    """
    before = tensors(exact)
    least = {kind: _least_scale(before, kind) for kind in ("", "g", "p")}
    largest = {"value": 0.0, "gradient": 0.0}
    for run in range(1, NUM_RUNS + 1):
        after = tensors(session.reference_trace(moved(session, request.in_chain(), run))())
        for name, array in before.items():
            kind, scale = _kind_of(name)
            if name in after and np.isfinite(array).all():
                change = compare(after[name], array, least_scale=least[scale]).relative
                largest[kind] = max(largest[kind], change if np.isfinite(change) else 0.0)
    tolerances = session.case.tolerances
    return replace(session.case, tolerances=replace(
        tolerances,
        float64=max(tolerances.float64, FLOAT64_MULTIPLE * largest["value"]),
        gradient=max(tolerances.gradient, FLOAT64_MULTIPLE * largest["gradient"]),
    ))  # fmt: skip


def _kind_of(name: str) -> tuple[str, str]:
    prefix = name.partition(".")[0] if "." in name else ""
    return ("gradient" if prefix or name == "images" else "value"), prefix


def _least_scale(arrays: Mapping[str, np.ndarray], prefix: str) -> float:
    return least_scale(array for name, array in arrays.items() if prefix and _kind_of(name)[1] == prefix)
