"""The layer table: every pair of layers with its errors in the chain and alone, and where the first difference is."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from ..case import Case
from ..compare import Difference, compare, compare_axes, compare_packed, is_degenerate, least_scale, without_ones
from ..exchange import DropoutMasks
from ..mapping import patterns
from ..memory import is_refused
from ..paddle_side.recorder import last_line, run_alone
from ..rules import Rules
from ..trace import Trace, gradients_or_zeros, split_gradients
from ..verdict import FAIL, PASS, REMARK, Check, exactly
from .floors import FLOORS, allowed_after
from .hints import layer_hints, value_hints
from .outputs import differing_outputs, differing_parts
from .pairing import WEIGHTS, Pair, Pairing, node_kind, pair, without_guesses
from .rows import Row, WrongGradient
from .settings import is_channels_last

GUESS_TOLERANCE = 1e-6  # relative; outputs of one layer differ by less, whatever it rounds to
LOGITS = "(logits)"  # in place of the path of a layer: the end of the model
SEQUENCES = ("multi_head_attention", "lstm", "gru", "rnn")  # batch first, or the sequence
LEAST_SHARE = 1e-4  # of the largest gradient of a layer; a smaller gradient is judged by this share of it


class LayerTable:
    """Compares two traces of one forward, and of one backward if `is_backward`, layer by layer.

    `chain_tolerance` is the largest error of the logits that passes.

    Args:
        case: tolerances, and names of layers that belong together.
        port: trace of the Paddle model.
        reference: trace of the reference.
        is_backward: compare the gradients, too.
    """

    def __init__(self, case: Case, port: Trace, reference: Trace, *, is_backward: bool):
        self.case, self.port, self.reference = case, port, reference
        self.pairing = self._with_other_axes(self._pairing())
        self.rows = [self._row(*found) for found in self.pairing.pairs]
        for row, (index, match, _) in zip(self.rows, self.pairing.pairs, strict=True):
            self._run_alone(row, index, match, is_backward=is_backward)
        self.chain_tolerance = self._judge_chain()

    @cached_property
    def logits(self) -> Difference:
        """The difference of the outputs of the two models, whose number and shapes must be equal."""
        if note := differing_outputs(self.port, self.reference):
            return Difference(np.inf, note=note)
        actual, expected = self.port.arrays[self.port.logits], self.reference.arrays[self.reference.logits]
        return _ignore_common_nan(compare(actual, expected, absolute=self.case.tolerances.absolute))

    def as_dicts(self) -> list[dict]:
        """The rows for the report."""
        return [row.as_dict() for row in self.rows]

    def first_difference(self) -> Check | None:
        """The first place, in the order of execution, where the values differ; None if they agree everywhere."""
        last_good = "the images"
        for row, (index, match, _) in zip(self.rows, self.pairing.pairs, strict=True):
            if not row.is_wrong_alone and row.input_error is not None and row.input_error > row.allowed:
                return self._difference_before(row, index, match, last_good)
            if row.status == FAIL:
                detail = f"{row.kind} at {row.place}; reference: {row.match} at {row.match_place}"
                detail += f"; {row.note}" if row.note else ""
                error = max(row.output_error or 0, row.worst_alone)
                hints = row.hints or self._hints_in_chain(index, match)
                return Check("first difference", FAIL, error, row.tolerance, detail, row.path, hints)
            last_good = row.path
        if self.port.error:
            detail = f"the port stops after {last_good}: {self.port.error}"
            return Check("first difference", FAIL, detail=detail, layer=last_good)
        logits = self.logits
        if logits.relative > self.chain_tolerance:
            words, parts = differing_parts(
                self.port, self.reference, lambda *pair: self._compare(*pair).relative > self.chain_tolerance
            )
            detail = f"in the model's own code after {last_good}; {logits.note or words}".rstrip("; ")
            hints = list(dict.fromkeys(hint for pair in parts for hint in value_hints(*pair)))
            return Check("first difference", FAIL, logits.relative, self.chain_tolerance, detail, LOGITS, hints)
        return None

    def _hints_in_chain(self, index: int, match: int) -> list[str]:
        """Hints for layers that have equal inputs and other outputs, and could not be run alone."""
        nodes, layer = (self.port.nodes[index], self.reference.nodes[match]), self.port.layers[index]
        actual = [self.port.arrays[name] for name in nodes[0].get("outputs", [])]
        expected = [self.reference.arrays[name] for name in nodes[1].get("outputs", [])]
        return layer_hints(nodes, layer, [], actual, expected)

    def first_wrong_gradient(self) -> WrongGradient | None:
        """From the loss towards the inputs: the first output of a layer whose gradient differs."""
        gradients = self.reference.gradients
        least, after = least_scale(gradients.values()), "the loss"
        for index, match, _ in reversed(self.pairing.pairs):
            node, other = self.port.nodes[index], self.reference.nodes[match]
            for name, reference_name in zip(node.get("outputs", []), other.get("outputs", []), strict=False):
                actual, expected = self.port.gradients.get(name), gradients.get(reference_name)
                if expected is None:
                    continue
                if actual is not None and without_ones(actual.shape) == without_ones(expected.shape):
                    actual = actual.reshape(expected.shape)
                difference = Difference(np.inf) if actual is None else compare(actual, expected, least_scale=least)
                if difference.relative > self.case.tolerances.gradient:
                    return WrongGradient(node, difference.relative, actual is None, after)
            after = node["path"]
        return None

    def nodes_around(self, path: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """((port), (reference)): the nodes of the pair of layers before a path and of that of the path.

        Before the first pair the number is -1; the path LOGITS is behind the last node. None for an unpaired layer.
        """
        pairs = [(index, match) for index, match, _ in self.pairing.pairs]
        if path == LOGITS:
            number, last = len(pairs), (len(self.port.nodes), len(self.reference.nodes))
        else:
            number = next((k for k, (index, _) in enumerate(pairs) if self.port.nodes[index]["path"] == path), None)
            if number is None:
                return None
            last = pairs[number]
        first = pairs[number - 1] if number else (-1, -1)
        return (first[0], last[0]), (first[1], last[1])

    def unpaired_with_weights(
        self, in_port: Iterable[str] = (), in_reference: Iterable[str] = (), second_names: Iterable[str] = ()
    ) -> Check:
        """Check that no layer with parameters lacks a match; a layer without parameters may be a function elsewhere.

        If the logits agree, a layer whose weights the other side has too is a remark: the code calls a function with
        them there.

        Args:
            in_port: names of the entries of the port.
            in_reference: names of the entries of the reference.
            second_names: entries of the reference that are tensors of other layers, as of a head with the matrix of an
                embedding.
        """
        port = self._unpaired(self.port, self.pairing.only_port, self.case.split_names(is_port=True))
        reference = self._unpaired(self.reference, self.pairing.only_reference, self.case.split_names(is_port=False))
        detail = f"{len(self.rows)} pairs"
        if port or reference:
            detail += f"; without a match in the port: {reference or 'none'}, in the reference: {port or 'none'}"
            layers, weights = Rules(tuple(self.case.layers.items())), self.case.rules("torch")
            own = set(in_reference) - set(second_names)
            missing = [
                path
                for path in reference
                if _has_layer(own, path)
                and not _has_layer(in_port, layers.port_name(path))
                and not all(name in in_port for entry in _of_layer(own, path) for name in weights.port_names(entry))
            ]
            missing += [
                path
                for path in port
                if not _has_layer(in_reference, layers.source_name(path))
                and not all(weights.source_name(entry) in in_reference for entry in _of_layer(in_port, path))
            ]
            if not missing and not self.port.error and self.logits.relative <= self.chain_tolerance:
                detail += "; the other side has their weights, and a function with them in place of the call"
                return Check("every layer with weights has a match", REMARK, detail=detail)
        return exactly("every layer with weights has a match", not (port or reference), detail)

    @staticmethod
    def _unpaired(trace: Trace, indices: list[int], divided: list[str]) -> list[str]:
        """Paths of layers with parameters, without those whose weights are divided or joined."""
        paths = [node["path"].split("#")[0] for k in indices if (node := trace.nodes[k])["num_parameters"]]
        return [path for path in dict.fromkeys(paths) if not any(_is_of_layer(name, path) for name in divided)]

    def degenerate_layers(self) -> list[str]:
        """Paths of layers whose output in the reference is constant or not finite: agreement there proves nothing."""
        return [
            self.reference.nodes[match]["path"]
            for _, match, _ in self.pairing.pairs
            for name in self.reference.nodes[match].get("outputs", [])
            if is_degenerate(self.reference.arrays[name])
        ]

    def _pairing(self) -> Pairing:
        """The pairs of layers, without guesses for layers whose weights are divided or joined.

        If the outputs of the models agree, a guess of layers with other values is no pair.
        """
        found = without_guesses(pair(self.port, self.reference, self.case.layers), self._has_divided_weights)
        if self.port.error:
            return found
        if self.logits.relative > self.case.tolerances.float64:
            return found
        return without_guesses(found, self._is_wrong_guess)

    def _with_other_axes(self, found: Pairing) -> Pairing:
        """The pairing; layers whose tensors have the axes in another order count as paired by weights.

        These are layers of the port with channels last, and layers that are given the same values with other axes, if
        the outputs of the models agree, or the layer is of SEQUENCES and returns the same values with other axes, too.
        """
        if not self.port.layers:
            return found
        agrees = not self.port.error and self.logits.relative <= self.case.tolerances.float64
        pairs = [
            one._replace(by=WEIGHTS)
            if is_channels_last(self.port.layers[one.port])
            or ((agrees or self._is_sequence(one)) and self.has_other_axes(one.port, one.reference))
            else one
            for one in found.pairs
        ]
        return found._replace(pairs=pairs)

    def _is_sequence(self, one: Pair) -> bool:
        """Whether two layers of SEQUENCES return the same values, with the axes in any order."""
        node, other = self.port.nodes[one.port], self.reference.nodes[one.reference]
        if node_kind(node) not in SEQUENCES:
            return False
        outputs = self._differences_of_axes(node.get("outputs", [])[:1], other.get("outputs", [])[:1])
        return bool(outputs) and _worst(outputs) <= GUESS_TOLERANCE

    def has_other_axes(self, index: int, match: int) -> bool:
        """Whether the inputs of two layers agree with the axes in another order, and not as they are."""
        names = self.port.nodes[index]["inputs"], self.reference.nodes[match]["inputs"]
        as_they_are = _worst(self._differences(*names))
        if len(names[0]) != len(names[1]) or as_they_are is None or as_they_are <= GUESS_TOLERANCE:
            return False
        turned = self._differences_of_axes(*names)
        return len(turned) == len(names[0]) and _worst(turned) <= GUESS_TOLERANCE

    def _has_divided_weights(self, guess: Pair) -> bool:
        """Whether the weights of one of two layers are divided or joined, so that several layers are its match."""
        node, other = self.port.nodes[guess.port], self.reference.nodes[guess.reference]
        names = self.case.split_names(is_port=True), self.case.split_names(is_port=False)
        paths = (node["path"].split("#")[0], other["path"].split("#")[0])
        return any(_is_of_layer(name, path) for path, of_side in zip(paths, names, strict=True) for name in of_side)

    def _is_wrong_guess(self, guess: Pair) -> bool:
        """Whether two layers without weights have other outputs."""
        node, other = self.port.nodes[guess.port], self.reference.nodes[guess.reference]
        outputs = self._differences(node.get("outputs", []), other.get("outputs", []))
        return not node["num_parameters"] and (_worst(outputs) or 0.0) > GUESS_TOLERANCE

    def _row(self, index: int, match: int, paired_by: str) -> Row:
        node, other = self.port.nodes[index], self.reference.nodes[match]
        tolerance = max(FLOORS.get(node_kind(node), 0.0), self.case.tolerances.float64)
        match_name = f"{other['path']} {other['class']}"
        row = Row(node["path"], node["class"], node["place"], match_name, other["place"], paired_by, tolerance)
        compare_all = self._differences_of_axes if paired_by == WEIGHTS else self._differences
        if other.get("is_packed"):
            row.note = "the reference is given a PackedSequence: what it returns is in the inputs of the next layers"
            return row
        outputs = compare_all(node.get("outputs", []), other.get("outputs", []))
        numbers = len(node["inputs"]), len(other["inputs"])
        # The same values may be given in another way: attention(x) beside attention(x, x, x), without a state of zeros,
        # or by the name of the argument. The outputs tell whether they are the same.
        row.input_error = _worst(compare_all(node["inputs"], other["inputs"])) if numbers[0] == numbers[1] else None
        row.output_error = _worst(outputs)
        counts = f"{numbers[0]} tensors as input, in the reference {numbers[1]}" if numbers[0] != numbers[1] else ""
        row.note = next((difference.note for difference in outputs if difference.note), counts)
        if self.port.error and "outputs" not in node:
            row.note = f"the port stops in it: {self.port.error}"
        return row

    def _judge_chain(self) -> float:
        """Fill `allowed` and `status` of the rows; returns what is allowed at the logits."""
        tolerances = self.case.tolerances
        allowed = tolerances.float64
        for row, (index, _, _) in zip(self.rows, self.pairing.pairs, strict=True):
            allowed = allowed_after(self.port, allowed, row.input_error, index, tolerances.amplification)
            if tolerances.float64 < (row.alone_error or 0) <= row.tolerance:
                allowed = max(allowed, row.alone_error * tolerances.amplification)
            row.allowed = allowed
            is_right = not row.is_wrong_alone and (row.output_error is None or row.output_error <= allowed)
            row.status = PASS if is_right else FAIL
        if self.port.error:
            return allowed
        return allowed_after(self.port, allowed, self.logits.relative, len(self.port.nodes), tolerances.amplification)

    def _compare(self, actual: np.ndarray, expected: np.ndarray) -> Difference:
        """Compare a value inside the models; axes of length 1 may differ, as of positions [1, T] that are added."""
        if without_ones(actual.shape) == without_ones(expected.shape):
            actual = actual.reshape(expected.shape)
        return _ignore_common_nan(compare(actual, expected, absolute=self.case.tolerances.absolute))

    def _differences(self, port_names: list[str], reference_names: list[str]) -> list[Difference]:
        if len(port_names) != len(reference_names):
            return [Difference(np.inf, note=f"{len(port_names)} tensors against {len(reference_names)}")]
        names = zip(port_names, reference_names, strict=True)
        return [self._compare(self.port.arrays[a], self.reference.arrays[b]) for a, b in names]

    def _differences_of_axes(self, port_names: list[str], reference_names: list[str]) -> list[Difference]:
        """The differences where one side may have the axes in another order; none for another shape of equal size."""
        names = zip(port_names, reference_names, strict=False)
        return [
            _ignore_common_nan(found)
            for a, b in names
            if (
                found := compare_axes(
                    self.port.arrays[a], self.reference.arrays[b], absolute=self.case.tolerances.absolute
                )
            )
        ]

    def _run_alone(self, row: Row, index: int, match: int, *, is_backward: bool) -> None:
        """Run a layer of the port on the inputs of its match, so that one wrong layer does not hide the next."""
        node, other, layer = self.port.nodes[index], self.reference.nodes[match], self.port.layers[index]
        if row.paired_by == WEIGHTS and not self._has_equal_axes(node, other):
            return
        is_comparable = node["is_isolable"] and other["is_isolable"] and len(node["inputs"]) == len(other["inputs"])
        if not is_comparable or not other.get("outputs"):
            return
        inputs = [self.reference.arrays[name] for name in other["inputs"]]
        expected = [self.reference.arrays[name] for name in other["outputs"]]
        gradients = [self.reference.gradients.get(name) for name in other["outputs"]]
        has_gradients = is_backward and any(gradient is not None for gradient in gradients)
        gradients = gradients_or_zeros(gradients, expected)
        masks = DropoutMasks(self.case.seed)
        masks.start_step(0, other["mask_call"])
        try:
            outputs, results = run_alone(layer, inputs, gradients if has_gradients else None, masks)
        except Exception as error:  # a wrong layer may refuse the shape of an input or of a gradient
            if is_refused(error):
                raise
            row.note = f"cannot take what the reference's takes: {last_line(error)}"
            row.is_wrong_alone = True
            row.hints = layer_hints((node, other), layer, [], [], [])
            return
        row.alone_error = _worst(self._compare(a, b) for a, b in zip(outputs, expected, strict=True))
        if has_gradients:
            of_inputs, of_parameters = split_gradients(node["path"], results)
            row.gradient_error = _worst(self._gradients_alone(match, of_inputs | of_parameters))
        allowed = max(self.case.tolerances.gradient, row.tolerance)
        row.is_wrong_alone = not (row.alone_error <= row.tolerance and (row.gradient_error or 0) <= allowed)
        if row.is_wrong_alone:
            row.hints = layer_hints((node, other), layer, inputs, outputs, expected)

    def _has_equal_axes(self, node: dict, other: dict) -> bool:
        """Whether the inputs of two layers have the same axes: they agree as they are. Equal shapes do not tell it."""
        inputs = self._differences(node["inputs"], other["inputs"])
        return all(difference.relative <= GUESS_TOLERANCE for difference in inputs)

    def _gradients_alone(self, match: int, results: dict[str, np.ndarray]) -> list[Difference]:
        expected = self.reference.isolated_gradients.get(match, {})
        largest = max((float(np.abs(array).max()) for array in expected.values() if array.size), default=0.0)
        absolute = self.case.tolerances.absolute
        missing = [Difference(np.inf, note=f"no gradient of {name}") for name in expected if name not in results]
        return missing + [
            _ignore_common_nan(
                compare_packed(results[name], array, least_scale=LEAST_SHARE * largest, absolute=absolute)
            )
            for name, array in expected.items()
            if name in results
        ]

    def _difference_before(self, row: Row, index: int, match: int, last_good: str) -> Check:
        """The check for a layer that is given other inputs than its match, though all layers before it agree."""
        pairs = self.pairing.pairs
        previous = max((a for a, b, _ in pairs if a < index), default=-1)
        previous_match = max((b for a, b, _ in pairs if b < match), default=-1)
        extra = [self.port.nodes[k] for k in self.pairing.only_port if previous < k < index]
        missing = [self.reference.nodes[k] for k in self.pairing.only_reference if previous_match < k < match]
        hints = [
            f"the port has {node['class']} {node['path']} ({node['place']}) here, the reference has not"
            for node in extra
        ]
        hints += [f"the reference has {node['class']} {node['path']} ({node['place']}) here" for node in missing]
        hints += [
            f"the reference calls {self.reference.nodes[b]['path']} before {row.path}, the port after it"
            for a, b, _ in pairs
            if a > index and b < match
        ]
        names = zip(self.port.nodes[index]["inputs"], self.reference.nodes[match]["inputs"], strict=False)
        found = [hint for a, b in names for hint in value_hints(self.port.arrays[a], self.reference.arrays[b])]
        hints += list(dict.fromkeys(found))
        where = f"in the code that calls {row.path} ({row.place}), after {last_good}; reference: {row.match_place}"
        layer = extra[0]["path"] if extra else row.path
        return Check("first difference", FAIL, row.input_error, row.allowed, where, layer, hints)


def _has_layer(names: Iterable[str], path: str) -> bool:
    return bool(_of_layer(names, path))


def _of_layer(names: Iterable[str], path: str) -> list[str]:
    """The names of entries of a layer."""
    return [name for name in names if name.startswith(f"{path}.")]


def _is_of_layer(pattern: str, path: str) -> bool:
    """Whether a pattern of names of entries is of the weights of a layer."""
    layer = patterns.match(pattern, f"{path}.weight") or patterns.match(pattern, f"{path}.in_proj_weight")
    return layer is not None or pattern.startswith(f"{path}.")


def _ignore_common_nan(difference: Difference) -> Difference:
    """NaN on both sides is no difference; `degenerate_layers` and the check of the logits report it as inconclusive."""
    return difference._replace(relative=0.0) if difference.inconclusive and difference.note else difference


def _worst(differences: Iterable[Difference]) -> float | None:
    return max((difference.relative for difference in differences), default=None)
