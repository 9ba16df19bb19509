"""Weights + data -> scores: top-1 and top-5 accuracy and loss, exact on any number of processes."""

import models
from configs.loader import as_dict, parse, run
from configs.schema import EvalConfig
from datasets.preprocess import Preprocess
from datasets.sampler import EvalSampler
from datasets.splits import open_split


def main(argv):
    config = parse(EvalConfig, argv, prog="eval.py")
    model_config, data = config.model, config.data
    if model_config.list_models:
        print(*models.list_models(), sep="\n")
        return
    models.check_input_size(model_config.model, model_config.input_size)
    preprocess = Preprocess(
        input_size=model_config.input_size,
        interpolation=config.preprocess.train_interpolation,
        exif_orientation=config.preprocess.exif_orientation,
    )
    images = open_split(data.data_path, "val", data.cls_label_path_val, model_config.nb_classes)

    from datasets.loaders import EvalLoader, default_num_workers
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
    model = models.create_model(model_config.model, num_classes=model_config.nb_classes)
    set_weights(model, weights.arrays, source=weights.path)
    logger.line(f"number of params: {count_parameters(model) / 1e6} M")
    logger.line(f"Resume checkpoint {weights.path}")

    num_workers = default_num_workers(ranks_on_this_machine()) if data.num_workers is None else data.num_workers
    sampler = EvalSampler(len(images), data.batch_size, ranks.rank, ranks.world)
    scores = evaluate(
        model,
        EvalLoader(images, preprocess, sampler, num_workers=num_workers).batches(),
        num_samples=len(images),
        batch_size=data.batch_size,
        logger=logger,
    )
    logger.line(f"Accuracy of the network on the {scores.num_samples} test images: {scores.top1_percent:.1f}%")


if __name__ == "__main__":
    run(main)
