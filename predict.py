"""Weights + images -> the most probable classes, by the eager model; infer.py does the same with an exported one."""

import sys

import models
from common.cli import run
from common.errors import UsageError
from configs.loader import parse
from configs.schema import PredictConfig
from datasets.preprocess import Preprocess
from datasets.reading.dataset import choose_class_names
from datasets.reading.image_folder import find_images


def main(argv):
    config = parse(PredictConfig, argv, prog="predict.py")
    model_config, flags, images = config.model, config.preprocess, config.images
    if model_config.list_models:
        print(*models.list_models(), sep="\n")
        return
    if not images.infer_imgs:
        raise UsageError("--infer_imgs is missing; for example: --infer_imgs photos")
    models.check_input_size(model_config.model, model_config.input_size)
    paths = find_images(images.infer_imgs)

    from deploy.card import Card
    from deploy.eager import EagerPredictor
    from deploy.pipeline import predict_files
    from deploy.predictions import write_predictions
    from engine.amp import choose_precision
    from engine.checkpoint import load_weights, set_weights
    from engine.distributed import choose_device

    choose_device(config.device.device)
    weights = load_weights(config.weights.resume, ema=config.weights.use_ema, model_name=model_config.model)
    info = weights.meta.get("info", {})
    model = models.create_model(model_config.model, num_classes=model_config.nb_classes)
    set_weights(model, weights.arrays, source=weights.path, trained_with=weights.trained_with)
    precision, remark = choose_precision(images.use_amp)
    if remark:
        print(remark, file=sys.stderr)
    card = Card(
        model=model_config.model,
        architecture=type(model).__name__,
        num_classes=model_config.nb_classes,
        preprocess=Preprocess.from_flags(
            model_config.input_size,
            flags.train_interpolation,
            flags.exif_orientation,
            flags.eval_image_backend,
            trained=info.get("preprocess"),
        ),
        class_names=choose_class_names(model_config.nb_classes, images.label_list, info.get("class_names")),
    )
    if note := weights.other_preprocessing(card.preprocess.to_dict()):
        print(note, file=sys.stderr)
    predictor = EagerPredictor(model, card, precision.autocast)
    batches = predict_files(predictor, paths, batch_size=images.batch_size, k=images.topk)
    write_predictions(batches, len(paths), images.save_path)


if __name__ == "__main__":
    run(main)
