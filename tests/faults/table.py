"""Writes the last result of each promise into docs/reliability.md: `python -m tests.faults.table`."""

import json

from common.marked_text import replaced

from .__main__ import PROMISES, RESULTS
from .job import ROOT

FRAME = {"promise", "meaning", "cases", "broken", "seed", "date", "seconds", "machine", "versions", "details"}
MARKS = ("<!-- results: python -m tests.faults.table -->", "<!-- end of results -->")
FILES = {
    "reliability.md": ("", "promise", "cases", "broken", "what else was counted", "command", "date"),
    "reliability_ch.md": ("", "承诺", "用例", "失败", "其他计数", "命令", "日期"),
}


def rows(head: tuple[str, ...]) -> str:
    """Format the table with the column names `head`."""
    last = {}
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        result = json.loads(line)
        if not result.get("skipped"):
            last[result["promise"]] = result
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in PROMISES:
        if result := last.get(name):
            more = ", ".join(f"{key.replace('_', ' ')} {_short(v)}" for key, v in result.items() if key not in FRAME)
            cells = [name, PROMISES[name][3], str(result["cases"]), str(result["broken"]), more]
            cells += [f"`python -m tests.faults {name} --cases {result['cases']}`", result["date"]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    return (", then " if isinstance(value[0], str) else "/").join(map(str, value))


def main() -> None:
    """Replace the tables of both languages."""
    for file, head in FILES.items():
        path = ROOT / "docs" / file
        text = replaced(path.read_text(encoding="utf-8"), MARKS, rows(head), file)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
