"""Weights + images -> the most probable classes, by the eager model; infer.py does the same with an exported one."""

import sys

import factory
from common.cli import run
from common.errors import UsageError
from common.printable import print_safely
from configs.loader import parse
from configs.schema import PredictConfig
from datasets.reading.image_folder import FolderScan, find_images
from deploy.temperature import read_temperature


def main(argv: list[str]) -> None:
    config = parse(PredictConfig, argv, prog="predict.py")
    if factory.list_models_or_check(config.model, config.preprocess):
        return
    images = config.images
    if not images.infer_imgs:
        raise UsageError("--infer_imgs is missing; for example: --infer_imgs photos")
    temperature = read_temperature(images.temperature)
    scan = FolderScan()
    paths = find_images(images.infer_imgs, scan)
    for remark in scan.remarks:
        print_safely(f"warning: {remark}", sys.stderr)

    from deploy.engines import EagerEngine
    from deploy.pipeline import predict_files
    from deploy.predictions import write_predictions
    from deploy.predictor import Predictor
    from engine.amp import choose_precision
    from engine.distributed import choose_device

    choose_device(config.device.device)
    trained = factory.read_trained(config.model, config.weights, config.preprocess, images.label_list)
    for note in trained.notes:
        print_safely(f"warning: {note}", sys.stderr)
    precision = choose_precision(images.use_amp)
    model = trained.create_model()
    predictor = Predictor(EagerEngine(model, precision.autocast), trained.card(model, temperature=temperature))
    batches = predict_files(predictor, paths, batch_size=images.batch_size, topk=images.topk)
    write_predictions(batches, len(paths), images.save_path, csv_formulas=images.csv_formulas)


if __name__ == "__main__":
    run(main)
