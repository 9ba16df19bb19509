"""Program of one rank in test_ranks.py: writes its results as one JSON line to the file argv[1]."""

import json
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import paddle  # noqa: E402
from paddle import nn  # noqa: E402

from common.errors import ProjectError  # noqa: E402
from configs.schema import OptimConfig, OutputConfig, ScheduleConfig  # noqa: E402
from engine import distributed  # noqa: E402
from engine import evaluate as evaluate_module  # noqa: E402
from engine.checkpoint import read_checkpoint  # noqa: E402
from engine.ema import Ema  # noqa: E402
from engine.evaluate import evaluate_samples  # noqa: E402
from engine.losses import cross_entropy  # noqa: E402
from engine.metrics import score  # noqa: E402
from engine.optim import create_optimizer, optimizer_arrays  # noqa: E402
from engine.run import Run  # noqa: E402
from engine.saver import LATEST, Saver  # noqa: E402
from engine.schedule import warmup_cosine  # noqa: E402
from engine.state import TrainState  # noqa: E402
from engine.train import Recipe, train_epoch  # noqa: E402
from tests.engine.tiny import (  # noqa: E402
    Batch,
    FakeEvalLoader,
    FakeTrainLoader,
    arrays_of,
    batches,
    images_and_labels,
    same,
    tiny_net,
)

STEPS, ACCUM, BATCH = 4, 2, 4


class RankLoader(FakeTrainLoader):
    """Loads the part of this rank of batches of `BATCH * world` images."""

    def __init__(self, ranks: distributed.Ranks, steps: int = STEPS, accum: int = ACCUM):
        super().__init__(steps, BATCH, accum)
        self._ranks = ranks

    def batches(self, epoch: int = 0, first_step: int = 0) -> list[Batch]:
        num, (rank, world) = self.steps_per_epoch * self._accum_iter, self._ranks
        images, labels = images_and_labels(num * BATCH * world)
        made = []
        for i in range(first_step * self._accum_iter, num):
            part = np.arange(BATCH) + BATCH * (i * world + rank)
            made.append(Batch(paddle.to_tensor(images[part]), paddle.to_tensor(labels[part]), part))
        return made

    def path(self, index: int) -> str:
        return f"{index}.jpg"


SCHEDULE = ScheduleConfig(epochs=2, warmup_epochs=0, min_lr=0.0)


def train(state: TrainState, ranks: distributed.Ranks, saver=None, *, accum: int = ACCUM, steps: int = STEPS, **run):
    loss_fn = run.pop("loss_fn", cross_entropy(0.1))
    recipe = Recipe(loss_fn, warmup_cosine(0.1, SCHEDULE), epochs=2, accum_iter=accum)
    network = distributed.wrap_model(state.model, ranks)
    train_epoch(state, network, RankLoader(ranks, steps, accum), recipe, Run(ranks=ranks, **run), saver)


def evaluation(ranks: distributed.Ranks, batch_size: int) -> dict:
    """Evaluate 33 images; the batch-norm statistics of rank 1 are made wrong before."""
    model = tiny_net()
    model[1]._mean.set_value(model[1]._mean + ranks.rank)
    mine = batches(33, batch_size)[ranks.rank :: ranks.world]
    samples = evaluate_samples(model, FakeEvalLoader(mine, 33, batch_size), keep_logits=True)
    return {
        "scores": list(score(samples)),
        "losses": samples.losses.tobytes().hex(),
        "order": samples.indices.tolist(),
        "logits": None if samples.logits is None else samples.logits.tobytes().hex(),
    }


def large_batch(ranks: distributed.Ranks, accum: int) -> list[float]:
    """Train two steps of 16 images without batch norm; returns weights and loss."""
    paddle.seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 7))
    state = TrainState(model, create_optimizer(model, OptimConfig(opt="momentum", weight_decay=0), 0.1))
    train(state, ranks, accum=accum, steps=2)
    return [*model[1].weight.numpy().ravel().tolist(), state.loss_meter.total]


def gradients_stay(ranks: distributed.Ranks) -> list[bool]:
    """Whether the ranks' gradients are equal after a backward pass within no_sync, and after one without."""
    model = tiny_net()
    network = distributed.wrap_model(model, ranks)
    batch = RankLoader(ranks).batches()[0]
    with distributed.no_sync(network):
        network(batch.images).square().mean().backward()
    before = distributed.gather_rows(model[5].weight.grad.numpy().ravel())
    network(batch.images).square().mean().backward()
    after = distributed.gather_rows(model[5].weight.grad.numpy().ravel())
    return [bool((rows[0] == rows[-1]).all()) for rows in (before, after)]


