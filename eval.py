"""Weights + data -> scores: top-1 and top-5 accuracy and loss, exact on any number of processes."""

import logging

import factory
from common.cli import run
from common.logs import set_up_logging
from configs.loader import as_dict, parse
from configs.schema import EvalConfig
from datasets.loading.sampler import EvalSampler
from datasets.reading.dataset import open_dataset
from datasets.reading.image_folder import check_trained_classes

logger = logging.getLogger("eval")


def main(argv: list[str]) -> None:
    config = parse(EvalConfig, argv, prog="eval.py")
    if factory.list_models_or_check(config.model, config.preprocess):
        return
    data = config.data
    images = open_dataset(data.data_path, "val", data.cls_label_path_val, config.model.nb_classes)

    from datasets.loading.loader import EvalLoader
    from engine.distributed import choose_device, init_ranks
    from engine.evaluate import evaluate
    from engine.run import Run
    from models.complexity import count_parameters

    choose_device(config.device.device)
    ranks = init_ranks()
    set_up_logging(ranks.rank)
    for name, value in as_dict(config).items():
        logger.info(f"{name}={value!r}")
    trained = factory.load_trained(config.model, config.weights, config.preprocess)
    check_trained_classes(images, trained.info.get("class_names"))
    logger.info(f"number of params: {count_parameters(trained.model) / 1e6} M")
    logger.info(f"Resume checkpoint {trained.weights.path}")
    logger.info(f"images are fed as {trained.preprocess}")
    if trained.note:
        logger.warning(trained.note)

    sampler = EvalSampler(len(images), config.loader.batch_size, ranks.rank, ranks.world)
    loader = EvalLoader(images, trained.preprocess, sampler, config.loader)
    scores = evaluate(trained.model, loader, Run(ranks=ranks))
    logger.info(f"Accuracy of the network on the {scores.num_samples} test images: {scores.top1_percent:.1f}%")


if __name__ == "__main__":
    run(main)
