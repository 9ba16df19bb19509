"""Images to logits and predictions, through an engine: `Predictor`, and `open_predictor` for an exported folder."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import ExportedModelError
from datasets.class_names import read_class_names, refuse_other_order
from datasets.reading.backends import choose_backend
from datasets.reading.decode import AnyImage, to_rgb
from datasets.reading.pixels import image_to_input

from .card import CARD_NAME, EXPORT_AGAIN, Card
from .engine_base import BATCH_1_PROGRAM, last_line
from .engines import Engine, EngineOptions, create_engine
from .exchange import read_whole
from .exported_program import ExportedProgram, choose_engine, find_program, predecessor_card
from .self_check import SELF_CHECK_LOGITS, check_logits, read_self_check
from .topk import topk_predictions


class Predictor:
    """The preprocessing of a card, an engine, and class names. One predictor serves one thread; see `clone`."""

    def __init__(
        self, engine: Engine, card: Card, *, class_names: Sequence[str] | None = None, one_by_one: bool = False
    ):
        """Join an engine and the card that says how its program is fed.

        Args:
            engine: has `run(images) -> logits`; for a model that is not exported, an `EagerEngine`.
            card: preprocessing and class names.
            class_names: names to use instead of those of the card.
            one_by_one: run a batch image by image, for a program with a fixed batch size of 1.

        Raises:
            MissingDependencyError: the image backend that the card names is not installed.
        """
        choose_backend(card.preprocess.image_backend)
        self.engine = engine
        self.card = card
        self.class_names = card.class_names if class_names is None else tuple(class_names)
        self._one_by_one = one_by_one

    def clone(self) -> "Predictor":
        """Return a predictor for another thread that shares the weights of this one."""
        clone = copy.copy(self)
        clone.engine = self.engine.clone()
        return clone

    def preprocess(self, images: Sequence[AnyImage]) -> np.ndarray:
        """Preprocess images in any form that `to_rgb` takes into a batch [B, 3, S, S] float32; EXIF as the card says.

        Raises:
            BadImage: an image cannot be read.
        """
        settings = self.card.preprocess
        return np.stack([image_to_input(to_rgb(image, settings.exif_orientation), settings) for image in images])

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Compute the outputs [B, C] of a preprocessed `batch` [B, 3, S, S], finite or not."""
        if self._one_by_one:
            return np.concatenate([self.engine.run(image[None]) for image in batch])
        return self.engine.run(batch)

    def logits(self, batch: np.ndarray) -> np.ndarray:
        """Compute the logits [B, C] of a preprocessed `batch` [B, 3, S, S].

        Raises:
            ExportedModelError: a logit is nan or inf.
        """
        logits = self.run(batch)
        if not np.isfinite(logits).all():
            raise ExportedModelError(f"{self.card.model}: the program gives nan or inf; {EXPORT_AGAIN}")
        return logits

    def predict(
        self,
        images: Sequence[AnyImage],
        file_names: Sequence[str],
        topk: int = 5,
        threshold: float = 0.0,
    ) -> list[dict]:
        """Predict the classes of images in one batch.

        Args:
            images: in any form that `preprocess` takes.
            file_names: name of each image, for the result.
            topk: number of classes per image.
            threshold: leave out classes with a lower probability.

        Returns:
            The predictions of `topk_predictions`, with the temperature of the card.

        Raises:
            BadImage: an image cannot be read.
            ExportedModelError: a logit is nan or inf.
        """
        return topk_predictions(
            self.logits(self.preprocess(images)),
            file_names,
            self.class_names,
            topk=topk,
            threshold=threshold,
            temperature=self.card.temperature,
        )


def open_predictor(
    model_path: str | Path,
    params_path: str | Path | None = None,
    *,
    engine: str = "paddle",
    options: EngineOptions | None = None,
    default_card: Card | None = None,
    label_list: str | Path | None = None,
    trust_program: bool = False,
) -> Predictor:
    """Find, verify and load a program, and compare its logits of the self-check image with those of the export.

    An export that another one replaces meanwhile is read again, so that all files are of one of the two.

    Args:
        model_path: an exported folder, or the file of a program.
        params_path: the file of the weights; None where the card names it, or the program holds the weights.
        engine: name in `deploy.engines.ENGINES`, or "auto".
        options: settings of the engine; default: `EngineOptions()`.
        default_card: preprocessing and class names of a program without a card; default: `predecessor_card`.
        label_list: file of class names to use instead of those of the card.
        trust_program: also run a program that our exporter did not write, whatever its operators do.

    Raises:
        DataError: `label_list` cannot be read, does not name every class, or names them in another order than the card.
        EngineOptionError: the engine does not have one of the `options`.
        ExportedModelError: the program is damaged, does not fit its card, or gives other logits than at its export; or
            the export was replaced again and again.
        MissingDependencyError: the runtime, the image backend of the card, or a device that `options` ask for, is
            missing.
    """

    def find(engine: str, options: EngineOptions) -> Predictor:
        if engine == "auto":
            engine, options = choose_engine(model_path, options)
        default = default_card or predecessor_card([])
        program = find_program(model_path, params_path, engine, options, default, trust_program=trust_program)
        return _load(program, engine, options, label_list)

    return read_whole(model_path, lambda: find(engine, options or EngineOptions()))


def _load(program: ExportedProgram, engine: str, options: EngineOptions, label_list: str | Path | None) -> Predictor:
    """Load a program whose files are verified, and run its self-check."""
    one_by_one = program.name == BATCH_1_PROGRAM
    predictor = Predictor(create_engine(engine, program.files, options), program.card, one_by_one=one_by_one)
    # a GPU may multiply in TF32, which has three digits
    is_exact = options.precision == "fp32" and program.name != "onnx-int8" and predictor.engine.device == "cpu"
    card = _check_outputs(predictor, program, is_exact=is_exact)
    class_names = read_class_names(label_list, card.num_classes) if label_list else None
    if class_names:
        refuse_other_order(class_names, card.class_names or (), label_list)
    return Predictor(predictor.engine, card, class_names=class_names, one_by_one=one_by_one)


def _check_outputs(predictor: Predictor, program: ExportedProgram, *, is_exact: bool) -> Card:
    """Run the self-check image, or a black one, and return the card; one by default gets the number of classes."""
    card, path = program.card, program.files[0]
    side = card.preprocess.input_size
    image, expected = Image.new("RGB", (side, side)), None
    if SELF_CHECK_LOGITS in card.files:
        image, expected = read_self_check(path.parent)
    try:
        [logits] = predictor.engine.run(predictor.preprocess([image]))
    except Exception as error:  # each runtime has its own exceptions for a wrong shape
        raise ExportedModelError(f"{path}: does not run on a {side}x{side} image: {last_line(error)}") from None
    if logits.ndim != 1:
        raise ExportedModelError(
            f"{path}: gives an output of shape {list(logits.shape)} for one image, not one number for each class"
        )
    if not program.name and len(logits) != card.num_classes:
        card = replace(card, num_classes=len(logits), class_names=None)
    if len(logits) != card.num_classes:
        raise ExportedModelError(
            f"{path}: gives {len(logits)} classes, {CARD_NAME} says {card.num_classes}; {EXPORT_AGAIN}"
        )
    if expected is not None and is_exact:
        check_logits(path, logits, expected)
    return card
