"""Which parts of the user's pipeline the stages of a case compare, and which they do not see."""

from collections.abc import Iterable
from pathlib import Path

from ..case import Case

RECORDED_STAGES = ("forward", "data", "metric", "loss", "backward")
PACKAGE = Path(__file__).parents[1]
# The parts that a stage compares. A stage that is not here compares the model.
STAGE_PARTS = {"data": ("preprocess", "dataset", "loader"), "metric": ("metric",), "loss": ("loss", "schedule")}
# In the words of the output: (subject, the stage that compares it, the keys, one of which is enough).
SUBJECTS = (
    ("data", "data", STAGE_PARTS["data"]),
    ("loss", "loss", ("loss",)),
    ("metric", "metric", ("metric",)),
    ("optimizer", "train", ("optimizer",)),
    ("schedule", "loss", ("schedule", "optimizer")),  # the stage train compares the rates of an optimizer
)


def is_of_project(case: Case) -> bool:
    """Whether the port is a model of models/ or of the self-test, whose pipeline is that of this project."""
    place = case.port.rpartition(":")[0]
    return not place or (place.endswith(".py") and (case.folder / place).resolve().is_relative_to(PACKAGE))


def has_parts(case: Case, stage: str) -> bool:
    """Whether the stage has something to compare: the model, or a part that the case names.

    For a model of this project the stages compare the pipeline of this project.
    """
    keys = STAGE_PARTS.get(stage, ())
    return is_of_project(case) or not keys or any(getattr(case, key).is_given for key in keys)


def not_compared(case: Case, stages: Iterable[str]) -> list[str]:
    """The parts of the user's pipeline that these stages would compare if the case named them."""
    if case.recorded.files:
        return [stage for stage in RECORDED_STAGES if stage in stages and stage not in case.recorded.files]
    if is_of_project(case):
        return []
    stages = set(stages)
    return [
        subject
        for subject, stage, keys in SUBJECTS
        if stage in stages and not any(getattr(case, key).is_given for key in keys)
    ]
