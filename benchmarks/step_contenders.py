"""Contenders of the step benchmark: the loop of this project, a bare loop in Paddle, and the same in PyTorch."""

import functools
import importlib
import logging
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from common.processes import peak_memory_mb

NUM_CLASSES, LR, MOMENTUM, WEIGHT_DECAY = 1000, 0.01, 0.9, 1e-4
NUM_PREPARED = 2  # batches that are used again and again


class Job(NamedTuple):
    """What every contender trains: a network on random images, with momentum and weight decay.

    Attributes:
        model: name of the network.
        side: side of the images in pixels.
        batch_size: images per step.
        num_threads: threads of the CPU kernels.
        folder: class folders of JPEG files, for the contender that reads images.
    """

    model: str
    side: int
    batch_size: int
    num_threads: int
    folder: str


class Round(NamedTuple):
    """What one round of steps took.

    Attributes:
        seconds: of all steps together.
        waiting_seconds: of these, until a batch was there.
        peak_mb: largest memory of the process until now.
    """

    seconds: float
    waiting_seconds: float
    peak_mb: float


Steps = Callable[[int], float]  # trains that many steps; returns the seconds in which it waited for batches


def run_contender(pipe: Connection, name: str, job: Job) -> None:
    """Prepare a contender of CONTENDERS, then train as many steps as each request asks for; a process of its own."""
    train = CONTENDERS[name](job)
    logging.disable(logging.INFO)  # Paddle's handler would print the lines of the training
    pipe.send("ready")
    while True:
        num_steps = pipe.recv()
        start = time.perf_counter()
        waiting = train(num_steps)
        pipe.send(Round(time.perf_counter() - start, waiting, peak_memory_mb()))


