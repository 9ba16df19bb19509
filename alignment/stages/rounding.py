"""Compare the rounding of the port in float32 with that of the reference itself, tensor by tensor.

The float64 trace of the reference is exact for this purpose. Its own distance between float32 and float64 says how far
rounding alone moves each tensor in this network, with these weights: no constant can know it. It is measured in several
runs, all but the first from weights and inputs in which every number is moved to the next float32 number.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from ..compare import Difference, distance_of
from ..layers.table import LayerTable
from ..rules import Arrays
from ..session import Session, TraceRequest
from ..trace import Trace
from ..verdict import Check, within

NUM_RUNS = 3  # of the reference in float32
LEAST_SHARE = 1e-6  # of the largest gradient; a smaller one is judged by this share of it


def next_floats(rng: np.random.Generator, arrays: Arrays) -> Arrays:
    """The arrays with every float32 number moved to a neighbour, up or down at random; zeros and integers stay."""
    return {name: _next_float(rng, array) for name, array in arrays.items()}


def _next_float(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    if array.dtype != np.float32:
        return array
    away = np.where(rng.random(array.shape) < 0.5, np.float32(-np.inf), np.float32(np.inf))
    return np.where(array == 0, array, np.nextafter(array, away)).astype(np.float32)


class Rounding:
    """The reference's own distances between float32 and float64, and the judge of the port's distances.

    Args:
        session: the case; `tolerances.rounding` is the largest multiple of the own distance that passes.
        exact: trace of the reference in float64.
        request: of that trace.
    """

    def __init__(self, session: Session, exact: Trace, request: TraceRequest):
        self.session, self.exact = session, exact
        self._squares: dict[str, float] = {}
        names = tensors(exact)
        self._scales = _scales(names)
        for run in range(NUM_RUNS):
            found = tensors(self._run_of_reference(request.as_float32(), run))
            for name, array in names.items():
                square = distance_of(found[name], array) ** 2 if name in found else 0.0
                self._squares[name] = self._squares.get(name, 0.0) + square

    def _run_of_reference(self, request: TraceRequest, run: int) -> Trace:
        if run == 0:
            return self.session.reference_trace(request)()
        rng = np.random.default_rng([self.session.case.seed, run])
        weights = next_floats(rng, self.session.reference_weights)
        images = next_floats(rng, {"images": request.images})["images"]
        return self.session.reference_trace(request.with_inputs(images, weights))()

    def own(self, name: str) -> float:
        """Root mean square of the distances of a tensor over the runs, relative to the norm of the tensor."""
        return float(np.sqrt(self._squares[name] / NUM_RUNS)) / self._scales[name]

    def compare(self, name: str, actual: np.ndarray) -> tuple[Difference, float]:
        """(relative distance of the port's tensor in float32 from the exact one, largest distance that passes)."""
        exact = tensors(self.exact)[name]
        if not np.isfinite(exact).all():
            return Difference(0.0), 1.0  # the float64 comparison reports it
        allowed = self.session.allowed_rounding(self.own(name))
        distance, scale = distance_of(actual, exact), self._scales[name]
        return Difference(distance / scale, distance, scale), allowed


def tensors(trace: Trace) -> Mapping[str, np.ndarray]:
    """Every output and gradient of a trace by one name: v3, g.v3, p.conv.weight, images."""
    found = dict(trace.arrays)
    found |= {f"g.{name}": array for name, array in trace.gradients.items()}
    found |= {f"p.{name}": array for name, array in trace.parameter_gradients.items()}
    return found if trace.image_gradient is None else found | {"images": trace.image_gradient}


def float32_checks(session: Session, table: LayerTable, request: TraceRequest) -> list[Check]:
    """Judge the float32 forward of the port: the logits, and every layer in the chain.

    Args:
        session: the case.
        table: of the float64 traces; `float32_error` of its rows is filled.
        request: of these traces.
    """
    port = session.port_trace(request.as_float32())
    if port.error:
        return []
    rounding = Rounding(session, table.reference, request)
    layers = []
    for row, (index, match, _) in zip(table.rows, table.pairing.pairs, strict=True):
        actual, exact = port.nodes[index].get("outputs"), table.reference.nodes[match].get("outputs")
        if actual and exact and port.arrays[actual[0]].shape == table.reference.arrays[exact[0]].shape:
            difference, allowed = rounding.compare(exact[0], port.arrays[actual[0]])
            row.float32_error = difference.relative
            layers.append((row.path, difference, allowed))
    logits, allowed = rounding.compare(table.reference.logits, port.arrays[port.logits])
    own = rounding.own(table.reference.logits)
    detail = f"{_times(logits.relative, own)} the reference's own rounding, which is {own:.1e}"
    return [within("logits, float32", logits, allowed, detail=detail), worst_of("each layer, float32", layers)]


def worst_of(name: str, compared: Iterable[tuple[str, Difference, float]]) -> Check:
    """One check for many tensors: the first that is above what is allowed, or the one nearest to it.

    Args:
        name: of the check.
        compared: (name of the tensor, difference, largest that passes), in the order of execution.
    """
    compared = list(compared)
    wrong = [entry for entry in compared if not entry[1].relative <= entry[2]]
    path, difference, allowed = next(iter(wrong), None) or max(
        compared, key=lambda entry: entry[1].relative / entry[2], default=("none", Difference(0.0), 1.0)
    )
    detail = f"{len(compared)} tensors; " + (f"{len(wrong)} above, first {path}" if wrong else f"nearest: {path}")
    return within(name, difference._replace(inconclusive=""), allowed, layer=path if wrong else "", detail=detail)


def _times(distance: float, own: float) -> str:
    return f"{distance / own:.2f} times" if own else "without"


def _scales(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The norm of each tensor; of a gradient that is zero but for rounding, a share of the largest of its kind."""
    norms = {name: float(np.linalg.norm(np.ravel(array).astype(np.float64))) for name, array in arrays.items()}
    kinds = {name: name.partition(".")[0] if "." in name else "" for name in norms}
    largest = {kind: max(norms[name] for name in norms if kinds[name] == kind) for kind in set(kinds.values()) if kind}
    return {name: max(norm, LEAST_SHARE * largest.get(kinds[name], 0.0)) or 1e-300 for name, norm in norms.items()}
