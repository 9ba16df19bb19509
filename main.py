"""Train a model: images + recipe -> checkpoints, log.txt and scores, on one process or many."""

import os
import sys
from pathlib import Path

import models
from configs.loader import as_dict, parse, run, write_config
from configs.schema import TrainConfig, UsageError
from datasets.backends import choose_backend
from datasets.bad_images import BadImages
from datasets.image_folder import check_same_classes
from datasets.mix import create_mixer
from datasets.preprocess import Preprocess
from datasets.sampler import EvalSampler, TrainSampler
from datasets.splits import choose_class_names, open_split
from datasets.transforms import build_train_transform
from engine.run_state import RunRecord


def main(argv):
    config = parse(TrainConfig, argv, prog="main.py")
    if config.model.list_models:
        print(*models.list_models(), sep="\n")
        return
    models.check_input_size(config.model.model, config.model.input_size)
    if config.run.resume == "auto" and not config.run.output_dir:
        raise UsageError("--resume auto looks for checkpoints in --output_dir, which is not given")
    if config.run.debug:
        os.environ["FLAGS_cudnn_deterministic"] = "1"  # noqa: SIM112 (read when Paddle is imported)
    flags = config.preprocess
    preprocess = Preprocess.from_flags(
        config.model.input_size, flags.train_interpolation, flags.exif_orientation, flags.eval_image_backend
    )
    is_recorded = config.run.output_dir and not config.run.eval
    with RunRecord(
        config.run.output_dir if is_recorded else None, int(os.environ.get("PADDLE_TRAINER_ID", 0))
    ) as record:
        images = open_images(config)
        train(config, preprocess, build_transform(config, preprocess), build_mixer(config), *images, record)


def open_images(config: TrainConfig):
    """The training and the validation images; rank 0 looks whether they exist."""
    data, num_classes = config.data, config.model.nb_classes
    look = int(os.environ.get("PADDLE_TRAINER_ID", 0)) == 0
    train_images = open_split(data.data_path, "train", config.augment.cls_label_path_train, num_classes, look=look)
    val_images = open_split(data.data_path, "val", data.cls_label_path_val, num_classes, look=look)
    if train_images.class_names and val_images.class_names:
        check_same_classes(train_images, val_images)
    return train_images, val_images


def build_transform(config: TrainConfig, preprocess: Preprocess):
    augment = config.augment
    return build_train_transform(
        preprocess,
        interpolation=config.preprocess.train_interpolation,
        scale=augment.scale,
        ratio=augment.ratio,
        hflip=augment.hflip,
        aa=augment.aa,
        color_jitter=augment.color_jitter,
        reprob=augment.reprob,
        remode=augment.remode,
        recount=augment.recount,
    )


def build_mixer(config: TrainConfig):
    mix = config.mix
    return create_mixer(
        mix.mixup,
        mix.cutmix,
        mix.cutmix_minmax,
        prob=mix.mixup_prob,
        switch_prob=mix.mixup_switch_prob,
        mode=mix.mixup_mode,
        smoothing=mix.smoothing,
        num_classes=config.model.nb_classes,
    )


