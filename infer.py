"""Predict the classes of images with an exported folder, by Paddle Inference, ONNX Runtime or OpenVINO."""

import sys

from common.cli import run
from common.errors import UsageError
from common.printable import print_safely
from configs.loader import parse
from configs.schema import InferConfig, InferEngineConfig, InferImagesConfig

BENCHMARK_LOG = "./output/auto_log.lpg"  # name in PeleeNet-paddle


def main(argv):
    config = parse(InferConfig, argv, prog="infer.py")
    for flag, value in (("--model_file", config.engine.model_file), ("--input_file", config.images.input_file)):
        if not value:
            raise UsageError(f"{flag} is missing; for example: infer.py --model_file exported --input_file photos")

    from deploy.exchange import read_whole
    from deploy.pipeline import predict_files, predict_files_timed, print_progress, share_threads
    from deploy.predictions import check_same_classes
    from deploy.results.outputs import Images, check_output, write_predictions

    images = config.images
    kept, paths = images_to_predict(images)
    check_output(config.output, [images.input_file])
    if images.enable_benchmark and config.output.print == "jsonl":
        raise UsageError("--print jsonl: stdout holds JSON only, and --enable_benchmark prints a report; leave one out")
    num_batches = -(-len(paths) // images.batch_size)

    def open_export():
        engine, options = choose_engine_and_options(config.engine, images.batch_size)
        num_workers, options = share_threads(engine, options, 1 if images.enable_benchmark else num_batches)
        return load_predictor(config, engine, options), num_workers, options

    predictor, num_workers, options = read_whole(config.engine.model_file, open_export)
    if images.resume_from:
        check_same_classes(images.resume_from, predictor.class_names)
    opening = f"Inference model({predictor.card.architecture})..."
    print_safely(opening, sys.stderr if config.output.print == "jsonl" else sys.stdout)
    settings = {"batch_size": images.batch_size, "topk": images.topk, "threshold": images.threshold}
    if images.enable_benchmark:
        report = create_report(config, predictor, options, len(paths))
        batches = predict_files_timed(predictor, paths, report, **settings)
    else:
        batches = predict_files(predictor, paths, **settings, num_workers=num_workers)
    batches = print_progress(batches, len(paths))
    write_predictions(batches, Images([images.input_file], paths, kept), config.output, predictor, images.topk)


def images_to_predict(images: InferImagesConfig):
    """Find the predictions to keep from an earlier run, and the images that still need one."""
    from datasets.reading.image_folder import FolderScan, find_images
    from deploy.predictions import read_predictions

    scan = FolderScan()
    paths = find_images(images.input_file, scan)
    for remark in scan.remarks:
        print_safely(f"warning: {remark}", sys.stderr)
    if not images.resume_from:
        return (), paths
    done = {prediction["file_name"] for prediction in _successes(read_predictions(images.resume_from))}
    print_safely(f"{images.resume_from} has predictions of {len(done)} image{'s' * (len(done) != 1)}", sys.stderr)
    return _successes(read_predictions(images.resume_from)), [path for path in paths if path not in done]


def _successes(predictions):
    return (prediction for prediction in predictions if "error" not in prediction)


def choose_engine_and_options(flags: InferEngineConfig, batch_size: int):
    """Return the name of the engine and its options."""
    from deploy.engines import EngineOptions
    from deploy.exported_program import choose_engine

    options = EngineOptions(
        use_gpu=flags.use_gpu,
        gpu_id=flags.gpu_id,
        gpu_mem_mb=flags.gpu_mem,
        num_threads=flags.cpu_threads,
        precision=flags.precision,
        max_batch_size=batch_size,
        ir_optim=flags.ir_optim,
        onednn=flags.enable_mkldnn,
        openvino=flags.enable_openvino,
        tensorrt=flags.use_tensorrt,
    )
    return choose_engine(flags.model_file, options) if flags.engine == "auto" else (flags.engine, options)


def load_predictor(config: InferConfig, engine: str, options):
    """Open the predictor; print its engine, and the preprocessing of a program without a card, on stderr."""
    from datasets.class_names import IMAGENET_LABEL_LIST, read_class_names
    from deploy.card import has_card
    from deploy.exported_program import predecessor_card
    from deploy.predictor import open_predictor

    flags, images = config.engine, config.images
    predictor = open_predictor(
        flags.model_file,
        flags.params_file,
        engine=engine,
        options=options,
        default_card=predecessor_card(read_class_names(IMAGENET_LABEL_LIST), images.train_interpolation),
        label_list=images.label_list,
        trust_program=flags.trust_program,
    )
    print_safely(f"engine: {predictor.engine.description}", sys.stderr)
    if predictor.class_names is None:
        print_safely(f"{flags.model_file} has no class names: classes are called by their numbers", sys.stderr)
    if predictor.card.temperature != 1:
        print_safely(
            f"scores are calibrated by the temperature of the card, {predictor.card.temperature:.3g}", sys.stderr
        )
    if not has_card(flags.model_file):
        print_safely(f"{flags.model_file} has no card.yaml: images are fed as {predictor.card.preprocess}", sys.stderr)
    return predictor


def create_report(config: InferConfig, predictor, options, num_images: int):
    """Create the report of --enable_benchmark."""
    from deploy.benchmark_report import BenchmarkReport, Conditions

    return BenchmarkReport(
        Conditions(
            model_name=predictor.card.architecture,
            engine=predictor.engine.description,
            device=predictor.engine.device,
            precision=options.precision,
            batch_size=config.images.batch_size,
            input_size=predictor.card.preprocess.input_size,
            num_images=num_images,
            ir_optim=options.ir_optim,
            tensorrt=options.tensorrt,
            onednn=predictor.engine.onednn_is_on,
            memory_optim=predictor.engine.memory_optim_is_on,
            num_threads=options.threads,
        ),
        save_path=BENCHMARK_LOG,
    )


if __name__ == "__main__":
    run(main)
