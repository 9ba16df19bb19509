"""The parity gate: an exported program must give the probabilities and the logits of the eager model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import ParityError

from ..card import CARD_NAME
from ..predictor import open_predictor
from ..topk import softmax

TOLERANCE = 1e-5  # of probabilities, and of logits relative to the largest one
LARGE_LOGIT = 10  # above it the tolerance of probabilities grows with the logits, see allowed_difference


def check_parity(
    model_path: Path, images: Sequence[Image.Image], expected_logits: np.ndarray, *, engine: str = "paddle"
) -> float:
    """Run a program on images, preprocessed as its card says, and compare with the eager model.

    Args:
        model_path: file of the program, with its card beside it.
        images: RGB images.
        expected_logits: [B, C], of `images` by the eager model.
        engine: name in `deploy.engines.ENGINES`.

    Returns:
        The largest difference of a probability.

    Raises:
        ParityError: a probability differs by more than `allowed_difference`, or a logit by more than TOLERANCE of the
            largest logit.
    """
    predictor = open_predictor(model_path, engine=engine)
    logits = predictor.logits(predictor.preprocess(images))
    by_probability = np.abs(softmax(logits) - softmax(expected_logits)).max()
    by_logit = np.abs(logits - expected_logits).max() / np.abs(expected_logits).max()
    if not (by_probability <= allowed_difference(expected_logits) and by_logit <= TOLERANCE):
        raise ParityError(
            f"{model_path.name} disagrees with the eager model: probabilities differ by {by_probability:.1e}, logits "
            f"by {by_logit:.1e} of the largest (allowed {TOLERANCE:.0e}); nothing was written. "
            f"Compare the preprocessing in {CARD_NAME} with that of the checkpoint"
        )
    return float(by_probability)


def allowed_difference(logits: np.ndarray) -> float:
    """Compute the allowed difference of a probability for a model with these `logits`.

    float32 holds logits to 1e-6 of the largest. After two epochs of training the largest can be in the thousands, and
    then no program can give probabilities to 1e-5.
    """
    return TOLERANCE * max(1, np.abs(logits).max() / LARGE_LOGIT)


def parity_images() -> list[Image.Image]:
    """Make four fixed RGB images of different shapes, smooth with noise: every step of preprocessing changes them."""
    rng = np.random.default_rng(0)
    images = []
    for width, height in ((97, 131), (500, 375), (333, 500), (224, 224)):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((width, height))
        noise = rng.integers(-20, 21, (height, width, 3))
        images.append(Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)))
    return images
