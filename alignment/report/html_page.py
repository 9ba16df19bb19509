"""The HTML report, one file without links to others: verdict, stages, layer tables, error by depth, loss curves."""

import html
import math
from pathlib import Path

from common.files import write_atomically
from common.printable import printable

from ..verdict import FAIL, MAX_PROBLEMS, PASS, Check, Verdict
from .text import stage_summary

STYLE = """
:root{--ink:#1c2330;--soft:#5d6778;--line:#dfe3ea;--page:#fff;--pass:#1a7f4b;--fail:#c0362c;--inconclusive:#a86400;
--a:#2563c9;--b:#d9822b;--c:#8a94a6}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#9aa4b5;--line:#333b48;--page:#14181f;--pass:#4cc38a;
--fail:#ff7b72;--inconclusive:#e3a341;--a:#6ea8fe;--b:#f0a860;--c:#7c8799}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1180px;margin:2rem auto;
padding:0 1rem}h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .5rem}
.word{font-weight:700}.pass{color:var(--pass)}.fail{color:var(--fail)}.inconclusive{color:var(--inconclusive)}
table{border-collapse:collapse;width:100%;font-size:13px}th{text-align:left;color:var(--soft);font-weight:500}
td,th{padding:.28rem .6rem .28rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}code{font-size:12px}
.scroll{max-height:34rem;overflow:auto;border:1px solid var(--line);padding:0 .6rem}.soft{color:var(--soft)}
tr.first td{background:color-mix(in srgb,var(--fail) 16%,transparent)}.box{border-left:4px solid var(--fail);
padding:.4rem .9rem;margin:1rem 0;background:color-mix(in srgb,var(--fail) 8%,transparent)}
thead th{position:sticky;top:0;background:var(--page)}
.wide{overflow-x:auto}.box,.soft{overflow-wrap:anywhere}pre{white-space:pre-wrap;font-size:12px;margin:.4rem 0 0}
@media(max-width:600px){body{margin:1rem auto;padding:0 .7rem}h1{font-size:1.3rem}ul{padding-left:1.2rem}
.wide svg{min-width:620px}.wide td:last-child{min-width:14rem}}
svg{width:100%;height:auto}svg text{fill:var(--soft);font-size:11px}
"""
COLORS = ("var(--a)", "var(--b)", "var(--c)", "var(--fail)")
WORDS = {PASS: "match", FAIL: "no match"}


