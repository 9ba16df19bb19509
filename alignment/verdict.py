"""What a stage found: checks with their numbers, and one word for the whole: pass, fail or inconclusive."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
EXIT_CODES = {PASS: 0, FAIL: 6, INCONCLUSIVE: 6}


@dataclass
class Check:
    """One comparison. `value` and `tolerance` are relative errors unless `detail` says otherwise."""

    name: str
    status: str
    value: float | None = None
    tolerance: float | None = None
    detail: str = ""
    layer: str = ""  # path in the port, where there is one
    hints: list[str] = field(default_factory=list)


@dataclass
class StageResult:
    """All checks of one stage; `layers` and `curves` are for the report."""

    name: str
    checks: list[Check]
    seconds: float = 0.0
    layers: list[dict] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)

    @property
    def status(self) -> str:
        return worst(check.status for check in self.checks)


@dataclass
class Verdict:
    """The answer of one run of the tool."""

    case: str
    stages: list[StageResult]
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        return worst(stage.status for stage in self.stages)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.status]

    def first_problem(self) -> Check | None:
        """The failed check nearest to the cause: of the first failed stage, a check with a layer before others."""
        for status in (FAIL, INCONCLUSIVE):
            for stage in self.stages:
                found = [check for check in stage.checks if check.status == status]
                if found:
                    return next((check for check in found if check.layer), found[0])
        return None


def worst(statuses) -> str:
    """Nothing checked proves nothing."""
    found = set(statuses)
    return FAIL if FAIL in found else INCONCLUSIVE if INCONCLUSIVE in found or not found else PASS


def within(name: str, difference, tolerance: float, *, layer: str = "", detail: str = "") -> Check:
    """Judge one Difference (compare.py)."""
    if difference.proves_nothing and difference.relative <= tolerance:
        status, detail = INCONCLUSIVE, f"{difference.proves_nothing} in the reference; {detail}".strip("; ")
    elif difference.note and difference.proves_nothing:
        status, detail = INCONCLUSIVE, difference.note
    else:
        status = PASS if difference.relative <= tolerance else FAIL
        detail = difference.note or detail
    return Check(name, status, difference.relative, tolerance, detail, layer)


def exactly(name: str, is_equal: bool, detail: str, *, layer: str = "") -> Check:
    """Judge something that is right or wrong without a tolerance."""
    return Check(name, PASS if is_equal else FAIL, detail=detail, layer=layer)


def as_json(verdict: Verdict) -> dict:
    """What is committed beside the code: no layer tables, no curves, four digits."""
    stages = {}
    for stage in verdict.stages:
        checks = [{key: value for key, value in asdict(check).items() if value not in (None, "", [])}
                  for check in stage.checks]  # fmt: skip
        for check in checks:
            check |= {key: _short(check[key]) for key in ("value", "tolerance") if key in check}
        stages[stage.name] = {"status": stage.status, "seconds": round(stage.seconds, 1), "checks": checks}
    return {"case": verdict.case, "status": verdict.status, "versions": verdict.versions, "stages": stages}


def _short(value: float) -> float | str:
    return float(f"{value:.3g}") if value < float("inf") else "infinite"


def write_json(verdict: Verdict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(verdict), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_junit(verdict: Verdict, path: Path) -> None:
    """For CI: one suite a stage, one test a check; an inconclusive check is an error, not a success."""
    root = ElementTree.Element("testsuites", name=f"alignment {verdict.case}")
    for stage in verdict.stages:
        suite = ElementTree.SubElement(root, "testsuite", name=stage.name, tests=str(len(stage.checks)))
        for check in stage.checks:
            test = ElementTree.SubElement(suite, "testcase", name=check.name, classname=f"{verdict.case}.{stage.name}")
            if check.status != PASS:
                tag = "failure" if check.status == FAIL else "error"
                ElementTree.SubElement(test, tag, message="; ".join([check.detail, *check.hints]))
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
