"""A verdict as lines of text for the terminal."""

from ..verdict import FAIL, MAX_PROBLEMS, PASS, REMARK, Check, StageResult, Verdict

MAX_HINTS = 3  # of one problem


def stage_lines(result: StageResult) -> list[str]:
    """One line for a stage that passes; for another also one line for each check that does not, and for remarks."""
    lines = [f"{result.name:<14} {result.status:<12} {result.seconds:6.1f} s  {stage_summary(result)}".rstrip()]
    for check in result.checks:
        if check.status != PASS:
            mark = "-" if check.status == REMARK else "!"
            lines.append(f"  {mark} {check.name:<34} {_numbers(check):<20} {check.detail}".rstrip())
    return lines


def stage_summary(result: StageResult) -> str:
    """Number of checks, and the one nearest to its tolerance."""
    passed = [check for check in result.checks if check.status == PASS]
    num_remarks = sum(check.status == REMARK for check in result.checks)
    measured = [check for check in passed if check.value is not None and check.tolerance]
    nearest = max(measured, key=lambda check: check.value / check.tolerance, default=None)
    if result.checks and num_remarks == len(result.checks):
        return f"only remarks: {num_remarks}"
    text = f"{len(passed)} of {len(result.checks) - num_remarks} checks pass{_remarks(num_remarks)}"
    return f"{text}; nearest to its limit: {nearest.name}, {_numbers(nearest)}" if nearest else text


def _remarks(number: int) -> str:
    return f", {number} remark{'s' * (number > 1)}" if number else ""


def problem_lines(verdict: Verdict) -> list[str]:
    """At most ten problems, causes first and the one with most effect first, each with its hints and source lines.

    Checks without a place or a cause are in one line if there are others, because they may follow from these.
    """
    causes, others = verdict.causes_and_others()
    lines = []
    for number, check in enumerate(causes[:MAX_PROBLEMS], 1):
        title = " ".join([check.layer or check.name, _numbers(check)]).rstrip()
        note = " (remark: of the size of one float32 constant)" if check.status == REMARK else ""
        lines += ["", f"{number:>2}. {title}{note}", f"    {check.name}: {check.detail}".rstrip(": ")]
        lines += [f"    hint: {hint}" for hint in check.hints[:MAX_HINTS]]
        lines += [f"    {line}" for line in check.source]
    if len(causes) > MAX_PROBLEMS:
        lines += ["", f"    and {len(causes) - MAX_PROBLEMS} more; --json FILE has them all"]
    if others:
        lines += ["", f"    may follow from these: {', '.join(others)}"]
    return lines + [""] * bool(lines)


def conclusion(verdict: Verdict) -> str:
    """The last line: match, no match or inconclusive, and the problem with most effect."""
    problem = verdict.first_problem()
    if problem is None:
        return f"{verdict.case}: match{_remarks(len(verdict.remarks()))}"
    word = "no match" if verdict.status == FAIL else "inconclusive"
    place = f", at {problem.layer}" if problem.layer else ""
    hint = f"; {problem.hints[0]}" if problem.hints else ""
    return f"{verdict.case}: {word}: {problem.name}{place}: {problem.detail}{hint}"


def not_compared_line(verdict: Verdict) -> str:
    """One line about the parts of the user's pipeline that the case does not name; an empty text if it names all."""
    if not verdict.not_compared:
        return ""
    return f"not compared: your {', '.join(verdict.not_compared)} (the case has no keys for them: docs/alignment.md)"


def _numbers(check: Check) -> str:
    """`error <= tolerance` or `error > tolerance`, as far as the check has them."""
    number = "" if check.value is None else f"{check.value:.2e}"
    if check.tolerance is None:
        return number
    is_beyond = check.status == FAIL or (check.value or 0) > check.tolerance
    return f"{number} {'>' if is_beyond else '<='} {check.tolerance:.0e}"
