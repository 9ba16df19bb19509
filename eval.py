"""Weights + data -> scores: top-1 and top-5 accuracy and loss, exact on any number of processes; and a report."""

import logging

from common.cli import run as run_program
from common.logs import set_up_logging
from configs.loader import changed, parse
from configs.schema import EvalConfig

logger = logging.getLogger("eval")


def main(argv: list[str]) -> None:
    config = parse(EvalConfig, argv, prog="eval.py")
    import factory  # numpy and Pillow from here on: --help does not wait for them
    from engine.cpu_threads import import_paddle

    if factory.list_models_or_check(config.model, config.preprocess):
        return
    if config.report.output_dir:
        factory.prepare_report(config.report)
    trained = factory.read_trained(config.model, config.weights, config.preprocess)
    images, remarks = factory.open_val_images(config.data, trained)

    import_paddle(config.device.cpu_threads)
    from engine.distributed import choose_device, init_ranks
    from engine.run import Run

    choose_device(config.device.device)
    run = Run(ranks=init_ranks())
    set_up_logging(run.ranks.rank)
    for name, value in changed(config).items():
        logger.info(f"{name}={value!r}")
    factory.log_cpu_threads()
    logger.info(f"Resume checkpoint {trained.weights.path}")
    for remark in remarks:
        logger.warning(remark)
    if config.report.output_dir:
        factory.evaluate_and_report(config, trained, images, remarks, run)
    else:
        factory.evaluate_trained(trained, images, config.loader, run, device=config.device, tta=config.report.tta)


if __name__ == "__main__":
    run_program(main)