def train(config: TrainConfig, preprocess: Preprocess, transform, mixer, train_images, val_images, record: RunRecord):
    """Bring the rooms together and train to the last epoch; from here on Paddle is needed."""
    from datasets.loaders import EvalLoader, TrainLoader, choose_num_workers
    from engine import distributed
    from engine.amp import choose_precision
    from engine.ema import Ema
    from engine.evaluate import evaluate
    from engine.fit import fit, log_to_wandb
    from engine.log import Logger
    from engine.losses import cross_entropy
    from engine.preemption import Preemption
    from engine.saver import LATEST, Saver
    from engine.start import finetune, resume, take_ema
    from engine.state import TrainState
    from engine.train import train_epoch
    from engine.watchdog import Watchdog
    from models.complexity import count_parameters

    run_config, optim, data = config.run, config.optim, config.data
    preemption = Preemption().install()
    watchdog = Watchdog(run_config.stall_seconds, preemption=preemption, record=record).start()
    is_on_cpu = distributed.choose_device(config.device.device) == "cpu"
    ranks = distributed.init_ranks()
    members = distributed.meet()
    output_dir = Path(run_config.output_dir) if run_config.output_dir else None
    logger = Logger(output_dir, ranks.rank)
    say_hello(config, logger, mixer)
    if output_dir and ranks.rank == 0:
        open_output_dir(output_dir, config)

    num_workers = choose_num_workers(data.num_workers, distributed.ranks_on_this_machine())
    sampler = TrainSampler(len(train_images), data.batch_size, optim.accum_iter, *ranks, seed=run_config.seed)
    train_loader = TrainLoader(
        train_images,
        transform,
        preprocess,
        sampler,
        num_workers=num_workers,
        seed=run_config.seed,
        mixer=mixer,
        backend=choose_backend(config.augment.image_backend),
        worker_type=data.worker_type,
        bad_images=BadImages(
            train_images, config.augment.on_bad_image, config.augment.max_bad_images, report=print_on_any_rank
        ),
    )
    eval_sampler = EvalSampler(len(val_images), data.batch_size, *ranks)
    eval_loader = EvalLoader(
        val_images, preprocess, eval_sampler, num_workers=num_workers, worker_type=data.worker_type
    )

    effective_batch = data.batch_size * optim.accum_iter * ranks.world
    lr, learning_rate = choose_learning_rate(config, effective_batch, logger)
    logger.line(f"accumulate grad iterations: {optim.accum_iter}")
    logger.line(f"effective batch size: {effective_batch}")
    logger.line(f"Number of training examples = {len(train_images)}")
    logger.line(f"Number of training training per epoch = {sampler.steps_per_epoch}")

    model = create_seeded_model(config)
    if optim.sync_bn:
        model = distributed.synchronize_batch_norm(model)
    num_parameters = count_parameters(model)
    logger.line(f"number of params: {num_parameters / 1e6} M")
    precision, remark = choose_precision(optim.use_amp, optim.amp_dtype)
    if remark:
        logger.line(remark)
    state = TrainState(
        model,
        build_optimizer(config, model, lr),
        ema=Ema(model, optim.model_ema_decay) if optim.model_ema else None,
        scaler=precision.scaler(),
        info=describe(config, preprocess, train_images, effective_batch),
    )

    def scores():
        batches = watchdog.watch(eval_loader.batches(), "evaluation images", lambda: eval_loader.waiting_for())
        return evaluate(
            model,
            preemption.interrupting(
                batches,
                eval_sampler.num_common_batches,
                distributed.any_rank,
                every=1 if is_on_cpu else run_config.log_every,
            ),
            num_samples=len(val_images),
            batch_size=data.batch_size,
            logger=logger,
            precision=precision,
        )

    state.begin_epoch(run_config.start_epoch)
    knows_best = True
    if run_config.finetune:
        remove = run_config.remove_head_from_pretained
        finetune(state, run_config.finetune, remove_head=remove, model_name=config.model.model, logger=logger)
    if run_config.resume:
        knows_best = resume(
            state, run_config.resume, output_dir=output_dir, model_name=config.model.model, logger=logger
        )
        distributed.check_same_place((state.next_epoch, state.next_step))
    if run_config.resume_ema and state.ema:
        take_ema(state, run_config.resume_ema)
    if run_config.eval or not knows_best:
        found = scores()
        logger.line(f"Accuracy of the network on the {len(val_images)} test images: {found.top1_percent:.1f}%")
        state.best_top1_percent = found.top1_percent
    if run_config.eval:
        return

    network = distributed.wrap_model(model, ranks)
    loss_fn = cross_entropy(config.mix.smoothing)
    saver = None
    if output_dir:
        saver = Saver(
            state,
            output_dir,
            rank=ranks.rank,
            logger=logger,
            keep=run_config.keep_last,
            attempts=run_config.save_attempts,
            on_saved=record.saved,
        )

    def train_one(epoch: int):
        batches = train_loader.batches(epoch, state.next_step)
        train_epoch(
            state,
            network,
            watchdog.watch(batches, "training images", lambda: train_loader.waiting_for()),
            loss_fn=loss_fn,
            learning_rate=learning_rate,
            steps_per_epoch=sampler.steps_per_epoch,
            accum_iter=optim.accum_iter,
            seed=run_config.seed,
            ranks=ranks,
            precision=precision,
            logger=logger,
            path_of=train_images.path,
            log_every=run_config.log_every,
            save=(lambda: saver.save(LATEST)) if saver else None,
            save_steps=run_config.save_steps,
            skip_nonfinite=run_config.skip_nonfinite,
            preemption=preemption,
        )

    keep_numbers = logger.record
    if run_config.log_wandb and ranks.rank == 0:
        send = log_to_wandb(run_config.wandb_entity, run_config.wandb_project, as_dict(config))

        def keep_numbers(numbers):
            logger.record(numbers)
            send(numbers)

    with distributed.naming_lost_ranks(members):
        fit(
            state,
            epochs=config.schedule.epochs,
            train_one=train_one,
            scores=scores,
            ema_eval=optim.model_ema_eval,
            saver=saver,
            save_freq=run_config.save_freq,
            logger=logger,
            record=keep_numbers,
            constants={"n_parameters": num_parameters},
        )
    watchdog.stop()


