"""Train a model: images + recipe -> checkpoints, log.txt and scores, on one process or many."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import models
from common.cli import run
from common.errors import DataError
from configs.loader import as_dict, parse, write_config
from configs.schema import TrainConfig
from datasets.augment.mixup import create_mixup
from datasets.augment.random_erasing import RandomErasing
from datasets.augment.transforms import build_train_transform
from datasets.loading.bad_images import BadImages
from datasets.loading.sampler import EvalSampler, TrainSampler
from datasets.preprocess import Preprocess
from datasets.reading.backends import choose_backend
from datasets.reading.dataset import choose_class_names, open_dataset
from datasets.reading.image_folder import check_same_classes
from engine.run_state import RunRecord

if TYPE_CHECKING:
    from engine.distributed import Ranks
    from engine.log import Logger
    from engine.preemption import Preemption
    from engine.watchdog import Watchdog


def main(argv):
    config = parse(TrainConfig, argv, prog="main.py")
    if config.model.list_models:
        print(*models.list_models(), sep="\n")
        return
    models.check_input_size(config.model.model, config.model.input_size)
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
    train_images = open_dataset(data.data_path, "train", config.augment.cls_label_path_train, num_classes, look=look)
    val_images = open_dataset(data.data_path, "val", data.cls_label_path_val, num_classes, look=look)
    check_same_classes(train_images, val_images)
    if (names := train_images.class_names) and len(names) < num_classes:  # the rest would be outputs without a name
        raise DataError(
            f"{data.data_path}: {len(names)} class folders, but --nb_classes is {num_classes}; "
            f"set --nb_classes {len(names)}"
        )
    return train_images, val_images


def build_transform(config: TrainConfig, preprocess: Preprocess):
    augment = config.augment
    return build_train_transform(
        preprocess.input_size,
        interpolation=config.preprocess.train_interpolation,
        scale=augment.scale,
        ratio=augment.ratio,
        hflip=augment.hflip,
        aa=augment.aa,
        color_jitter=augment.color_jitter,
    )


def build_mixer(config: TrainConfig):
    mix = config.mix
    return create_mixup(
        mix.mixup,
        mix.cutmix,
        mix.cutmix_minmax,
        prob=mix.mixup_prob,
        switch_prob=mix.mixup_switch_prob,
        mode=mix.mixup_mode,
        smoothing=mix.smoothing,
        num_classes=config.model.nb_classes,
    )


class Job(NamedTuple):
    """This process among the ranks, and whom it listens and talks to."""

    ranks: "Ranks"
    is_on_cpu: bool
    output_dir: Path | None
    logger: "Logger"
    preemption: "Preemption"
    watchdog: "Watchdog"
    record: RunRecord


def train(config: TrainConfig, preprocess: Preprocess, transform, mixer, train_images, val_images, record: RunRecord):
    """Bring the rooms together and train to the last epoch; from here on Paddle is needed."""
    from engine import distributed
    from engine.fit import fit
    from models.complexity import count_parameters

    job = start(config, record)
    members = distributed.gather_members()
    logger = job.logger
    say_hello(config, logger, mixer)
    writes = job.output_dir and job.ranks.rank == 0 and not config.run.eval
    if writes:
        open_output_dir(job.output_dir, config.run.resume, logger)
    train_loader = open_train_loader(config, preprocess, transform, mixer, train_images, job.ranks)

    effective_batch = config.data.batch_size * config.optim.accum_iter * job.ranks.world
    lr, learning_rate = choose_learning_rate(config, effective_batch, logger)
    logger.line(f"accumulate grad iterations: {config.optim.accum_iter}")
    logger.line(f"effective batch size: {effective_batch}")
    logger.line(f"Number of training examples = {len(train_images)}")
    logger.line(f"Number of training training per epoch = {train_loader.steps_per_epoch}")
    info = describe(config, preprocess, train_images, effective_batch)
    state, precision = create_state(config, lr, info, logger)

    scores = scorer(config, state, precision, preprocess, val_images, job)
    knows_best = restore(config, state, job)
    if config.run.eval or not knows_best:
        found = scores()
        logger.line(f"Accuracy of the network on the {len(val_images)} test images: {found.top1_percent:.1f}%")
        state.best_top1_percent = found.top1_percent
    if config.run.eval:
        job.watchdog.stop()
        return
    if writes:
        write_recipe(job.output_dir, config)  # only now: refused settings must not take the place of good ones

    saver = open_saver(config, state, job)
    train_one = trainer(config, state, precision, train_loader, learning_rate, train_images, saver, job)
    with distributed.explain_lost_ranks(members):
        fit(
            state,
            epochs=config.schedule.epochs,
            train_one=train_one,
            scores=scores,
            ema_eval=config.optim.model_ema_eval,
            saver=saver,
            save_freq=config.run.save_freq,
            logger=logger,
            record=recorder(config, job),
            constants={"n_parameters": count_parameters(state.model)},
        )
    job.watchdog.stop()


def start(config: TrainConfig, record: RunRecord) -> Job:
    """Listen to signals, take the device, join the other ranks."""
    from engine.distributed import choose_device, init_ranks
    from engine.log import Logger
    from engine.preemption import Preemption
    from engine.watchdog import Watchdog

    preemption = Preemption().install()
    watchdog = Watchdog(config.run.stall_seconds, preemption=preemption, record=record).start()
    is_on_cpu = choose_device(config.device.device) == "cpu"
    ranks = init_ranks()
    output_dir = Path(config.run.output_dir) if config.run.output_dir else None
    return Job(ranks, is_on_cpu, output_dir, Logger(output_dir, ranks.rank), preemption, watchdog, record)


def open_train_loader(config: TrainConfig, preprocess: Preprocess, transform, mixer, images, ranks):
    from datasets.loading.loader import TrainLoader

    augment, data, seed = config.augment, config.data, config.run.seed
    return TrainLoader(
        images,
        transform,
        preprocess,
        TrainSampler(len(images), data.batch_size, config.optim.accum_iter, *ranks, seed=seed),
        num_workers=num_workers(config),
        seed=seed,
        erasing=RandomErasing(augment.reprob, augment.remode, augment.recount) if augment.reprob else None,
        mixer=mixer,
        backend=choose_backend(augment.image_backend),
        worker_type=data.worker_type,
        bad_images=BadImages(images, augment.on_bad_image, augment.max_bad_images, report=print_on_any_rank),
    )


def num_workers(config: TrainConfig) -> int:
    from datasets.loading.loader import choose_num_workers
    from engine.distributed import ranks_on_this_machine

    return choose_num_workers(config.data.num_workers, ranks_on_this_machine())


def create_state(config: TrainConfig, lr: float, info: dict, logger):
    """All that survives a restart, as it is before the first step; and the precision of the arithmetic."""
    from engine.amp import choose_precision
    from engine.distributed import synchronize_batch_norm
    from engine.ema import Ema
    from engine.state import TrainState
    from models.complexity import count_parameters

    optim = config.optim
    model = create_seeded_model(config)
    if optim.sync_bn:
        model = synchronize_batch_norm(model)
    logger.line(f"number of params: {count_parameters(model) / 1e6} M")
    precision, remark = choose_precision(optim.use_amp, optim.amp_dtype)
    if remark:
        logger.line(remark)
    state = TrainState(
        model,
        build_optimizer(config, model, lr),
        ema=Ema(model, optim.model_ema_decay) if optim.model_ema else None,
        scaler=precision.scaler(),
        info=info,
    )
    state.begin_epoch(config.run.start_epoch)
    return state, precision


def restore(config: TrainConfig, state, job: Job) -> bool:
    """Take what --resume names, or else --finetune; False if that leaves the best accuracy unknown.

    With --resume auto, --finetune and --resume_ema are where the run began: once it has a checkpoint they are not read.
    """
    from engine.distributed import check_same_place
    from engine.resume import find_checkpoint, load_ema, load_finetune, load_model, resume_training

    flags, model_name, logger, knows_best = config.run, config.model.model, job.logger, True
    wanted = flags.resume or (flags.finetune if flags.eval else "")  # a head left out would be evaluated at random
    found = find_checkpoint(wanted, job.output_dir, is_needed=flags.eval, logger=logger)
    if found and flags.eval:
        weights = load_model(state.model, found, model_name=model_name)
        if note := weights.other_preprocessing(state.info["preprocess"]):
            logger.line(note)
    elif found:
        knows_best = resume_training(state, found, model_name=model_name, logger=logger)
    elif flags.finetune:
        remove = flags.remove_head_from_pretained
        load_finetune(state, flags.finetune, remove_head=remove, model_name=model_name, logger=logger)
    check_same_place((state.next_epoch, state.next_step))
    if flags.resume_ema and not (found and flags.resume == "auto"):
        load_ema(state, flags.resume_ema)
    return knows_best


def scorer(config: TrainConfig, state, precision, preprocess: Preprocess, images, job: Job):
    """A function that evaluates the model as it is, unless a signal comes."""
    from datasets.loading.loader import EvalLoader
    from engine.distributed import any_rank
    from engine.evaluate import evaluate

    data = config.data
    sampler = EvalSampler(len(images), data.batch_size, *job.ranks)
    loader = EvalLoader(images, preprocess, sampler, num_workers=num_workers(config), worker_type=data.worker_type)
    ask_every = 1 if job.is_on_cpu else config.run.log_every

    def scores():
        batches = job.watchdog.watch(loader.batches(), "evaluation images", lambda: loader.waiting_for())
        return evaluate(
            state.model,
            job.preemption.interrupting(batches, sampler.num_common_batches, any_rank, every=ask_every),
            num_samples=len(images),
            batch_size=data.batch_size,
            logger=job.logger,
            precision=precision,
        )

    return scores


def open_saver(config: TrainConfig, state, job: Job):
    from engine.saver import Saver

    if not job.output_dir:
        return None
    return Saver(
        state,
        job.output_dir,
        rank=job.ranks.rank,
        logger=job.logger,
        keep=config.run.keep_last,
        attempts=config.run.save_attempts,
        on_saved=job.record.saved,
    )


def trainer(config: TrainConfig, state, precision, loader, learning_rate, images, saver, job: Job):
    """A function that trains an epoch, from the step on that the state is at."""
    from engine.distributed import wrap_model
    from engine.losses import cross_entropy
    from engine.saver import LATEST
    from engine.train import train_epoch

    network = wrap_model(state.model, job.ranks)
    loss_fn = cross_entropy(config.mix.smoothing)

    def train_one(epoch: int):
        batches = loader.batches(epoch, state.next_step)
        train_epoch(
            state,
            network,
            job.watchdog.watch(batches, "training images", lambda: loader.waiting_for()),
            loss_fn=loss_fn,
            learning_rate=learning_rate,
            steps_per_epoch=loader.steps_per_epoch,
            accum_iter=config.optim.accum_iter,
            seed=config.run.seed,
            ranks=job.ranks,
            precision=precision,
            logger=job.logger,
            path_of=images.path,
            log_every=config.run.log_every,
            save=(lambda: saver.save(LATEST)) if saver else None,
            save_steps=config.run.save_steps,
            skip_nonfinite=config.run.skip_nonfinite,
            preemption=job.preemption,
        )

    return train_one


def recorder(config: TrainConfig, job: Job):
    """A function that keeps the numbers of an epoch: in log.txt, and at Weights & Biases if asked for."""
    from engine.fit import log_to_wandb

    if not config.run.log_wandb or job.ranks.rank != 0:
        return job.logger.record
    send = log_to_wandb(config.run.wandb_entity, config.run.wandb_project, as_dict(config))

    def record(numbers: dict) -> None:
        job.logger.record(numbers)
        send(numbers)

    return record


def describe(config: TrainConfig, preprocess: Preprocess, train_images, effective_batch: int) -> dict:
    """What a checkpoint tells of its run; engine/resume_check.py compares it when the run is resumed."""
    from engine.resume_check import checksum_of_images, checksum_of_source

    root = Path(__file__).parent
    return {
        "args": as_dict(config) | {"eval_image_backend": preprocess.image_backend},  # which None stands for
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


def open_output_dir(output_dir: Path, resume_training: str, logger) -> None:
    """Make the folder, clean up after writers that were killed, and say what will be lost."""
    from common.files import disk_errors
    from engine.checkpoint import remove_leftovers
    from engine.saver import LATEST

    with disk_errors(f"into --output_dir {output_dir}"):
        output_dir.mkdir(parents=True, exist_ok=True)
        remove_leftovers(output_dir)
    if not resume_training and (output_dir / LATEST).exists():
        logger.line(f"this run replaces the earlier one in {output_dir}; to go on with that one, add --resume auto")


def write_recipe(output_dir: Path, config: TrainConfig) -> None:
    from common.files import disk_errors

    with disk_errors(f"into --output_dir {output_dir}"):
        write_config(config, output_dir / "config.yaml")


def choose_learning_rate(config: TrainConfig, effective_batch: int, logger):
    """The highest learning rate and the schedule below it."""
    from engine.schedule import create_schedule

    schedule = config.schedule
    lr = schedule.blr * effective_batch / 512 if schedule.lr is None else schedule.lr
    if schedule.lr is None:
        logger.line(f"base lr: {schedule.blr:.2e}")
    logger.line(f"actual lr: {lr:.2e}")
    if schedule.warmup_epochs >= schedule.epochs:
        logger.line(f"it is never reached: the warm-up takes {schedule.warmup_epochs} of {schedule.epochs} epochs")
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
