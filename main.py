"""Train a model: images + recipe -> checkpoints, log.txt and scores, on one process or many."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from common.cli import run as run_program
from common.files import disk_errors
from common.logs import set_up_logging
from configs.loader import as_dict, given_flags, parse, resume_rules, write_config
from configs.schema import TrainConfig

if TYPE_CHECKING:
    from datasets.preprocess import Preprocess
    from engine.run_state import RunRecord

ROOT = Path(__file__).parent
logger = logging.getLogger("main")


def main(argv: list[str]) -> None:
    config, given = parse(TrainConfig, argv, prog="main.py"), given_flags(TrainConfig, argv, prog="main.py")
    import factory  # numpy and Pillow from here on: --help does not wait for them
    from datasets.augment.mixup import create_mixup
    from datasets.augment.transforms import build_train_transform
    from datasets.preprocess import Preprocess
    from engine.output_dir import locked_output_dir
    from engine.run_state import RunRecord

    config, published = factory.with_public_weights(config, given)
    if factory.list_models_or_check(config.model, config.preprocess):
        return
    if config.run.debug:
        os.environ["FLAGS_cudnn_deterministic"] = "1"  # noqa: SIM112 (read when Paddle is imported)
    rank = int(os.environ.get("PADDLE_TRAINER_ID", 0))
    if config.run.eval:
        return evaluate_only(config, given)
    folder = config.output.output_dir or None
    with locked_output_dir(folder, rank), RunRecord(folder, rank) as record:
        # What can be wrong with flags and data shows before Paddle is imported.
        data = factory.open_datasets(config, rank)
        config, data = factory.with_run_length(factory.with_classes(config, data.classes), data)
        preprocess = Preprocess.from_config(config.preprocess, trained=published)
        transform = build_train_transform(config.augment, config.preprocess, preprocess)
        mixup = create_mixup(config.mix, data.classes.number)
        start = factory.choose_start(config)
        if rank == 0:
            data = factory.with_finetune_remarks(data, config, start, preprocess, given)
        train(config, preprocess, data, transform, mixup, start, record)


def train(config: TrainConfig, preprocess: "Preprocess", data, transform, mixup, start, record: "RunRecord") -> None:
    """Train to the last epoch; from here on Paddle is needed."""
    import factory
    from engine.cpu_threads import import_paddle

    has_readers = config.loader.num_workers != 0
    import_paddle(config.device.cpu_threads, reader_side=preprocess.input_size if has_readers else None)
    from datasets.augment.random_erasing import create_random_erasing
    from datasets.loading.loader import EvalLoader, TrainLoader
    from datasets.loading.sampler import EvalSampler, create_train_sampler
    from engine.amp import choose_precision
    from engine.ema import create_ema
    from engine.evaluate import evaluate
    from engine.fit import fit
    from engine.losses import cross_entropy
    from engine.optim import create_optimizer
    from engine.output_dir import clean_output_dir
    from engine.resume import start_from
    from engine.run import start_run
    from engine.saver import Saver
    from engine.schedule import create_schedule, peak_lr
    from engine.state import TrainState
    from engine.train import Recipe
    from models.complexity import count_parameters

    with start_run(config, record) as run:
        set_up_logging(run.ranks.rank)
        factory.log_config(config, mixup)
        factory.log_cpu_threads()
        logger.info("\n".join(data.notes))
        for remark in data.remarks:
            logger.warning(remark)
        clean_output_dir(run.output_dir, run.ranks.rank)

        train_set, val_set = data.train_set, data.val_set
        optim, loading, seed = config.optim, config.loader, config.run.seed
        sampler = create_train_sampler(train_set.labels, loading, optim.accum_iter, run.ranks, seed)
        erasing = create_random_erasing(config.augment)
        train_loader = TrainLoader(train_set, transform, preprocess, sampler, loading, erasing=erasing, mixup=mixup)
        val_sampler = EvalSampler(len(val_set), loading.batch_size, *run.ranks)
        val_loader = EvalLoader(val_set, preprocess, val_sampler, loading)

        effective_batch = loading.batch_size * optim.accum_iter * run.ranks.world
        lr = peak_lr(config.schedule, effective_batch)
        factory.log_sizes(config, effective_batch, lr, len(train_set), train_loader.steps_per_epoch)
        model = create_seeded_model(config)
        precision = choose_precision(optim.use_amp, optim.amp_dtype)
        state = TrainState(
            model,
            create_optimizer(model, optim, lr),
            ema=create_ema(model, config.ema, num_steps=config.schedule.epochs * train_loader.steps_per_epoch),
            scaler=precision.scaler(),
            info=describe(config, preprocess, data, effective_batch),
        )
        state.begin_epoch(config.resume.start_epoch)

        rules = resume_rules(TrainConfig)
        is_best_known = start_from(state, start, run.output_dir, rules=rules)
        if not is_best_known:
            with run.live:
                scores = evaluate(state.model, val_loader, run, precision)
            logger.info(f"Accuracy of the network on the {len(val_set)} test images: {scores.top1_percent:.1f}%")
            state.best_top1_percent = scores.top1_percent
        write_recipe(config, run, data.split_source)  # only now: refused settings must not replace good ones
        recipe = Recipe(
            loss_fn=cross_entropy(
                config.mix.smoothing, class_weights=data.class_weights, focal_gamma=config.loss.focal_gamma
            ),
            learning_rate=create_schedule(config.schedule, lr),
            epochs=config.schedule.epochs,
            accum_iter=optim.accum_iter,
            precision=precision,
            seed=seed,
            skip_nonfinite=config.run.skip_nonfinite,
            eval_ema=config.ema.model_ema_eval,
            patience=config.schedule.patience,
        )
        saver = Saver(state, config.output, rank=run.ranks.rank, on_saved=record.saved) if run.output_dir else None
        constants = {"n_parameters": count_parameters(model)}
        fit(state, recipe, train_loader, val_loader, with_trackers(config, run), saver, constants)
        factory.log_end(config, run, state.best_top1_percent)


def evaluate_only(config: TrainConfig, given: frozenset[str]) -> None:
    """Evaluate the weights that --resume or --finetune names, and exit: as eval.py, whose flags this script has."""
    import factory
    from engine.cpu_threads import import_paddle

    import_paddle(config.device.cpu_threads)
    from engine.amp import choose_precision
    from engine.run import start_run
    from engine.run_state import RunRecord

    set_up_logging(int(os.environ.get("PADDLE_TRAINER_ID", 0)))
    weights = factory.weights_to_evaluate(config)
    model, preprocess = factory.trained_configs(config, given)
    trained = factory.read_trained(model, weights, preprocess, config.data.label_list)
    images, remarks = factory.open_val_images(factory.data_to_evaluate(config, given), trained)
    with start_run(config, RunRecord()) as run, run.live:
        set_up_logging(run.ranks.rank)
        factory.log_config(config)
        factory.log_cpu_threads()
        for remark in (*remarks, *factory.remarks_on_average(config)):
            logger.warning(remark)
        precision = choose_precision(config.optim.use_amp, config.optim.amp_dtype)
        factory.evaluate_trained(trained, images, config.loader, run, precision=precision)


def write_recipe(config: TrainConfig, run, split_source: Path | None) -> None:
    """Move the files of an earlier run away, unless this run continues it, and write config.yaml; rank 0 alone."""
    import factory
    from engine.output_dir import reports_and_exports, set_earlier_run_aside
    from engine.progress.environment import write_environment

    folder = run.output_dir
    if folder is None or run.ranks.rank != 0:
        return
    resume = config.resume.resume
    continues = resume == "auto" or (resume and Path(resume).resolve().parent == folder.resolve())
    if not continues and (aside := set_earlier_run_aside(folder)):
        logger.warning(f"{folder} held an earlier run, moved to {aside}; to continue such a run, add --resume auto")
        if made := ", ".join(path.name for path in reports_and_exports(folder)):
            logger.warning(f"{folder}: of the earlier run are still: {made}; write them again when this run has ended")
    factory.keep_split(split_source, folder)
    with disk_errors(f"into --output_dir {folder}"):
        write_config(config, folder / "config.yaml")
    write_environment(folder)


def create_seeded_model(config: TrainConfig):
    """The model with the initial weights that the seed gives, the same on all ranks."""
    import paddle

    import models
    from engine.distributed import synchronize_batch_norm
    from engine.layer_groups import freeze_layers
    from engine.onednn.convolution import use_onednn_convolutions
    from models.complexity import count_parameters

    paddle.seed(config.run.seed)
    model = models.create_model(config.model.name, num_classes=config.model.nb_classes)
    if config.optim.sync_bn:
        model = synchronize_batch_norm(model)
    if config.device.onednn:
        use_onednn_convolutions(model)
    freeze_layers(model, config.optim)
    logger.info(f"number of params: {count_parameters(model) / 1e6} M")
    return model


def with_trackers(config: TrainConfig, run):
    """The run, whose numbers are also sent to the programs of --log_to."""
    from engine.progress.step_log import StepLog
    from engine.progress.trackers import create_trackers

    trackers = create_trackers(config.output, as_dict(config)) if run.ranks.rank == 0 else []
    return replace(run, step_log=StepLog(run.output_dir, run.ranks.rank, trackers))


def describe(config: TrainConfig, preprocess: "Preprocess", data, effective_batch: int) -> dict:
    """What a checkpoint keeps of its run; engine/resume_check.py compares it when the run is resumed."""
    from engine.resume_check import checksum_of_source

    return {
        "args": as_dict(config) | {"eval_image_backend": preprocess.image_backend},  # which None stands for
        "class_names": data.classes.names,
        "class_folders": data.classes.folders,
        "preprocess": preprocess.to_dict(),
        "effective_batch": effective_batch,
        "data": data.describe(config.data),
        "images": data.train_set.fingerprint()[:16],
        "code": checksum_of_source(ROOT / package for package in ("models", "datasets", "engine")),
    }


if __name__ == "__main__":
    run_program(main)
