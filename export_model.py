"""Weights -> an exported folder: Paddle and ONNX programs, checked against the eager model, and their card."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.cli import run
from common.errors import CheckpointError, DataError, UsageError
from common.printable import print_safely
from configs.loader import parse
from configs.schema import EvalDataConfig, ExportConfig

if TYPE_CHECKING:
    import factory

METRICS = ("best_top1_percent", "best_top1_ema_percent", "epoch")  # of the checkpoint, kept in the card


def main(argv: list[str]) -> None:
    config = parse(ExportConfig, argv, prog="export_model.py")
    import factory  # numpy and Pillow from here on: --help does not wait for them

    if factory.list_models_or_check(config.model, config.preprocess):
        return
    if not config.export.output_dir:
        raise UsageError("--output_dir is missing; for example: --output_dir exported")
    refuse_folder_of_run(config.export.output_dir, argv)
    if not config.weights.resume and not config.weights.pretrained:
        raise CheckpointError(
            "--resume is missing: random weights are not exported; name a checkpoint, or --pretrained"
        )

    from deploy.engines import EagerEngine
    from deploy.export.export_folder import export_folder
    from deploy.predictor import Predictor
    from deploy.temperature import read_temperature

    temperature = read_temperature(config.export.temperature)
    trained = factory.read_trained(config.model, config.weights, config.preprocess, config.export.label_list)
    for note in trained.notes:
        print_safely(f"warning: {note}", sys.stderr)
    refuse_names_of_bytes(trained.classes.names or ())
    model, meta = trained.create_model(), trained.weights.meta
    metrics = {name: meta[name] for name in METRICS if meta.get(name) is not None}
    if trained.overrides:
        metrics["overrides"] = {
            flag: {"checkpoint": then, "exported": now} for flag, (then, now) in trained.overrides.items()
        }
    card = trained.card(model, metrics, temperature)
    images, eager = gate_images(config, trained.preprocess), Predictor(EagerEngine(model), card)
    export_folder(
        config.export.output_dir,
        config.export.format.split(","),
        card,
        program_writer(model, trained.preprocess.input_size, temperature),
        images,
        eager.logits(eager.preprocess(images)),
        quantization_data(config, trained),
        config.export.paddlex_name,
    )
    print_safely(f"Model is saved in {config.export.output_dir}.")


def refuse_folder_of_run(output_dir: str, argv: list[str]) -> None:
    """Refuse to export into the folder of a training that only a recipe names: the config.yaml of the run itself.

    Raises:
        UsageError: the folder has checkpoints, and --output_dir is not on the command line.
    """
    names = {"--output_dir", "--output-dir", "--output"}
    is_asked_for = any(word.partition("=")[0] in names for word in argv)
    if not is_asked_for and any(Path(output_dir).glob("checkpoint-*.pd")):
        raise UsageError(
            f"--output_dir is missing: the recipe names {output_dir}, the folder of the training itself; "
            f"for example: --output_dir {output_dir}/exported"
        )


def refuse_names_of_bytes(names) -> None:
    """Refuse class names that are not UTF-8, such as those of folders in GBK: no card and no program can hold them.

    Raises:
        DataError: a name is not UTF-8.
    """
    from datasets.reading.image_folder import is_utf8

    wrong = [label for label, name in enumerate(names) if not is_utf8(name)]
    if wrong:
        name = repr(os.fsencode(names[wrong[0]]))[1:]
        raise DataError(
            f"class {wrong[0]} is called {name}, which is not UTF-8 ({len(wrong)} of {len(names)} names): a card "
            "cannot hold it; name the classes by --label_list, a file in UTF-8"
        )


def program_writer(model, input_size: int, temperature: float = 1.0):
    """A function that writes the program of `model` into a folder: model.*, or with a softmax inference.*.

    Only the program with a softmax divides the logits by the temperature: whoever runs it has no other place for that.
    """
    from engine.export import append_softmax, export_program

    def save_program(folder, *, with_softmax: bool = False, batch_size: int | None = None):
        if with_softmax:
            return export_program(append_softmax(model, temperature), input_size, folder, name="inference")
        return export_program(model, input_size, folder, batch_size=batch_size)

    return save_program


def gate_images(config: ExportConfig, preprocess):
    """The pictures that every program is compared on with the eager model: fixed ones, then those that were given."""
    from datasets.reading.decode import read_image
    from deploy.export.parity import parity_images

    if not config.export.check_images:
        return parity_images()
    paths = find_pictures(config.export.check_images)
    return parity_images() + [read_image(path, preprocess.exif_orientation) for path in paths]


def find_pictures(folder: str) -> list[str]:
    """The images below a folder; what was passed over is said on stderr."""
    from datasets.reading.image_folder import FolderScan, find_images

    scan = FolderScan()
    paths = find_images(folder, scan)
    for remark in scan.remarks:
        print_safely(f"warning: {remark}", sys.stderr)
    return paths


def quantization_data(config: ExportConfig, trained: "factory.TrainedModel"):
    """Calibration and validation images of onnx-int8, whose classes are compared with the model's.

    Returns:
        Their Quantization; None if it is not asked for.

    Raises:
        DataError: no images, or classes that do not agree.
        UsageError: no --calibration_images, and no split beside the checkpoint.
    """
    import numpy as np

    import factory
    from deploy.export.quantize import Calibration, Quantization, Validation

    flags = config.quantize
    if "onnx-int8" not in config.export.format.split(","):
        return None
    images = None
    if flags.calibration_images:
        paths = find_pictures(flags.calibration_images)
    else:
        known = trained.weights.meta.get("info", {}).get("data")
        images = factory.open_train_images(EvalDataConfig(), None, trained) if known else None
        if images is None:
            raise UsageError(
                "--format onnx-int8 needs --calibration_images, a folder of training images: those of the training of "
                f"{trained.weights.path} are not known"
            )
        paths = [images.path(i) for i in range(len(images))]
    places = np.linspace(0, len(paths) - 1, min(flags.num_calibration, len(paths))).astype(int)  # of all classes
    calibration = Calibration([paths[i] for i in places], flags.calibration_method)
    if not flags.data_path and images is None:
        if flags.cls_label_path_val:
            raise UsageError("--cls_label_path_val needs --data_path, in which the paths of the list begin")
        print_safely("note: without --data_path the accuracy of the INT8 model is not compared", sys.stderr)
        return Quantization(calibration)
    data = EvalDataConfig(flags.data_path or None, flags.cls_label_path_val)
    images, remarks = factory.open_val_images(data, trained)
    for remark in remarks:
        print_safely(f"warning: {remark}", sys.stderr)
    paths = [images.path(i) for i in range(len(images))]
    return Quantization(calibration, Validation(paths, images.labels, flags.max_drop))


if __name__ == "__main__":
    run(main)
