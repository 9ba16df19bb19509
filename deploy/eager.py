"""A model in memory that answers as an exported one does, so that predict.py and infer.py share everything else."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from datasets.reading.backends import choose_backend

from .card import Card
from .predictor import Predictor


class EagerEngine:
    """`run` of a Paddle layer, which is put in eval mode."""

    def __init__(self, model, autocast: Callable[[], AbstractContextManager] = nullcontext):
        model.eval()
        self._model = model
        self._autocast = autocast

    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits [B, C] float32 of `images` [B, 3, S, S] float32."""
        import paddle

        with paddle.no_grad(), self._autocast():
            return self._model(paddle.to_tensor(images)).astype("float32").numpy()


class EagerPredictor(Predictor):
    """A Predictor of `model` and the card that says how to feed it."""

    def __init__(self, model, card: Card, autocast: Callable[[], AbstractContextManager] = nullcontext):
        self.card, self.has_card = card, True
        choose_backend(self.card.preprocess.image_backend)
        self.engine = EagerEngine(model, autocast)
