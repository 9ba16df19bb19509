"""Evaluate trained weights and write a report: tables, pictures and a page that explains them."""

import logging
import platform
import time
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import BadImage, DataError
from configs.loader import as_dict
from configs.schema import EvalConfig, ReportConfig
from datasets.reading.decode import read_thumbnail

from .data import open_train_images
from .evaluation import eval_loader, log_accuracy, model_to_evaluate
from .trained import TrainedModel

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger("eval")

MAX_AUTO_SUSPECTS = 20_000  # training images that --suspects auto evaluates; --help says it, too
VERSIONS = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "Pillow", "scikit-learn", "matplotlib")


@dataclass(frozen=True)
class ReportPictures:
    """The images of a data set for the pages and pictures of a report, rotated as the model sees them."""

    images: object
    exif_orientation: str

    def path(self, index: int) -> str:
        """Path by which a person finds image `index`; of a shard, that of the packed file."""
        return self.images.original(index)

    def thumbnail(self, index: int, side: int) -> "Image.Image | None":
        """Image `index` with at most `side` pixels a side; None if it cannot be read."""
        try:
            return read_thumbnail(self.images.path(index), side, self.exif_orientation)
        except BadImage:
            return None


def prepare_report(config: ReportConfig) -> None:
    """Check that a report can be written, before the evaluation takes its time.

    Raises:
        MissingDependencyError: a package of requirements-report.txt is missing.
        DiskError: the folder cannot be created.
    """
    from engine.report.write import check_packages, create_folder

    check_packages()
    create_folder(Path(config.output_dir))


def evaluate_and_report(config: EvalConfig, trained: TrainedModel, images, remarks: list[str], run) -> None:
    """Evaluate a trained model on images and write the report; the last line logged names the worst class.

    Args:
        config: all flags of eval.py.
        trained: what `read_trained` returned.
        images: the validation images.
        remarks: sentences on the images and the weights, which the page repeats.
        run: engine.run.Run, this process among the ranks; rank 0 writes.

    Raises:
        CheckpointError: the weights do not fit the model.
        DataError: an image cannot be read.
        NonFiniteLossError: a loss is not a finite number.
        DiskError: a file cannot be written.
    """
    from engine.evaluate import evaluate_samples, log_scores
    from engine.metrics import score
    from engine.report.calibration import calibrate
    from engine.report.results import results_of
    from engine.report.write import Report, worst_class_line, write_report

    model = model_to_evaluate(trained, len(images), config.device, config.report.tta)
    start = time.monotonic()
    loader = eval_loader(trained, images, config.loader, run)
    samples = evaluate_samples(model, loader, run, keep_logits=True)
    scores = log_accuracy(log_scores(score(samples)))
    seconds_per_image = (time.monotonic() - start) / len(images)
    train_images, no_suspects = _images_for_suspects(config, trained)
    suspects = None
    if train_images is not None:
        logger.info(
            f"Comparing {len(train_images)} training images with their labels: about "
            f"{_duration(seconds_per_image * len(train_images))}; --suspects never leaves it out"
        )
        suspects = _find_suspects(config, trained, train_images, model, run)
    if run.ranks.rank != 0:
        return
    results = results_of(samples, images.labels, trained.classes.names)
    calibration = calibrate(results) if config.report.temperature == "fit" else None
    folder, exif = Path(config.report.output_dir), trained.preprocess.exif_orientation
    notes = [*remarks]
    if scores.num_unreadable:
        notes.append(
            f"{scores.num_unreadable} of {scores.num_samples} images could not be read: they count as wrong in the "
            "accuracies, and are left out of log loss, Brier score and calibration"
        )
    report = Report(
        title=f"Evaluation of {Path(str(trained.weights.path)).name}",
        subtitle=f"{trained.name}, {trained.classes.number:,} classes, {len(images):,} pictures of {images.root}",
        results=results,
        pictures=ReportPictures(images, exif),
        calibration=calibration,
        suspects=suspects,
        no_suspects=no_suspects,
        train_pictures=ReportPictures(train_images, exif),
        notes=tuple(notes),
        settings=_settings(config, trained),
    )
    measures = write_report(folder, report)
    if calibration is not None:
        _log_calibration(calibration)
    logger.info(f"Report: {folder / 'report.html'}")
    logger.info(worst_class_line(measures))


def _images_for_suspects(config: EvalConfig, trained: TrainedModel):
    """The training images to compare with their labels, or None and the sentence that says why there are none."""
    flags = config.report
    if flags.suspects == "never":
        return None, "The training pictures were not compared with their labels: --suspects is never."
    try:
        images = open_train_images(config.data, flags.cls_label_path_train, trained)
    except DataError as error:
        if flags.suspects == "always" or flags.cls_label_path_train:
            raise
        return None, f"The training pictures were not compared with their labels: {error}"
    if images is None:
        if flags.suspects == "always":
            raise DataError(
                "--suspects always: there is no folder train, and no split beside the weights; name the training "
                "images by --cls_label_path_train"
            )
        return None, (
            "The training pictures were not compared with their labels, because they were not found: "
            "--cls_label_path_train names their list."
        )
    if flags.suspects == "auto" and len(images) > MAX_AUTO_SUSPECTS:
        sentence = (
            f"{len(images):,} training pictures are many, so they were not compared with their labels; "
            "--suspects always does it."
        )
        logger.info(sentence)
        return None, sentence
    return images, ""


def _find_suspects(config: EvalConfig, trained: TrainedModel, images, model, run):
    """The suspicious training images on rank 0. One that cannot be read does not end the evaluation."""
    from engine.evaluate import evaluate_samples
    from engine.report.results import results_of
    from engine.report.suspects import find_suspects

    patient = replace(config.loader, on_bad_image="skip", max_bad_images=len(images))
    samples = evaluate_samples(model, eval_loader(trained, images, patient, run), run, keep_logits=True)
    if samples.logits is None:
        return None
    results = results_of(samples, images.labels, trained.classes.names)
    suspects = find_suspects(results, [images.original(index) for index in range(len(images))])
    logger.info(
        f"{suspects.num_disagreeing} of {len(images)} training images are taken for another class than their label; "
        f"{Path(config.report.output_dir) / 'suspects.csv'} lists {len(suspects.pictures)} of them, by loss"
    )
    return suspects


def _log_calibration(calibration) -> None:
    logger.info(
        f"Temperature {calibration.temperature:.4f}: expected calibration error {100 * calibration.error_before:.2f} % "
        f"before, {100 * calibration.error_held_out:.2f} % on the half that the temperature was not fitted on"
    )
    for remark in calibration.remarks:
        logger.warning(remark)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _settings(config: EvalConfig, trained: TrainedModel) -> dict[str, list[tuple[str, str]]]:
    versions = []
    for package in VERSIONS:
        try:
            versions.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return {
        "Model and images": [
            ("weights", str(trained.weights.path)),
            ("model", trained.name),
            ("classes", trained.classes.source),
            *((f"preprocess.{name}", str(value)) for name, value in trained.preprocess.to_dict().items()),
        ],
        "Flags of eval.py": [(name, repr(value)) for name, value in as_dict(config).items()],
        "Versions": [
            ("evaluated", datetime.now().astimezone().isoformat(" ", "minutes")),
            ("Python", platform.python_version()),
            ("system", platform.platform()),
            *versions,
        ],
    }
