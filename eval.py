"""Weights + data -> scores: top-1 and top-5 accuracy and loss, exact on any number of processes."""

import models
from common.cli import run
from configs.loader import as_dict, parse
from configs.schema import EvalConfig
from datasets.loading.sampler import EvalSampler
from datasets.preprocess import Preprocess
from datasets.reading.dataset import open_dataset
from datasets.reading.image_folder import check_trained_classes


def main(argv):
    config = parse(EvalConfig, argv, prog="eval.py")
    model_config, flags, data = config.model, config.preprocess, config.data
    if model_config.list_models:
        print(*models.list_models(), sep="\n")
        return
    models.check_input_size(model_config.model, model_config.input_size)
    images = open_dataset(data.data_path, "val", data.cls_label_path_val, model_config.nb_classes)

    from datasets.loading.loader import EvalLoader, choose_num_workers
    from engine.checkpoint import load_weights, set_weights
    from engine.distributed import choose_device, init_ranks, ranks_on_this_machine
    from engine.evaluate import evaluate
    from engine.log import Logger
    from models.complexity import count_parameters

    choose_device(config.device.device)
    ranks = init_ranks()
    logger = Logger(rank=ranks.rank)
    for name, value in as_dict(config).items():
        logger.line(f"{name}={value!r}")
    weights = load_weights(config.weights.resume, ema=config.weights.use_ema, model_name=model_config.model)
    info = weights.meta.get("info", {})
    check_trained_classes(images, info.get("class_names"))
    preprocess = Preprocess.from_flags(
        model_config.input_size,
        flags.train_interpolation,
        flags.exif_orientation,
        flags.eval_image_backend,
        trained=info.get("preprocess"),
    )
    model = models.create_model(model_config.model, num_classes=model_config.nb_classes)
    set_weights(model, weights.arrays, source=weights.path, trained_with=weights.trained_with)
    logger.line(f"number of params: {count_parameters(model) / 1e6} M")
    logger.line(f"Resume checkpoint {weights.path}")
    logger.line(f"images are fed as {preprocess}")
    if note := weights.other_preprocessing(preprocess.to_dict()):
        logger.line(note)

    num_workers = choose_num_workers(data.num_workers, ranks_on_this_machine())
    sampler = EvalSampler(len(images), data.batch_size, ranks.rank, ranks.world)
    loader = EvalLoader(images, preprocess, sampler, num_workers=num_workers, worker_type=data.worker_type)
    scores = evaluate(
        model,
        loader.batches(),
        num_samples=len(images),
        batch_size=data.batch_size,
        logger=logger,
    )
    logger.line(f"Accuracy of the network on the {scores.num_samples} test images: {scores.top1_percent:.1f}%")


if __name__ == "__main__":
    run(main)