def describe(config: TrainConfig, preprocess: Preprocess, train_images, effective_batch: int) -> dict:
    """What a checkpoint tells of its run; engine/drift.py compares it when the run is resumed."""
    from engine.drift import checksum_of_images, checksum_of_source

    root = Path(__file__).parent
    return {
        "args": as_dict(config),
        "class_names": choose_class_names(config.model.nb_classes, config.run.label_list, train_images.class_names),
        "preprocess": preprocess.to_dict(),
        "effective_batch": effective_batch,
        "images": checksum_of_images(train_images.labels.tobytes(), train_images.relative_paths),
        "code": checksum_of_source(root / room for room in ("models", "datasets", "engine")),
    }


def print_on_any_rank(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def say_hello(config: TrainConfig, logger, mixer) -> None:
    logger.line(f"job dir: {Path(__file__).parent}")
    for name, value in as_dict(config).items():
        logger.line(f"{name}={value!r}")
    if mixer:
        logger.line("Mixup is activated!")


def open_output_dir(output_dir: Path, config: TrainConfig) -> None:
    """Make the folder, clean up after writers that were killed, and write down the run."""
    from engine.checkpoint import remove_leftovers
    from engine.errors import DiskError

    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        remove_leftovers(output_dir)
        write_config(config, output_dir / "config.yaml")
    except OSError as error:
        raise DiskError(f"cannot write into --output_dir {output_dir}: {error.strerror or error}") from error


def choose_learning_rate(config: TrainConfig, effective_batch: int, logger):
    """The highest learning rate and the schedule below it."""
    from engine.schedule import create_schedule

    schedule = config.schedule
    lr = schedule.blr * effective_batch / 512 if schedule.lr is None else schedule.lr
    if schedule.lr is None:
        logger.line(f"base lr: {schedule.blr:.2e}")
    logger.line(f"actual lr: {lr:.2e}")
    return lr, create_schedule(
        schedule.sched,
        lr,
        epochs=schedule.epochs,
        warmup_epochs=schedule.warmup_epochs,
        warmup_lr=schedule.warmup_lr,
        min_lr=schedule.min_lr,
        t_in_epochs=schedule.t_in_epochs,
        decay_epochs=schedule.decay_epochs,
        decay_rate=schedule.decay_rate,
    )


def create_seeded_model(config: TrainConfig):
    """The model with the initial weights that the seed gives, the same on all ranks."""
    import paddle

    paddle.seed(config.run.seed)
    return models.create_model(config.model.model, num_classes=config.model.nb_classes)


def build_optimizer(config: TrainConfig, model, lr: float):
    from engine.optim import create_optimizer

    optim = config.optim
    return create_optimizer(
        optim.opt,
        model,
        lr=lr,
        weight_decay=optim.weight_decay,
        momentum=optim.momentum,
        betas=optim.opt_betas or (0.9, 0.999),
        eps=optim.opt_eps,
        alpha=optim.opt_alpha,
        clip_grad=optim.clip_grad,
        decay_norm_and_bias=optim.decay_norm_and_bias,
    )


if __name__ == "__main__":
    run(main)
