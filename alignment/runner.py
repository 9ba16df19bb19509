"""Run the stages of a case, from the weights to whole training steps, and collect their results."""

import importlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import CaseError, OutOfMemoryError, UserFunctionError, WeightsError

from .case import Case
from .memory import NEXT_STEP, is_refused
from .pipeline.coverage import RECORDED_STAGES, STAGE_PARTS, has_parts, not_compared
from .reference import Reference
from .report.text import conclusion, not_compared_line, problem_lines, stage_lines
from .rules import Arrays
from .stages.unjudged import missing_operation, unjudged
from .user_code import USER_ERRORS, place_of_error
from .verdict import FAIL, PASS, Check, StageResult, Verdict

if TYPE_CHECKING:
    from .paddle_side.port import Port

# Each is a module of stages/.
STAGES = ("weights", "initialisation", "forward", "data", "metric", "loss", "backward", "train")
OWN_ERRORS = (ImportError, AttributeError, NameError, KeyError)  # of this tool, if no line of the user is in them
# Exit codes of errors that are not a result of the comparison: usage, images, weights, and a missing package.
QUESTION_ERRORS, WEIGHTS_ERROR, MISSING_DEPENDENCY = (2, 3, 4), 4, 7


def run_stages(
    case: Case,
    stages: Iterable[str],
    reference: Reference,
    *,
    port: "Port | None" = None,
    weights: Arrays | Path | None = None,
    image_folder: Path | None = None,
    report_progress: Callable[[str], None] | None = None,
    stops_early: bool = False,
) -> Verdict:
    """Run stages of a case one after the other.

    An exception inside a stage becomes a failed check, and the stages after it are run nevertheless. A stage whose
    parts the case does not name is left out, and the last lines say so.

    Args:
        case: the pair of models.
        stages: names of STAGES.
        reference: the process of the reference.
        port: the parts of the port; by default those of the case.
        weights: {name in the reference: array}, or a file of them; by default random weights.
        image_folder: images for the stage data; by default generated ones.
        report_progress: is given each line of text about the results.
        stops_early: leave out the stages after the first that does not pass.

    Raises:
        ProjectError: the case, the images or the weights cannot be used, or torch is missing. With a `port` of the
            caller only the last.
        OutOfMemoryError: the memory was not enough for one of the two processes.
    """
    from .compat.recorded_stages import STAGES as RECORDED
    from .compat.recorded_stages import RecordedSession
    from .session import Session

    is_recorded = bool(case.recorded.files)
    session = RecordedSession(case) if is_recorded else Session(case, reference, port, weights, image_folder)
    verdict = Verdict(case.name, [])
    if port is None:
        stages = list(stages)
        verdict.not_compared = not_compared(case, stages)
        stages = _with_something_to_compare(case, stages)
    for name in stages:
        start = time.perf_counter()
        try:
            run = RECORDED[name] if is_recorded else importlib.import_module(f".stages.{name}", __package__).run
            result = run(session)
        except USER_ERRORS as error:
            if isinstance(error, WeightsError) and verdict.stages and verdict.stages[0].status == FAIL:
                break  # the stage weights has reported the same
            exit_code = 0 if missing_operation(str(error)) else getattr(error, "exit_code", 0)
            if exit_code == WEIGHTS_ERROR and weights is None and not is_recorded:
                exit_code = 0  # no file of weights is wrong: the port has other entries than the reference
            if isinstance(error, UserFunctionError) and any(stage.status == FAIL for stage in verdict.stages):
                exit_code = 0  # its input may be wrong because the model is
            if exit_code == MISSING_DEPENDENCY or (exit_code in QUESTION_ERRORS and port is None):
                raise
            place = place_of_error(error)
            text = f"{type(error).__name__}: {str(error)[:400]}{place}"
            if is_refused(error):
                raise OutOfMemoryError(f"{case.name}, stage {name}: {text}; {NEXT_STEP}") from None
            reason = missing_operation(text)
            if not place and isinstance(error, OWN_ERRORS):
                reason = reason or "an error inside this tool, which is to be reported with the case"
            result = StageResult(name, unjudged([Check("the stage runs", FAIL, detail=text)], reason))
        result.seconds = time.perf_counter() - start
        verdict.stages.append(result)
        for line in stage_lines(result) if report_progress else ():
            report_progress(line)
        if stops_early and result.status != PASS:
            break
    if report_progress:
        for line in (*filter(None, [not_compared_line(verdict)]), *problem_lines(verdict), conclusion(verdict)):
            report_progress(line)
    return verdict


def _with_something_to_compare(case: Case, stages: list[str]) -> list[str]:
    """The stages that compare the model, or a part of the user's pipeline that the case names.

    Raises:
        CaseError: there is none.
    """
    if case.recorded.files:
        if found := [stage for stage in stages if stage in RECORDED_STAGES and stage in case.recorded.files]:
            return found
        raise CaseError(f"{case.name}: recorded: the case names no file for {', '.join(stages)}")
    found = [stage for stage in stages if has_parts(case, stage)]
    if not found:
        keys = ", ".join(key for stage in stages for key in STAGE_PARTS[stage])
        raise CaseError(
            f"{case.name}: the stage {', '.join(stages)} compares your own functions, and the case names none: "
            f"add one of the keys {keys} (docs/alignment.md has their signatures)"
        )
    return found
