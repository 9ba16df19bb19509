"""Training pictures whose label is probably wrong: the model, which has seen the label, predicts another class."""

from typing import NamedTuple

import numpy as np

from .results import Results

MAX_SUSPECTS = 500
UNLEARNED_SHARE = 0.2  # of training pictures that the model takes for another class: it has not learned them


class Suspect(NamedTuple):
    """A training picture of which the model says another class than its label."""

    index: int
    path: str
    label: int
    predicted: int
    confidence: float
    loss: float


class Suspects(NamedTuple):
    """The most suspicious training pictures, by loss, and how many pictures were compared."""

    pictures: tuple[Suspect, ...]
    num_images: int
    num_disagreeing: int  # pictures for which the model says another class than the label
    num_unreadable: int
    names: tuple[str, ...]

    @property
    def is_unlearned(self) -> bool:
        """Whether the model takes so many training pictures for another class that their labels are not the reason."""
        return self.num_disagreeing > UNLEARNED_SHARE * self.num_images


def find_suspects(results: Results, paths: list[str]) -> Suspects:
    """List the training pictures for which the model says another class than the label, the highest loss first.

    A model that has learned a wrong label by heart agrees with it, so the list is not complete; and a rare but right
    picture may be in it. It is a list to look at.

    Args:
        results: of an evaluation of the training pictures.
        paths: of the same pictures.
    """
    disagreeing = np.flatnonzero(results.is_readable & ~results.is_correct)
    chosen = disagreeing[np.argsort(-results.scores.losses[disagreeing], kind="stable")][:MAX_SUSPECTS]
    pictures = [
        Suspect(
            index=index,
            path=paths[index],
            label=int(results.labels[index]),
            predicted=int(results.scores.predicted[index]),
            confidence=float(results.scores.confidences[index]),
            loss=float(results.scores.losses[index]),
        )
        for index in chosen.tolist()
    ]
    num_unreadable = int((~results.is_readable).sum())
    return Suspects(tuple(pictures), len(results.labels), len(disagreeing), num_unreadable, results.names)
