"""Everything that predict.py and infer.py make of predictions, opened by the flags of their output."""

import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

from common.errors import DataError
from common.printable import print_safely
from configs.schema import PredictionOutputConfig

from ..predictions import PredictionWriter
from ..predictor import Predictor
from .file_names import refuse_inside_inputs
from .printing import JsonLines, Nothing, Records, Summary, Table, choose_form, print_failures


class PictureOutput(Protocol):
    """Makes files of the pictures of every batch; `summary` says what was made."""

    def write(self, predictions: Iterable[dict]) -> None: ...

    def summary(self) -> str: ...


@dataclass(frozen=True)
class Images:
    """The input images of a run: what the user named, the files found there, and predictions of an earlier run."""

    inputs: Sequence[str]
    paths: Sequence[str]
    kept: Iterable[dict] = ()


def check_output(config: PredictionOutputConfig, inputs: Sequence[str], explain: str = "") -> None:
    """Refuse flags of the output that cannot be followed, before a model is loaded.

    Raises:
        MissingDependencyError: --print table without rich.
        UsageError: a folder for pictures is inside a folder of input images.
    """
    choose_form(config.print, is_saved=True)
    for flag, folder in (
        ("--save_images", config.save_images),
        ("--sort_into", config.sort_into),
        ("--explain", explain),
    ):
        if folder:
            refuse_inside_inputs(folder, inputs, flag)


def write_predictions(
    batches: Iterable[list[dict]],
    images: Images,
    config: PredictionOutputConfig,
    predictor: Predictor,
    topk: int,
    more: Sequence[PictureOutput] = (),
) -> None:
    """Print the predictions of each batch when it is ready, and make the files that the flags ask for.

    Args:
        batches: predictions, one list per batch.
        images: the images of all batches.
        config: form of the printed predictions, and files to write.
        predictor: has the names of the classes, and the preprocessing.
        topk: number of classes in a prediction.
        more: other outputs than those of `config`.

    Raises:
        DataError: some images could not be read; the others have predictions.
        DiskError: a file cannot be written.
        PredictionsFileError: the extension of `save_path` names no format, or an earlier file does not fit.
        UsageError: the folder of --sort_into is a file.
    """
    form = choose_form(config.print, is_saved=bool(config.save_path))
    printer = open_printer(form, images.paths, predictor.class_names)
    pictures = [*open_picture_outputs(config, images, predictor), *more]
    summary, num_failures = Summary(), 0
    csv_classes = min(topk, predictor.card.num_classes) if config.csv_rows == "images" else None
    saved = {"csv_formulas": config.csv_formulas, "csv_classes": csv_classes}
    with PredictionWriter(config.save_path, images.kept, **saved) if config.save_path else nullcontext() as writer:
        for predictions in batches:
            if writer:
                writer.write(predictions)
            printer.write(predictions)
            num_failures += print_failures(predictions)
            for output in (summary, *pictures):
                output.write(predictions)
    if form == "none" or (form == "table" and len(images.paths) > 1):
        summary.print()
        if config.save_path:
            print_safely(f"the predictions are in {config.save_path}", sys.stderr)
    for output in pictures:
        print_safely(output.summary(), sys.stderr)
    if num_failures:
        others = "; the others have predictions" if num_failures < len(images.paths) else ""
        raise DataError(f"{num_failures} of {len(images.paths)} images could not be read{others}")


def open_printer(form: str, paths: Sequence[str], class_names: Sequence[str] | None):
    """The printer of a form that `choose_form` gave."""
    if form == "table":
        return Table(paths, class_names)
    return {"records": Records, "jsonl": JsonLines, "none": Nothing}[form]()


def open_picture_outputs(config: PredictionOutputConfig, images: Images, predictor: Predictor) -> list[PictureOutput]:
    """Open --save_images and --sort_into where they are given.

    Raises:
        UsageError: the folder of --sort_into is a file.
    """
    from .annotated import AnnotatedImages
    from .sorted_folders import SortedFolders

    card, outputs = predictor.card, []
    if config.save_images:
        exif = card.preprocess.exif_orientation
        outputs.append(AnnotatedImages(config.save_images, images.inputs, predictor.class_names, exif))
    if config.sort_into:
        outputs.append(SortedFolders(config.sort_into, predictor.class_names, card.num_classes))
    return outputs
