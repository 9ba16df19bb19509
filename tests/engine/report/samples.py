"""Made-up results of an evaluation for the tests of the report."""

import numpy as np
from PIL import Image

from engine.metrics import UNREADABLE, SampleScores
from engine.report.results import Results, results_of


def make_results(
    num: int = 60, num_classes: int = 3, *, seed: int = 0, strength: float = 1.5, unreadable=(), names=None
) -> Results:
    """Results of random logits that favour the right class by `strength`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % num_classes
    logits = rng.normal(size=(num, num_classes)).astype(np.float32)
    logits[np.arange(num), labels] += strength
    own = logits[np.arange(num), labels]
    positions = (logits > own[:, None]).sum(axis=1)
    positions[list(unreadable)] = UNREADABLE
    samples = SampleScores(np.arange(num), positions, np.zeros(num, np.float32), logits)
    return results_of(samples, labels, names)


def from_predictions(labels, predicted, num_classes: int, names=None) -> Results:
    """Results whose predicted classes are given; -1 is a picture that could not be read."""
    labels, predicted = np.array(labels), np.array(predicted)
    logits = np.zeros((len(labels), num_classes), np.float32)
    logits[np.arange(len(labels)), np.maximum(0, predicted)] = 2.0
    positions = np.where(predicted == labels, 0, 1)
    positions[predicted < 0] = UNREADABLE
    return results_of(SampleScores(np.arange(len(labels)), positions, np.zeros(len(labels)), logits), labels, names)


class FakePictures:
    """Pictures of one colour; `bad` cannot be read."""

    def __init__(self, paths=None, bad=()):
        self._paths, self._bad = paths, bad

    def path(self, index: int) -> str:
        return self._paths[index] if self._paths else f"val/{index}.png"

    def thumbnail(self, index: int, side: int) -> Image.Image | None:
        return None if index in self._bad else Image.new("RGB", (side, side // 2), (index % 256, 90, 120))
