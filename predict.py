"""Weights + images -> the most probable classes, by the eager model; infer.py does the same with an exported one."""

import sys

from common.cli import run
from common.errors import UsageError
from common.printable import print_safely
from configs.loader import parse
from configs.schema import PredictConfig


def main(argv: list[str]) -> None:
    config = parse(PredictConfig, argv, prog="predict.py")
    import factory  # numpy and Pillow from here on: --help does not wait for them
    from datasets.reading.image_folder import FolderScan
    from deploy.temperature import read_temperature
    from engine.cpu_threads import describe_cpu_threads, import_paddle

    if factory.list_models_or_check(config.model, config.preprocess):
        return
    images = config.images
    if not images.infer_imgs:
        raise UsageError("--infer_imgs is missing; for example: --infer_imgs photos")
    factory.check_inputs(images.infer_imgs)
    temperature = read_temperature(images.temperature)
    scan = FolderScan()
    trained = factory.read_trained(config.model, config.weights, config.preprocess, images.label_list)
    paths, inputs = factory.find_images_and_lists(images.infer_imgs, trained, scan)
    for remark in scan.remarks:
        print_safely(f"warning: {remark}", sys.stderr)

    import_paddle(config.device.cpu_threads)
    from deploy.engines import EagerEngine
    from deploy.pipeline import predict_files
    from deploy.predictor import Predictor
    from deploy.results.outputs import Images, check_output, write_predictions
    from engine.amp import choose_precision
    from engine.distributed import choose_device
    from engine.run import is_on_cpu

    check_output(config.output, inputs, images.explain)
    choose_device(config.device.device)
    for note in trained.notes:
        print_safely(f"warning: {note}", sys.stderr)
    precision = choose_precision(images.use_amp)
    model = trained.create_model()
    eager = EagerEngine(model, precision.autocast)
    engine = factory.open_cpu_engine(model, trained.preprocess.input_size, len(paths), config.device, eager)
    threads = f"; {describe_cpu_threads()}" if is_on_cpu() else ""
    print_safely(f"engine: {engine.description}{threads}", sys.stderr)
    predictor = Predictor(engine, trained.card(model, temperature=temperature))
    batches = predict_files(predictor, paths, batch_size=images.batch_size, topk=images.topk)
    found = Images(inputs, paths)
    more = [open_explained(images.explain, found, model, predictor)] if images.explain else []
    write_predictions(batches, found, config.output, predictor, images.topk, more)


def open_explained(folder: str, images, model, predictor):
    """Open the output of --explain."""
    from deploy.results.heat_maps import ExplainedImages
    from engine.layer_cam import LayerCam

    preprocess = predictor.card.preprocess
    return ExplainedImages(folder, images.inputs, LayerCam(model, preprocess.input_size), preprocess)


if __name__ == "__main__":
    run(main)