def new_state(seed: int = 0) -> TrainState:
    model = tiny_net(seed)
    return TrainState(
        model, create_optimizer(model, OptimConfig(opt="adamw", weight_decay=0), 0.1), ema=Ema(model, 0.9)
    )


def resumed_equals_whole(ranks: distributed.Ranks, folder: Path) -> dict:
    """Stop both ranks by a signal on rank 1 in step 2, and resume both from one file."""
    whole, stopped, resumed = new_state(), new_state(), new_state(seed=3)
    train(whole, ranks)

    class SignalOnRank1:
        requested = property(lambda self: ranks.rank == 1 and stopped.next_step == 2)

    saver = Saver(stopped, OutputConfig(output_dir=str(folder)), rank=ranks.rank)
    error = outcome(lambda: train(stopped, ranks, saver, preemption=SignalOnRank1()))
    saver.finish()
    resumed.restore(read_checkpoint(folder / LATEST))
    train(resumed, ranks)
    statistics = ("_mean", "_variance") if ranks.rank == 1 else ()  # those of rank 0 are those of the model

    def parts(state: TrainState) -> list[dict]:
        both = [arrays_of(state.model), state.ema.arrays()]
        kept = [{name: a for name, a in arrays.items() if not name.endswith(statistics)} for arrays in both]
        return [*(kept if statistics else both), optimizer_arrays(state.optimizer, state.model)]

    equal = [same(a, b) for a, b in zip(parts(resumed), parts(whole), strict=True)]
    return {"error": error, "equal": equal, "loss": resumed.loss_meter.total == whole.loss_meter.total}


def nan_on_rank_1(ranks: distributed.Ranks) -> str:
    state = new_state()

    def loss_fn(logits, labels):
        return cross_entropy()(logits, labels) * (float("nan") if ranks.rank == 1 and state.next_step == 2 else 1)

    return outcome(lambda: train(state, ranks, loss_fn=loss_fn, sync_every=3))


def long_work(ranks: distributed.Ranks) -> None:
    """Let rank 0 work longer than the ranks wait between two messages."""
    distributed.POLL_SECONDS = 0.1
    with ThreadPoolExecutor(1) as thread:
        distributed.wait_for_first_rank(thread.submit(time.sleep, 0.5) if ranks.rank == 0 else None)


def full_disk(ranks: distributed.Ranks, folder: Path) -> None:
    saver = Saver(new_state(), OutputConfig(output_dir=str(folder / "no such folder")), rank=ranks.rank)
    saver.save(LATEST)
    saver.finish()


def outcome(work) -> str:
    try:
        work()
        return "nothing"
    except ProjectError as error:
        return f"{type(error).__name__} {error.exit_code} {error}"


def main() -> None:
    out = Path(sys.argv[1])
    evaluate_module.GATHERED_NUMBERS = 40  # so that 33 x 7 logits are gathered in several blocks
    distributed.choose_device("cpu")
    ranks = distributed.init_ranks()
    results = {
        "ranks": list(ranks),
        "evaluation": [evaluation(ranks, batch_size) for batch_size in (8, 5, 64)],
        "large batch": large_batch(ranks, accum=4 // ranks.world),
        "any": [distributed.any_rank(ranks.rank == 1), distributed.any_rank(False)],
        "sum": distributed.sum_over_ranks(np.array([[2.0**52, 1], [0.1, ranks.rank]])).tolist(),
        "objects": distributed.gather_objects([f"file of rank {ranks.rank}"]),
    }
    if ranks.world > 1:
        results |= {
            "gradients stay": gradients_stay(ranks),
            "resumed": resumed_equals_whole(ranks, out.parent),
            "nan": nan_on_rank_1(ranks),
            "same place": outcome(lambda: distributed.check_same_place((3, 7))),
            "other place": outcome(lambda: distributed.check_same_place((3, ranks.rank))),
            "long work": outcome(lambda: long_work(ranks)),
            "members": distributed.describe_lost_ranks(distributed.gather_members()),
            "disk": outcome(lambda: full_disk(ranks, out.parent)),
        }
    distributed.any_rank(False)  # a rank that ends early would break the connection of the others
    out.with_suffix(f".{ranks.rank}").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
