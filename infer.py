"""Exported folder + images -> the most probable classes, through Paddle Inference, ONNX Runtime or OpenVINO."""

import sys

from common.cli import run
from common.errors import UsageError
from configs.loader import parse
from configs.schema import InferConfig, InferEngineConfig, InferImagesConfig

BENCHMARK_LOG = "./output/auto_log.lpg"  # the predecessor's name


def main(argv):
    config = parse(InferConfig, argv, prog="infer.py")
    for flag, value in (("--model_file", config.engine.model_file), ("--input_file", config.images.input_file)):
        if not value:
            raise UsageError(f"{flag} is missing; for example: infer.py --model_file exported --input_file photos")

    from deploy.pipeline import predict_files, share_threads, timed_answers, with_progress
    from deploy.predictions import write_predictions

    images = config.images
    kept, paths = images_to_run(images)
    num_batches = -(-len(paths) // images.batch_size)
    engine, options = engine_options(config.engine, images.batch_size)
    num_workers, options = share_threads(engine, options, 1 if images.enable_benchmark else num_batches)
    predictor = load_predictor(config, engine, options)
    print(f"Inference model({predictor.card.architecture})...", flush=True)
    asked = {"batch_size": images.batch_size, "k": images.topk, "threshold": images.threshold}
    if images.enable_benchmark:
        report = benchmark_report(config, predictor, options, len(paths))
        batches = timed_answers(predictor, paths, **asked, report=report)
    else:
        batches = predict_files(predictor, paths, **asked, num_workers=num_workers)
    write_predictions(with_progress(batches, len(paths)), len(paths), images.save_path, kept)


def images_to_run(images: InferImagesConfig):
    """The records to keep from an earlier run, and the images still to answer."""
    from datasets.reading.image_folder import FolderScan, find_images
    from deploy.predictions import read_records

    scan = FolderScan()
    paths = find_images(images.input_file, scan)
    for remark in scan.remarks:
        print(f"warning: {remark}", file=sys.stderr)
    if not images.resume_from:
        return (), paths
    done = {record["file_name"] for record in read_records(images.resume_from) if "error" not in record}
    kept = (record for record in read_records(images.resume_from) if "error" not in record)
    print(f"{len(done)} images are answered in {images.resume_from}", file=sys.stderr)
    return kept, [path for path in paths if path not in done]


def engine_options(flags: InferEngineConfig, batch_size: int):
    """The runtime and its switches."""
    from deploy.engines import EngineOptions
    from deploy.predictor import choose_engine

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
    """The predictor that the flags describe; what it runs on, and what it assumes, is said on stderr."""
    from dataclasses import replace

    from datasets.class_names import IMAGENET_LABEL_LIST, read_class_names
    from deploy.predictor import Predictor, predecessor_card

    flags, images = config.engine, config.images
    default_card = predecessor_card(tuple(read_class_names(IMAGENET_LABEL_LIST)), images.train_interpolation)
    predictor = Predictor(
        flags.model_file,
        flags.params_file,
        engine=engine,
        options=options,
        default_card=default_card,
        trust_program=flags.trust_program,
    )
    print(f"engine: {predictor.engine.description}", file=sys.stderr)
    if not predictor.has_card:
        print(f"{flags.model_file} has no card.yaml: images are fed as {predictor.card.preprocess}", file=sys.stderr)
    if images.label_list:
        class_names = tuple(read_class_names(images.label_list, predictor.card.num_classes))
        predictor.card = replace(predictor.card, class_names=class_names)
    return predictor


def benchmark_report(config: InferConfig, predictor, options, num_images: int):
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