def prepared_arrays(job: Job) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random batches: images [B, 3, S, S] float32 and labels [B] int64."""
    rng = np.random.default_rng(0)
    shape = (job.batch_size, 3, job.side, job.side)
    return [
        (rng.standard_normal(shape, np.float32), rng.integers(0, NUM_CLASSES, job.batch_size))
        for _ in range(NUM_PREPARED)
    ]


class PreparedBatches:
    """A loader of `engine.train.train_epoch` whose batches are in memory; `steps_per_epoch` may change."""

    def __init__(self, job: Job):
        import paddle

        from datasets.loading.loader import Batch

        self.steps_per_epoch = 0
        self._batches = [
            Batch(paddle.to_tensor(images), paddle.to_tensor(labels), np.arange(job.batch_size))
            for images, labels in prepared_arrays(job)
        ]

    def batches(self, epoch: int, first_step: int) -> Iterator:
        """Yield the batches of an epoch."""
        for step in range(first_step, self.steps_per_epoch):
            yield self._batches[step % NUM_PREPARED]

    def path(self, index: int) -> str:
        """A name for image `index`."""
        return f"random image {index}"

    def waiting_for(self) -> str:
        """Batches in memory wait for nothing."""
        return ""


class TimedBatches:
    """A loader without end: one epoch after another of a TrainLoader, and the seconds that its batches took."""

    def __init__(self, loader):
        self.steps_per_epoch = 0
        self.waiting_seconds = 0.0
        self.path, self.waiting_for = loader.path, loader.waiting_for
        self._endless = (batch for epoch in range(2**62) for batch in loader.batches(epoch))

    def batches(self, epoch: int, first_step: int) -> Iterator:
        """Yield the batches of an epoch."""
        for _ in range(first_step, self.steps_per_epoch):
            start = time.perf_counter()
            batch = next(self._endless)
            self.waiting_seconds += time.perf_counter() - start
            yield batch


def prepare_ours(job: Job, *, onednn: bool = True) -> Steps:
    """Prepare the loop of this project, `engine.train.train_epoch`, on batches in memory.

    Args:
        job: what is trained.
        onednn: the flag of main.py; without it the kernels are those of a bare loop.
    """
    _import_paddle(job)
    loader = PreparedBatches(job)
    train = _prepare_train_epoch(job, loader, onednn=onednn)

    def steps(num_steps: int) -> float:
        loader.steps_per_epoch = num_steps
        train()
        return 0.0

    return steps


def prepare_ours_from_files(job: Job) -> Steps:
    """Prepare the loop of this project on JPEG files, with the default augmentation and number of workers."""
    _import_paddle(job)
    from configs.schema import AugmentConfig, PreprocessConfig, TrainLoaderConfig
    from datasets.augment.random_erasing import create_random_erasing
    from datasets.augment.transforms import build_train_transform
    from datasets.loading.loader import TrainLoader
    from datasets.loading.sampler import create_train_sampler
    from datasets.preprocess import Preprocess
    from datasets.reading.dataset import open_dataset

    images = open_dataset(job.folder, "train", None)
    config, augment, preprocess = TrainLoaderConfig(job.batch_size), AugmentConfig(), Preprocess(job.side)
    transform = build_train_transform(augment, PreprocessConfig(job.side), preprocess)
    sampler = create_train_sampler(images.labels, config, 1, (0, 1), seed=0)
    erasing = create_random_erasing(augment)
    loader = TimedBatches(TrainLoader(images, transform, preprocess, sampler, config, erasing=erasing))
    train = _prepare_train_epoch(job, loader)

    def steps(num_steps: int) -> float:
        loader.steps_per_epoch, before = num_steps, loader.waiting_seconds
        train()
        return loader.waiting_seconds - before

    return steps


def _import_paddle(job: Job) -> None:
    from engine.cpu_threads import import_paddle

    import_paddle(job.num_threads)


def _prepare_train_epoch(job: Job, loader, *, onednn: bool = True) -> Callable[[], None]:
    """A function that trains one epoch of the loader."""
    import paddle

    import models
    from configs.schema import OptimConfig
    from engine.losses import cross_entropy
    from engine.onednn.convolution import use_onednn_convolutions
    from engine.optim import create_optimizer
    from engine.run import Run
    from engine.state import TrainState
    from engine.train import Recipe, train_epoch

    paddle.seed(0)
    model = models.create_model(job.model, num_classes=NUM_CLASSES)
    if onednn:
        use_onednn_convolutions(model)
    config = OptimConfig(opt="momentum", momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    state = TrainState(model, create_optimizer(model, config, LR))
    recipe = Recipe(cross_entropy(), lambda epoch, step, steps_per_epoch: LR, epochs=2**62)
    run = Run()

    def train() -> None:
        train_epoch(state, model, loader, recipe, run, None)
        state.begin_epoch(state.next_epoch + 1)

    return train


def prepare_bare_paddle(job: Job) -> Steps:
    """Prepare the shortest loop in Paddle that trains: forward, loss, backward, step, and the loss as a number."""
    _import_paddle(job)
    import paddle

    import models

    paddle.seed(0)
    model = models.create_model(job.model, num_classes=NUM_CLASSES)
    optimizer = paddle.optimizer.Momentum(LR, MOMENTUM, model.parameters(), weight_decay=WEIGHT_DECAY)
    batches = [tuple(map(paddle.to_tensor, arrays)) for arrays in prepared_arrays(job)]
    model.train()

    def steps(num_steps: int) -> float:
        for step in range(num_steps):
            images, labels = batches[step % NUM_PREPARED]
            loss = paddle.nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            float(loss)
        return 0.0

    return steps


def prepare_pytorch(job: Job) -> Steps:
    """Prepare the same loop in PyTorch, on the reference that `alignment` compares the network with."""
    import torch

    torch.set_num_threads(job.num_threads)
    torch.manual_seed(0)
    model = _create_reference(job.model)
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    batches = [tuple(map(torch.from_numpy, arrays)) for arrays in prepared_arrays(job)]
    model.train()

    def steps(num_steps: int) -> float:
        for step in range(num_steps):
            images, labels = batches[step % NUM_PREPARED]
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            float(loss.detach())
        return 0.0

    return steps


def _create_reference(name: str):
    if name == "peleenet":
        from alignment.torch_side.peleenet import PeleeNet

        return PeleeNet(num_classes=NUM_CLASSES)
    from alignment.torch_side import shim  # noqa: F401 (before anything imports torchvision)

    return getattr(importlib.import_module("torchvision.models"), name)(num_classes=NUM_CLASSES)


OURS, PLAIN, BARE, PYTORCH, FROM_FILES = "ours", "ours, --no_onednn", "bare Paddle", "PyTorch", "ours, from JPEG files"
CONTENDERS: dict[str, Callable[[Job], Steps]] = {
    OURS: prepare_ours,
    PLAIN: functools.partial(prepare_ours, onednn=False),
    BARE: prepare_bare_paddle,
    PYTORCH: prepare_pytorch,
    FROM_FILES: prepare_ours_from_files,
}
