"""A verdict as lines of text for the terminal."""

from ..verdict import FAIL, PASS, Check, StageResult, Verdict


def stage_lines(result: StageResult) -> list[str]:
    """One line for the stage, one for each check, one for each hint."""
    lines = [f"{result.name:<9} {result.status:<12} {result.seconds:6.1f} s"]
    for check in result.checks:
        mark = " " if check.status == PASS else "!"
        lines.append(f"  {mark} {check.name:<44} {_numbers(check):<20} {check.detail}")
        lines += [f"      hint: {hint}" for hint in check.hints]
    return lines


def conclusion(verdict: Verdict) -> str:
    """The last line: match, no match or inconclusive, and the check nearest to the cause."""
    problem = verdict.first_problem()
    if problem is None:
        return f"{verdict.case}: match"
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
