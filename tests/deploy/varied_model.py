"""A small network whose probabilities differ from image to image, as those of a trained one, and its export."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import paddle

from datasets.preprocess import Preprocess
from datasets.reading.pixels import image_to_input
from deploy.card import Card
from deploy.export.export_folder import export_folder
from deploy.export.parity import parity_images
from engine.export import export_program
from models import create_model

NAME, SIDE = "mobilenet_v3_small_x0_35", 32
CLASSES = ["cat", "<b>dog</b>", "三", "fox"]


def make_model():
    """The network, in evaluation mode."""
    paddle.seed(1)
    model = create_model(NAME, num_classes=len(CLASSES))
    images = paddle.to_tensor(np.stack([image_to_input(image, Preprocess(SIDE)) for image in parity_images()]))
    for weight in model.parameters():
        if weight.ndim == 4:  # as large as those of a trained network
            weight.set_value(paddle.randn(weight.shape) * (2 / np.prod(weight.shape[1:])) ** 0.5)
        elif weight.ndim == 2:
            weight.set_value(paddle.randn(weight.shape) * 10 / weight.shape[0] ** 0.5)
    model.train()
    for _ in range(20):  # statistics of the batch norms
        model(images)
    model.eval()
    return model


def export_model(model, folder: Path, formats: Sequence[str], preprocess: Preprocess) -> None:
    """Export the network with the card of this preprocessing."""
    images = parity_images()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(np.stack([image_to_input(image, preprocess) for image in images]))).numpy()
    card = Card(NAME, type(model).__name__, len(CLASSES), preprocess, tuple(CLASSES))
    export_folder(folder, formats, card, partial(export_program, model, SIDE), images, logits)
