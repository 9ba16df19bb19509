"""One pass over the evaluation data: exact scores, the same on one rank and on many."""

import math
from collections.abc import Iterable

import numpy as np
import paddle
from paddle import nn

from common.errors import NonFiniteLossError

from .amp import FLOAT32, Precision
from .distributed import broadcast_model, gather_rows, world_size
from .log import Logger, Meter, ProgressLog
from .metrics import SampleScores, Scores, per_sample, score


def evaluate(
    model: nn.Layer,
    batches: Iterable,
    *,
    num_samples: int,
    batch_size: int,
    logger: Logger,
    precision: Precision = FLOAT32,
    log_every: int = 10,
) -> Scores:
    """The scores of a model; the arguments are those of `evaluate_samples`."""
    samples = evaluate_samples(
        model,
        batches,
        num_samples=num_samples,
        batch_size=batch_size,
        logger=logger,
        precision=precision,
        log_every=log_every,
    )
    scores = score(samples)
    logger.line(f"* Acc@1 {scores.top1_percent:.3f} Acc@5 {scores.top5_percent:.3f} loss {scores.loss:.3f}")
    return scores


@paddle.no_grad()
def evaluate_samples(
    model: nn.Layer,
    batches: Iterable,
    *,
    num_samples: int,
    batch_size: int,
    logger: Logger,
    precision: Precision = FLOAT32,
    log_every: int = 10,
) -> SampleScores:
    """What the model makes of each of the `num_samples` images that all ranks have together.

    `batches` are this rank's: objects with images [b, 3, H, W], labels int64 [b] and indices (np.int64 [b]), b at most
    `batch_size`. NonFiniteLossError, on all ranks, if any loss is not a finite number.

    The result is the same to the last bit on any number of ranks if the batches are: whole ones dealt out. (The last
    bits of a matrix product depend on the number of rows and, for odd numbers of classes, on the place of the row.)
    """
    broadcast_model(model)
    was_training = model.training
    model.eval()
    num_batches = math.ceil(num_samples / world_size() / batch_size)
    pace = ProgressLog(logger, "Test:", num_batches, log_every=log_every)
    meters = {"loss": Meter(), "acc1": Meter(), "acc5": Meter()}
    results, waiting = [], []  # float64 [3, b] each; and those still on the device
    for batch in pace.timed(batches):
        with precision.autocast():
            logits = model(batch.images)
        waiting.append((batch.indices, per_sample(logits, batch.labels)))
        if pace.is_due:
            results += _fetch(waiting, meters)
        pace.step_done("  ".join(f"{name}: {meter}" for name, meter in meters.items()))
    results += _fetch(waiting, meters)
    if was_training:
        model.train()
    pace.finish()
    samples = _together(results)
    assert len(samples.indices) == num_samples, f"{len(samples.indices)} of {num_samples} images were evaluated"
    return samples


def _fetch(waiting: list, meters: dict[str, Meter]) -> list[np.ndarray]:
    """Bring the results since the last line from the device to the host."""
    results = [np.vstack([indices, verdict.numpy()]) for indices, verdict in waiting]
    waiting.clear()
    for _, positions, losses in results:
        meters["loss"].add(float(losses.mean()))
        meters["acc1"].add(100 * float((positions < 1).mean()))
        meters["acc5"].add(100 * float((positions < 5).mean()))
    return results


def _together(results: list[np.ndarray]) -> SampleScores:
    """The results of all ranks, sorted by index; an image that was evaluated twice is a bug of the sampler."""
    mine = np.hstack(results) if results else np.zeros((3, 0))  # float64 [3, n]
    num = gather_rows(np.array([mine.shape[1]]))[:, 0].astype(int)
    row = np.full((3, num.max()), -1.0)
    row[:, : mine.shape[1]] = mine
    rows = gather_rows(row.reshape(-1)).reshape(len(num), 3, -1)
    every = np.hstack([rows[rank, :, : num[rank]] for rank in range(len(num))])
    indices, positions, losses = every[:, np.argsort(every[0], kind="stable")]
    assert (np.diff(indices) > 0).all(), "an image was evaluated twice"
    if not np.isfinite(losses).all():
        first = int(indices[~np.isfinite(losses)][0])
        raise NonFiniteLossError(
            f"the loss of {int((~np.isfinite(losses)).sum())} of {len(losses)} evaluated images is not a finite number "
            f"(first: image {first} of the list); the weights are not usable"
        )
    return SampleScores(indices.astype(int), positions.astype(int), losses.astype(np.float32))