def write_report(verdict: Verdict, path: Path) -> None:
    """Write the report; the folder is made.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, as_html(verdict))


def as_html(verdict: Verdict) -> str:
    """The report as one HTML page; all texts of the verdict are escaped."""
    versions = ", ".join(f"{name} {version}" for name, version in verdict.versions.items())
    parts = [
        f'<h1>{_text(verdict.case)}: <span class="{verdict.status}">{WORDS.get(verdict.status, "inconclusive")}</span>'
        f'</h1><p class="soft">{_text(versions)}</p>',
        _problems(verdict),
        _stages(verdict),
    ]
    for stage in verdict.stages:
        if stage.layers:
            parts += [_depth_plot(stage.name, stage.layers), _layer_table(stage.name, stage.layers, verdict)]
        if stage.curves:
            parts.append(_curves(stage.curves))
    viewport = "width=device-width,initial-scale=1"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="{viewport}">'
    title = f"<title>{_text(verdict.case)} alignment</title><style>{STYLE}</style>"
    return f"{head}{title}<body>{''.join(parts)}</body></html>"


def _problems(verdict: Verdict) -> str:
    """One box for each problem, causes first, at most ten."""
    causes, others = verdict.causes_and_others()
    boxes = [_problem(number, check) for number, check in enumerate(causes[:MAX_PROBLEMS], 1)]
    if others:
        boxes.append(f'<p class="soft">may follow from these: {_text(", ".join(others))}</p>')
    return "".join(boxes)


def _problem(number: int, check: Check) -> str:
    hints = "".join(f"<li>{_text(hint)}</li>" for hint in check.hints)
    place = f" at <code>{_text(check.layer)}</code>" if check.layer else ""
    source = "\n".join(_text(line) for line in check.source)
    return (f'<div class="box"><b>{number}. {_text(check.name)}{place}</b> {_number(check.value)}<br>'
            f"{_text(check.detail)}{f'<ul>{hints}</ul>' if hints else ''}"
            f"{f'<pre>{source}</pre>' if source else ''}</div>")  # fmt: skip


def _stages(verdict: Verdict) -> str:
    """One row for each stage, and one for each check of a stage that does not pass, or that is a remark."""
    rows = []
    for stage in verdict.stages:
        rows.append(f'<tr><td><b>{_text(stage.name)}</b></td><td class="word {stage.status}">{stage.status}</td>'
                    f'<td></td><td></td><td></td><td class="soft">{_text(stage_summary(stage))}, '
                    f"{stage.seconds:.1f} s</td></tr>")  # fmt: skip
        for check in stage.checks:
            if check.status == PASS:
                continue
            rows.append(f'<tr><td></td><td class="{check.status}">{check.status}</td><td>{_text(check.name)}</td>'
                        f'<td class="n">{_number(check.value)}</td><td class="n">{_number(check.tolerance)}</td>'
                        f"<td>{_text(check.detail)}</td></tr>")  # fmt: skip
    head = '<tr><th>stage</th><th></th><th>check</th><th class="n">error</th><th class="n">allowed</th><th></th></tr>'
    return f'<h2>Stages</h2><div class="wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _layer_table(stage: str, layers: list[dict], verdict: Verdict) -> str:
    first = next((check.layer for result in verdict.stages if result.name == stage
                  for check in result.checks if check.status == FAIL and check.layer), None)  # fmt: skip
    rows = []
    for row in layers:
        mark = ' class="first" id="first"' if row["path"] == first else ""
        numbers = "".join(f'<td class="n">{_number(row[key])}</td>' for key in (
            "output_error", "alone_error", "gradient_error", "float32_error"))  # fmt: skip
        notes = "; ".join([row["note"], *row["hints"]]).strip("; ")
        status = _text(row["status"])
        rows.append(f'<tr{mark}><td class="{status}">{status}</td><td><code>{_text(row["path"])}</code> '
                    f'{_text(row["kind"])}<br><span class="soft">{_text(row["place"])}</span></td><td>'
                    f'<code>{_text(row["match"])}</code><br><span class="soft">{_text(row["match_place"])} '
                    f'(by {_text(row["paired_by"])})</span></td>{numbers}<td>{_text(notes)}</td></tr>')  # fmt: skip
    columns = "".join(f'<th class="n">{name}</th>' for name in ("in the chain", "alone", "alone, backward", "float32"))
    head = f"<tr><th></th><th>layer of the port</th><th>layer of the reference</th>{columns}<th></th></tr>"
    link = ' <a href="#first">to the first difference</a>' if first else ""
    table = f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<h2>Layers, {_text(stage)}: {len(layers)} pairs{link}</h2><div class="scroll">{table}</div>'


def _depth_plot(stage: str, layers: list[dict]) -> str:
    names = {"output_error": "float64, in the chain", "alone_error": "float64, each layer alone",
             "float32_error": "float32, in the chain"}  # fmt: skip
    lines = {label: [row[key] for row in layers] for key, label in names.items()}
    lines = {label: values for label, values in lines.items() if any(value is not None for value in values)}
    return f"<h2>Error by depth, {_text(stage)}</h2>{_plot(lines, 'layer', is_log=True)}"


def _curves(curves: dict[str, list[float]]) -> str:
    steps = {name: values for name, values in curves.items() if not name.startswith("digits")}
    digits = {name: values for name, values in curves.items() if name.startswith("digits")}
    text = f"<h2>Loss, {len(next(iter(steps.values())))} steps in float64</h2>{_plot(steps, 'step')}"
    if digits:
        text += f"<h2>Loss on digits, 2 epochs in float32</h2>{_plot(digits, 'step')}"
    return text


def _plot(lines: dict[str, list[float | None]], axis: str, *, is_log: bool = False) -> str:
    """An SVG plot of lines over a common axis; all but the first are dashed, so that an equal first line is visible.

    Args:
        lines: {label: values}; None and NaN are left out.
        axis: name of the horizontal axis.
        is_log: logarithmic vertical axis.
    """
    width, height, left, bottom = 1120, 260, 58, 36

    def level(value: float) -> float:
        return math.log10(min(max(value, 1e-18), 1e3)) if is_log else value

    levels = [level(v) for values in lines.values() for v in values if v is not None and not math.isnan(v)] or [0.0]
    low, high = min(levels), max(levels)
    low, high = (math.floor(low), math.ceil(high + 1e-9)) if is_log else (min(low, 0.0), high * 1.05)
    longest = max(len(values) for values in lines.values())

    def x(index: int) -> float:
        return left + index * (width - left - 10) / max(longest - 1, 1)

    def y(value: float) -> float:
        return 10 + (high - value) * (height - bottom - 10) / max(high - low, 1e-12)

    ticks = range(int(low), int(high) + 1, max(1, (int(high) - int(low)) // 6)) if is_log else \
        [low + (high - low) * k / 5 for k in range(6)]  # fmt: skip
    parts = [f'<line x1="{left}" x2="{width - 10}" y1="{y(t):.1f}" y2="{y(t):.1f}" stroke="var(--line)"/>'
             f'<text x="{left - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{f"1e{t}" if is_log else f"{t:.2f}"}</text>'
             for t in ticks]  # fmt: skip
    for number, (label, values) in enumerate(lines.items()):
        points = " ".join(f"{x(i):.1f},{y(level(v)):.1f}" for i, v in enumerate(values)
                          if v is not None and not math.isnan(v))  # fmt: skip
        dash = ' stroke-dasharray="6 5"' if number else ""
        parts.append(f'<polyline fill="none" stroke="{COLORS[number]}" stroke-width="1.8"{dash} points="{points}"/>'
                     f'<text x="{left + 10 + number * 340}" y="{height - 6}" style="fill:{COLORS[number]}">'
                     f"{'– – ' if number else '—— '}{_text(label)}</text>")  # fmt: skip
    parts.append(f'<text x="{width - 10}" y="{height - 6}" text-anchor="end">{axis} 0 to {longest - 1}</text>')
    plot = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{axis} plot">{"".join(parts)}</svg>'
    return f'<div class="wide">{plot}</div>'


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return "∞" if math.isinf(value) else "0" if value == 0 else f"{value:.1e}"


def _text(value: object) -> str:
    return html.escape(printable(value))
