"""Weights -> an exported folder: Paddle and ONNX programs, checked against the eager model, and their card."""

from pathlib import Path

from configs.loader import parse, run
from configs.schema import ExportConfig, UsageError

LABEL_LIST = Path(__file__).parent / "demo" / "imagenet1k_label_list.txt"
METRICS = ("best_top1_percent", "best_top1_ema_percent", "epoch")  # of the checkpoint, kept in the card


def main(argv):
    config = parse(ExportConfig, argv, prog="export_model.py")
    from engine.errors import CheckpointError
    from models import check_input_size, list_models

    if config.model.list_models:
        print("\n".join(list_models()))
        return
    if not config.export.output_dir:
        raise UsageError("--output_dir is missing; for example: --output_dir exported")
    if not config.weights.resume:
        raise CheckpointError("--resume is missing: random weights are not exported; name a checkpoint")
    check_input_size(config.model.model, config.model.input_size)

    from functools import partial

    from datasets.preprocess import Preprocess
    from deploy.card import Card
    from deploy.export import export_folder
    from engine.checkpoint import load_weights, set_weights
    from engine.export import export_program
    from models import create_model

    weights = load_weights(config.weights.resume, ema=config.weights.use_ema)
    class_names = find_class_names(config, weights.meta)
    model = create_model(config.model.model, num_classes=config.model.nb_classes)
    set_weights(model, weights.arrays, source=weights.path)
    model.eval()
    preprocess = Preprocess(
        input_size=config.model.input_size,
        interpolation=config.preprocess.train_interpolation,
        exif_orientation=config.preprocess.exif_orientation,
    )
    card = Card(
        model=config.model.model,
        architecture=type(model).__name__,
        num_classes=config.model.nb_classes,
        preprocess=preprocess,
        class_names=class_names,
        metrics={name: weights.meta[name] for name in METRICS if weights.meta.get(name) is not None},
    )
    images = gate_images(config)
    export_folder(
        config.export.output_dir,
        config.export.formats,
        card,
        partial(export_program, model, config.model.input_size),
        images,
        eager_logits(model, preprocess, images),
    )
    print(f"Model is saved in {config.export.output_dir}.")


def find_class_names(config: ExportConfig, meta: dict) -> tuple[str, ...] | None:
    """Names of the classes: of --label_list, else of the checkpoint, else ImageNet's for 1000 classes, else None."""
    from datasets.labels import read_label_names

    num_classes = config.model.nb_classes
    if config.export.label_list:
        return tuple(read_label_names(config.export.label_list, num_classes))
    if meta.get("info", {}).get("class_names"):
        return tuple(meta["info"]["class_names"])
    return tuple(read_label_names(LABEL_LIST, num_classes)) if num_classes == 1000 else None


def gate_images(config: ExportConfig):
    """The pictures that every program is compared on with the eager model: fixed ones, then those that were given."""
    from datasets.decode import read_image
    from datasets.image_folder import find_images
    from deploy.export import check_images

    if not config.export.check_images:
        return check_images()
    paths = find_images(config.export.check_images)
    return check_images() + [read_image(path, config.preprocess.exif_orientation) for path in paths]


def eager_logits(model, preprocess, images):
    """What the model itself says of `images`, one at a time."""
    import numpy as np
    import paddle

    with paddle.no_grad():
        return np.concatenate([model(paddle.to_tensor(preprocess(image)[None])).numpy() for image in images])


if __name__ == "__main__":
    run(main)
