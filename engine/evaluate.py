"""Evaluation: exact scores of one pass over the images, equal on any number of ranks."""

import logging
import math
from typing import Protocol

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from common.errors import NonFiniteLossError

from .amp import FLOAT32, Precision
from .distributed import broadcast_model, gather_rows, is_first_rank, world_size
from .metrics import UNREADABLE, SampleScores, Scores, per_sample, score
from .progress.meters import Meter, ProgressLog
from .run import EVAL_LOG_EVERY, Run

logger = logging.getLogger(__name__)

ALONE = Run()
GATHERED_NUMBERS = 2**20  # of one rank in one exchange of logits: 8 MB


def evaluate(model: nn.Layer, loader, run: Run = ALONE, precision: Precision = FLOAT32) -> Scores:
    """Compute the scores of a model, and log them; the arguments are those of `evaluate_samples`.

    Raises:
        NonFiniteLossError: on all ranks, if any loss is not a finite number.
        Preempted: on all ranks, if a signal asked the run to stop.
    """
    return log_scores(score(evaluate_samples(model, loader, run, precision)))


def log_scores(scores: Scores) -> Scores:
    """Log the scores of an evaluation in the predecessor's form, and return them."""
    if scores.num_unreadable:
        logger.warning(f"{scores.num_unreadable} of {scores.num_samples} images could not be read and count as wrong")
    logger.info(f"* Acc@1 {scores.top1_percent:.3f} Acc@5 {scores.top5_percent:.3f} loss {scores.loss:.3f}")
    return scores


class LogitsEngine(Protocol):
    """Computes logits [B, C] float32 of images [B, 3, S, S] float32, as the engines of `deploy`."""

    def run(self, images: np.ndarray) -> np.ndarray: ...


class EngineModel(nn.Layer):
    """A model in evaluation whose forward pass an engine computes; without parameters of its own."""

    def __init__(self, engine: LogitsEngine):
        super().__init__()
        self._engine = engine

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Logits [B, C] float32 of `images` [B, 3, S, S]."""
        return paddle.to_tensor(self._engine.run(images.numpy()))


class FlipAveraged(nn.Layer):
    """A model whose probabilities are averaged with those of the mirror image; the outputs are their logarithms."""

    def __init__(self, model: nn.Layer):
        super().__init__()
        self.model = model

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Logarithms [B, C] float32 of the mean probabilities of `images` [B, 3, H, W] and of their mirror images."""
        both = [self.model(images), self.model(images.flip([3]))]
        logs = [F.log_softmax(logits.astype("float32"), axis=1) for logits in both]
        return paddle.logaddexp(*logs) - math.log(2)


@paddle.no_grad()
def evaluate_samples(
    model: nn.Layer, loader, run: Run = ALONE, precision: Precision = FLOAT32, *, keep_logits: bool = False
) -> SampleScores:
    """Compute loss and position of the label for every image that the ranks have together.

    Whole batches are distributed over the ranks, so the result is bit for bit the same on any number of ranks if the
    batch size is the same. (The last bits of a matrix product depend on the number of rows and, for odd numbers of
    classes, on the place of a row.)

    Args:
        model: left in the mode (training or evaluation) in which it was.
        loader: `num_samples` of all ranks, `batch_size`, `num_common_batches` that every rank has, `batches()` of this
            rank (images [B, 3, S, S], labels int64 [B], indices np.int64 [B], B at most `batch_size`) and
            `waiting_for()`, as datasets.loading.loader.EvalLoader.
        run: this process among the ranks.
        precision: of the forward pass.
        keep_logits: return the logits of all images on rank 0, for a report; 4 bytes per image and class.

    Raises:
        NonFiniteLossError: on all ranks, if any loss is not a finite number.
        Preempted: on all ranks, if a signal asked the run to stop.
    """
    broadcast_model(model)
    was_training = model.training
    model.eval()
    num_batches = math.ceil(loader.num_samples / world_size() / loader.batch_size)
    progress = ProgressLog("Test:", num_batches, log_every=EVAL_LOG_EVERY, live=run.live)
    meters = {"loss": Meter(), "acc1": Meter(), "acc5": Meter()}
    results, on_device = [], []  # float64 [3, B] each; and results that are not fetched yet
    kept = []  # logits float32 [B, C]
    batches = run.watch(loader.batches(), "evaluation images", lambda: loader.waiting_for())
    for batch in progress.timed(run.interruptible(batches, loader.num_common_batches)):
        with precision.autocast():
            logits = model(batch.images)
        on_device.append((batch.indices, per_sample(logits, batch.labels), batch.is_bad))
        if keep_logits:
            kept.append(logits.astype("float32").numpy())
        if progress.is_due:
            results += _fetch(on_device, meters)
        progress.step_done("  ".join(f"{name}: {meter}" for name, meter in meters.items()))
    results += _fetch(on_device, meters)
    if was_training:
        model.train()
    progress.finish()
    samples = _gather(results)
    if keep_logits:
        samples = samples._replace(logits=gather_logits(kept, results, loader.num_samples))
    assert len(samples.indices) == loader.num_samples, (
        f"{len(samples.indices)} of {loader.num_samples} images were evaluated"
    )
    return samples


