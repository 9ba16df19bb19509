"""A verdict as JSON, which is committed beside the code, and as JUnit XML, which CI systems read."""

import json
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

from common.files import write_atomically
from common.printable import printable

from ..verdict import FAIL, PASS, REMARK, Check, Verdict

FORMAT = 2  # of the JSON file; files of format 1 have no such number, and the key of their stages is another word


def as_json(verdict: Verdict) -> dict:
    """The verdict as plain values with three significant digits, without layer tables and curves."""
    stages = {
        stage.name: {
            "status": stage.status,
            "seconds": round(stage.seconds, 1),
            "checks": [_plain_check(check) for check in stage.checks],
        }
        for stage in verdict.stages
    }
    return {
        "format": FORMAT,
        "case": verdict.case,
        "status": verdict.status,
        "versions": verdict.versions,
        "stages": stages,
    } | ({"not_compared": verdict.not_compared} if verdict.not_compared else {})


def _plain_check(check: Check) -> dict:
    """The fields of the check that have a value; numbers may be those of numpy."""
    numbers = ("value", "tolerance")
    plain = {key: value for key, value in asdict(check).items() if value is not None and (key in numbers or value)}
    return plain | {key: _rounded(plain[key]) for key in numbers if key in plain}


def _rounded(value: float) -> float | str:
    return float(f"{value:.3g}") if value < float("inf") else "infinite"


def write_json(verdict: Verdict, path: Path) -> None:
    """Write the verdict as JSON; the folder is made.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(as_json(verdict), indent=1) + "\n")


def write_junit(verdict: Verdict, path: Path) -> None:
    """Write the verdict as JUnit XML: a suite per stage, a test per check. Inconclusive is an error, a remark output.

    Raises:
        OSError: the file cannot be written.
    """
    root = ElementTree.Element("testsuites", name=printable(f"alignment {verdict.case}"))
    for stage in verdict.stages:
        suite = ElementTree.SubElement(root, "testsuite", name=printable(stage.name), tests=str(len(stage.checks)))
        for check in stage.checks:
            test = ElementTree.SubElement(
                suite, "testcase", name=printable(check.name), classname=printable(f"{verdict.case}.{stage.name}")
            )
            message = printable("; ".join([check.detail, *check.hints]))
            if check.status == REMARK:  # it does not decide, and CI systems count every failure and error
                ElementTree.SubElement(test, "system-out").text = message
            elif check.status != PASS:
                ElementTree.SubElement(test, "failure" if check.status == FAIL else "error", message=message)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
