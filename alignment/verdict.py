"""Results of the stages: checks with their numbers, and one word for all of them: pass, fail or inconclusive."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .compare import Difference

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
EXIT_CODES = {PASS: 0, FAIL: 6, INCONCLUSIVE: 6}


@dataclass
class Check:
    """One comparison.

    Attributes:
        name: what was compared.
        status: pass, fail or inconclusive.
        value: relative error.
        tolerance: largest relative error that passes.
        detail: what was found, in words.
        layer: path of a layer of the port, if the check is about one.
        hints: probable causes, the most probable first.
    """

    name: str
    status: str
    value: float | None = None
    tolerance: float | None = None
    detail: str = ""
    layer: str = ""
    hints: list[str] = field(default_factory=list)


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

    def first_problem(self) -> Check | None:
        """The check nearest to the cause: of the first stage that failed, the first check with a layer, else the first.

        If no stage failed, the same among the inconclusive checks; None if all checks pass.
        """
        for status in (FAIL, INCONCLUSIVE):
            for stage in self.stages:
                checks = [check for check in stage.checks if check.status == status]
                if checks:
                    return next((check for check in checks if check.layer), checks[0])
        return None


def combined_status(statuses: Iterable[str]) -> str:
    """The worst of the statuses: fail, then inconclusive, then pass. No status at all is inconclusive."""
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
