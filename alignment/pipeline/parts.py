"""The keys of a case that name the user's own functions on both sides."""

from dataclasses import dataclass

# Keys of a case; docs/alignment.md has the signature of each function.
PARTS = ("preprocess", "dataset", "loader", "loss", "optimizer", "schedule", "metric", "step")


@dataclass(frozen=True)
class Part:
    """A function of the user's pipeline, named on both sides.

    In YAML it is a table, or one text for both sides.

    Attributes:
        port: `path/file.py:name` or `package.module:name`; `name` alone is in the file of the port.
        reference: the same of the reference.
    """

    port: str = ""
    reference: str = ""

    @classmethod
    def of_text(cls, text: str) -> "Part":
        """The part that has one name on both sides."""
        return cls(text, text)

    @property
    def is_given(self) -> bool:
        """Whether the case names it."""
        return bool(self.port or self.reference)


@dataclass(frozen=True)
class Target:
    """What the loss and the metric compare the output with: whole numbers below `classes`, or numbers in `range`.

    Without `shape` the target is one label for each row of an output [B, C], and otherwise as large as the output.

    Attributes:
        shape: of the target, the batch included.
        classes: number of classes of labels; 0 if the target is not a label.
        range: lowest and highest number of a target that is not a label.
    """

    shape: tuple[int, ...] = ()
    classes: int = 0
    range: tuple[float, float] = (0.0, 1.0)


NO_PART, DEFAULT_TARGET = Part(), Target()


def place_of_function(case: object, key: str, side: str) -> str:
    """`place:name` of the function of a part on one side, in the file of the model if the case has the name alone."""
    text = getattr(getattr(case, key), side)
    place = getattr(case, side).rpartition(":")[0]
    return f"{place}:{text}" if text and ":" not in text and place else text
