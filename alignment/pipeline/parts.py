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


@dataclass(frozen=True)
class Recorded:
    """Files of arrays that the reference has written earlier, in the place of a reference that runs.

    A file is of reprod_log (a dictionary), or `.npy` or `.npz` of numpy. Paths are relative to the case.

    Attributes:
        weights: of the recording, a file of torch, Paddle or safetensors.
        inputs: of the model, one array or several by the names of the arguments.
        target: what the loss and the metric are given beside the output.
        forward: outputs of the model, and of layers by their paths.
        loss: the value of the loss.
        metric: the values of the metric for this batch.
        backward: gradients of parameters and of inputs by their names, and the loss.
        data: `length`, and items and batches with their numbers: dataset_0, loader_0.
        train_mode: whether `backward` was recorded in train mode.
        tolerance: largest relative distance that passes; 0 takes a multiple of the port's own rounding.
    """

    weights: str = ""
    inputs: str = ""
    target: str = ""
    forward: str = ""
    loss: str = ""
    metric: str = ""
    backward: str = ""
    data: str = ""
    train_mode: bool = False
    tolerance: float = 0.0

    @property
    def files(self) -> dict[str, str]:
        """{key: path} of the files that the case names."""
        texts = {key: value for key, value in vars(self).items() if isinstance(value, str)}
        return {key: value for key, value in texts.items() if value}


NO_PART, DEFAULT_TARGET, NOT_RECORDED = Part(), Target(), Recorded()


def place_of_function(case: object, key: str, side: str) -> str:
    """`place:name` of the function of a part on one side, in the file of the model if the case has the name alone."""
    text = getattr(getattr(case, key), side)
    place = getattr(case, side).rpartition(":")[0]
    return f"{place}:{text}" if text and ":" not in text and place else text
