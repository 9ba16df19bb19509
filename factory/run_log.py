"""What main.py logs of a run: the settings and sizes at the start, the result and the next command at the end."""

import logging
import shlex
from pathlib import Path

from configs.loader import as_dict, changed
from configs.schema import TrainConfig

logger = logging.getLogger("main")


def log_config(config: TrainConfig, mixup=None) -> None:
    """Log the flags that differ from their defaults, one per line; config.yaml has all of them."""
    logger.info(f"job dir: {Path(__file__).parents[1]}")
    given = changed(config)
    for name, value in given.items():
        logger.info(f"{name}={value!r}")
    is_written = config.output.output_dir and not config.run.eval
    where = f"; all stand in {config.output.output_dir}/config.yaml" if is_written else ""
    logger.info(f"the other {len(as_dict(config)) - len(given)} flags have their defaults{where}")
    if mixup:
        logger.info("Mixup is activated!")


def log_cpu_threads() -> None:
    """Log how many threads compute, where the device is a CPU."""
    from engine.cpu_threads import describe_cpu_threads
    from engine.run import is_on_cpu

    if is_on_cpu():
        logger.info(describe_cpu_threads())


def log_sizes(config: TrainConfig, effective_batch: int, lr: float, num_images: int, steps_per_epoch: int) -> None:
    """Log learning rate, batch size and number of images.

    Args:
        config: the settings.
        effective_batch: images per update of the weights.
        lr: peak learning rate.
        num_images: number of training images.
        steps_per_epoch: updates per epoch.
    """
    if config.schedule.lr is None:
        logger.info(f"base lr: {config.schedule.blr:.2e}")
    logger.info(f"actual lr: {lr:.2e}")
    logger.info(f"accumulate grad iterations: {config.optim.accum_iter}")
    logger.info(f"effective batch size: {effective_batch}")
    logger.info(f"Number of training examples = {num_images}")
    logger.info(f"Number of training training per epoch = {steps_per_epoch}")


def log_end(config: TrainConfig, run, top1_percent: float) -> None:
    """Log the best epoch, its file, and the command that comes next."""
    from engine.progress.epoch_log import best_epoch
    from engine.saver import BEST

    if run.output_dir is None:
        return
    best, data = run.output_dir / BEST, config.data
    if not best.exists():  # all epochs were trained in another folder
        logger.info(f"no epoch was trained, so {best} is not written")
        return
    logger.info(f"best: {top1_percent:.2f}% top-1{best_epoch(run.output_dir)}, in {best}")
    val_list = f" --cls_label_path_val {shlex.quote(data.cls_label_path_val)}" if data.cls_label_path_val else ""
    images = f"--data_path {shlex.quote(data.data_path)}{val_list}"
    report = shlex.quote(str(run.output_dir / "report"))
    logger.info(f"next: python eval.py --resume {shlex.quote(str(best))} {images} --output_dir {report}")
