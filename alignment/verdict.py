"""Results of the stages: checks with their numbers, and one word for all of them: pass, fail or inconclusive."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from .compare import Difference

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
REMARK = "remark"  # a difference that is said and does not decide
FIRST_GRADIENT = "first wrong gradient"  # of the stage backward, which the loss may have
LAST_STAGE = "train"  # in which every mistake of the others has consequences
MAX_PROBLEMS = 10  # that a report explains
# An error of this size may come from one constant that is written or kept as float32 (2^-24 is 6e-8).
CONSTANT_ERROR = 2.5e-7
EXIT_CODES = {PASS: 0, FAIL: 6, INCONCLUSIVE: 6}


@dataclass
class Check:
    """One comparison.

    Attributes:
        name: what was compared.
        status: pass, fail, inconclusive or remark.
        value: relative error.
        tolerance: largest relative error that passes.
        detail: what was found, in words.
        layer: path of a layer of the port, if the check is about one.
        hints: probable causes, the most probable first.
        source: lines of code of both sides, for the eyes of the user.
    """

    name: str
    status: str
    value: float | None = None
    tolerance: float | None = None
    detail: str = ""
    layer: str = ""
    hints: list[str] = field(default_factory=list)
    source: list[str] = field(default_factory=list)

    @property
    def effect(self) -> float:
        """Size of the difference, to order problems by; 0 if it has no effect on the input."""
        if self.value is None or math.isnan(self.value):
            return math.inf
        return self.value

    @property
    def has_cause(self) -> bool:
        """Whether the check names a place or a cause, and not only a value that differs somewhere after it."""
        return bool(self.layer or self.hints or self.source)


@dataclass
class StageResult:
    """All checks of one stage; `layers` (rows of the layer table) and `curves` (losses) are for the HTML report."""

    name: str
    checks: list[Check]
    seconds: float = 0.0
    layers: list[dict] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The worst status of the checks."""
        return combined_status(check.status for check in self.checks)


@dataclass
class Verdict:
    """The results of all stages that were run for a case.

    Attributes:
        case: its name.
        stages: the results.
        versions: of the packages.
        not_compared: parts of the user's pipeline that the case does not name.
    """

    case: str
    stages: list[StageResult]
    versions: dict[str, str] = field(default_factory=dict)
    not_compared: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The worst status of the stages."""
        return combined_status(stage.status for stage in self.stages)

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 0 if all checks pass, else 6."""
        return EXIT_CODES[self.status]

    def problems(self) -> list[Check]:
        """The failed checks, or the inconclusive ones if none failed: causes first, the one with most effect first.

        Values that differ without a named place follow in the order of the stages: what is before them may be their
        cause. So may the causes of other stages be of what differs in training, if no hint says more. Of several checks
        about one layer the first stays. An error of the size of one float32 constant becomes
        a remark, and comes last, if there is a larger one.
        """
        for status in (FAIL, INCONCLUSIVE):
            found: list[Check] = []
            for stage in self.stages:
                checks = [check for check in stage.checks if check.status == status]
                if any(check.has_cause for check in found):
                    checks = [
                        _without_place(check) if stage.name == LAST_STAGE or check.name == FIRST_GRADIENT else check
                        for check in checks
                    ]
                found += checks
            if found:
                return _ordered(found)
        return []

    def causes_and_others(self) -> tuple[list[Check], list[str]]:
        """(the problems with a cause, or all if none has one; the names of the others, which may follow from these)."""
        problems = self.problems()
        causes = [check for check in problems if check.has_cause] or problems
        return causes, list(dict.fromkeys(check.name for check in problems if check not in causes))

    def remarks(self) -> list[Check]:
        """The differences that do not decide."""
        return [check for stage in self.stages for check in stage.checks if check.status == REMARK]

    def first_problem(self) -> Check | None:
        """The worst problem; None if all checks pass."""
        return next(iter(self.problems()), None)


def _without_place(check: Check) -> Check:
    """The check without its layer and lines, which are where a consequence is seen first, unless it has a hint."""
    return check if check.hints else replace(check, layer="", source=[])


def _ordered(checks: list[Check]) -> list[Check]:
    causes: dict[str, Check] = {}
    for check in checks:
        if check.has_cause:
            place = check.layer.partition("#")[0] or check.name  # without the number of the call
            known = causes.setdefault(place, check)
            if known.effect == 0 < check.effect:  # a setting that the first input did not reach
                causes[place] = replace(known, value=check.value, tolerance=check.tolerance)
    first = sorted(causes.values(), key=lambda check: -check.effect)
    largest = first[0].effect if first else 0.0
    is_remark = [0 < check.effect <= CONSTANT_ERROR < largest and not check.hints for check in first]
    others = [check for check in checks if not check.has_cause]
    small = [replace(check, status=REMARK) for check, small in zip(first, is_remark, strict=True) if small]
    return [check for check, small in zip(first, is_remark, strict=True) if not small] + others + small


def combined_status(statuses: Iterable[str]) -> str:
    """The worst of the statuses: fail, inconclusive, pass; a remark passes. No status at all is inconclusive."""
    given = set(statuses)
    return FAIL if FAIL in given else INCONCLUSIVE if INCONCLUSIVE in given or not given else PASS


def within(name: str, difference: Difference, tolerance: float, *, layer: str = "", detail: str = "") -> Check:
    """Check that the relative error of a comparison is at most `tolerance`.

    Args:
        name: name of the check.
        difference: result of the comparison.
        tolerance: largest relative error that passes.
        layer: path of a layer of the port.
        detail: text for the check; the note of the difference replaces it.
    """
    if difference.inconclusive and difference.relative <= tolerance:
        status, detail = INCONCLUSIVE, f"{difference.inconclusive} in the reference; {detail}".strip("; ")
    elif difference.note and difference.inconclusive:
        status, detail = INCONCLUSIVE, difference.note
    else:
        status = PASS if difference.relative <= tolerance else FAIL
        detail = difference.note or detail
    return Check(name, status, difference.relative, tolerance, detail, layer)


def exactly(name: str, is_equal: bool, detail: str, *, layer: str = "") -> Check:
    """Check something that is right or wrong without a tolerance.

    Args:
        name: name of the check.
        is_equal: whether the check passes.
        detail: text for the check.
        layer: path of a layer of the port.
    """
    return Check(name, PASS if is_equal else FAIL, detail=detail, layer=layer)