def gather_logits(mine: list[np.ndarray], results: list[np.ndarray], num_samples: int) -> np.ndarray | None:
    """Gather the logits of all ranks on rank 0, as float32 [num_samples, C] in the order of the list.

    One rank needs memory for little more than the logits. Several ranks exchange blocks of GATHERED_NUMBERS numbers.

    Args:
        mine: logits [B, C] of each batch of this rank; emptied where there is one rank.
        results: of the same batches, [3, B], whose first row holds the indices.
        num_samples: number of images of all ranks.

    Returns:
        None on all ranks but the first, and where there is no image.
    """
    num_classes = int(gather_rows(np.array([mine[0].shape[1] if mine else 0])).max())
    if not num_classes:
        return None
    gathered = np.empty((num_samples, num_classes), np.float32) if is_first_rank() else None
    if world_size() == 1:
        while mine:  # each batch is let go of, so that the logits are not held twice
            logits = mine.pop()
            gathered[results[len(mine)][0].astype(int)] = logits
        return gathered
    rows = np.vstack(mine) if mine else np.zeros((0, num_classes), np.float32)
    indices = np.hstack([part[0] for part in results]) if results else np.zeros(0)
    per_block = max(1, GATHERED_NUMBERS // (num_classes + 1))
    for start in range(0, int(gather_rows(np.array([len(rows)])).max()), per_block):
        block = np.full((per_block, num_classes + 1), -1.0)
        part = slice(start, start + per_block)
        block[: len(rows[part])] = np.hstack([indices[part, None], rows[part]])
        blocks = gather_rows(block.reshape(-1)).reshape(-1, num_classes + 1)
        if gathered is not None:
            blocks = blocks[blocks[:, 0] >= 0]
            gathered[blocks[:, 0].astype(int)] = blocks[:, 1:]
    return gathered


def _fetch(on_device: list, meters: dict[str, Meter]) -> list[np.ndarray]:
    """Copy the results since the last log line from the device to the host, and add them to the meters."""
    results = []
    for indices, scores, is_bad in on_device:
        positions, losses = scores.numpy()
        if is_bad is not None:
            positions[is_bad], losses[is_bad] = UNREADABLE, 0.0
        results.append(np.vstack([indices, positions, losses]))
        meters["loss"].add(float((losses if is_bad is None or is_bad.all() else losses[~is_bad]).mean()))
        meters["acc1"].add(100 * float((positions < 1).mean()))
        meters["acc5"].add(100 * float((positions < 5).mean()))
    on_device.clear()
    return results


def _gather(results: list[np.ndarray]) -> SampleScores:
    """Gather the results of all ranks, sorted by index; an image that was evaluated twice is a fault of the sampler."""
    mine = np.hstack(results) if results else np.zeros((3, 0))  # float64 [3, n]
    num = gather_rows(np.array([mine.shape[1]]))[:, 0].astype(int)
    row = np.full((3, num.max()), -1.0)
    row[:, : mine.shape[1]] = mine
    rows = gather_rows(row.reshape(-1)).reshape(len(num), 3, -1)
    gathered = np.hstack([rows[rank, :, : num[rank]] for rank in range(len(num))])
    indices, positions, losses = gathered[:, np.argsort(gathered[0], kind="stable")]
    assert (np.diff(indices) > 0).all(), "an image was evaluated twice"
    if not np.isfinite(losses).all():
        first = int(indices[~np.isfinite(losses)][0])
        raise NonFiniteLossError(
            f"the loss of {int((~np.isfinite(losses)).sum())} of {len(losses)} evaluated images is not a finite number "
            f"(first: image {first} of the list); the weights are not usable"
        )
    return SampleScores(indices.astype(int), positions.astype(int), losses.astype(np.float32))
