"""Several processes that train one model: who is who, and the few things they tell each other.

Everything works under `python -m paddle.distributed.launch` on GPUs (nccl) and on CPUs (gloo). In a single process the
functions below return what they are given.
"""

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import paddle
from paddle import distributed as dist
from paddle import nn

from common.errors import CheckpointError, DiskError, LostRankError, MissingDependencyError

POLL_SECONDS = 5.0  # gloo gives up a silent rank after 30 s, and Paddle has no knob for it


class Ranks(NamedTuple):
    """This process's number, and how many there are."""

    rank: int = 0
    world: int = 1


def choose_device(name: str = "auto") -> str:
    """Run on "auto", "cpu", "gpu" or "gpu:N"; returns Paddle's name of the device.

    "auto" is a GPU where Paddle sees one. Under the launcher "gpu" is the rank's own. MissingDependencyError if a GPU
    is asked for where there is none.
    """
    num_gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if name == "auto":
        name = "gpu" if num_gpus else "cpu"
    kind, _, index = name.partition(":")
    if kind == "gpu" and not paddle.is_compiled_with_cuda():
        raise MissingDependencyError(
            f"--device {name} needs a GPU build of Paddle and this is the CPU build; "
            "use --device cpu, or install requirements-gpu.txt instead of requirements.txt"
        )
    if kind == "gpu" and int(index or 0) >= num_gpus:
        raise MissingDependencyError(f"--device {name}: Paddle sees {num_gpus} GPUs; check CUDA_VISIBLE_DEVICES")
    paddle.set_device(name)
    return paddle.get_device()


def init_ranks() -> Ranks:
    """Join the other processes of the launcher, after `choose_device`; alone, there is nothing to do."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", 1)) == 1:
        return Ranks()
    if not paddle.get_device().startswith("gpu"):
        os.environ.setdefault("PADDLE_DISTRI_BACKEND", "gloo")
    dist.init_parallel_env()
    return Ranks(dist.get_rank(), dist.get_world_size())


def gather_members() -> list[tuple[str, int]]:
    """(machine, process) of every rank: who they were is good to know when one is gone."""
    return gather_objects((socket.gethostname(), os.getpid()))


@contextmanager
def explain_lost_ranks(members: list[tuple[str, int]]) -> Iterator[None]:
    """Within it an error of the library that talks to the `members` becomes a LostRankError that says who is gone."""
    try:
        yield
    except (RuntimeError, OSError, ValueError, SystemError) as error:
        if len(members) == 1 or not any(word in str(error) for word in ("gloo", "NCCL", "TCP", "peer", "socket")):
            raise
        time.sleep(1)  # whoever was just killed is still being taken apart
        what = str(error).strip().splitlines()[-1][:300]
        raise LostRankError(
            f"rank {dist.get_rank()} lost the others: {describe_lost_ranks(members)}\n({what})"
        ) from error


def describe_lost_ranks(members: list[tuple[str, int]]) -> str:
    """What this machine can see of the processes of `meet`, in words, when the conversation broke off."""
    gone = [rank for rank, (host, pid) in enumerate(members) if host == socket.gethostname() and not _is_alive(pid)]
    if gone:
        return " and ".join(f"rank {rank} (process {members[rank][1]})" for rank in gone) + " died"
    if all(host == socket.gethostname() for host, _ in members):
        return "all ranks live: one of them hangs, cannot be reached, or has just failed (its log says how)"
    return "no rank of this machine is gone: look at the logs of the other machines, or at the network"


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"  # a zombie is dead, though it has a number
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")  # a system without /proc does not tell


def check_same_place(place: tuple[int, int]) -> None:
    """All ranks must go on from the same (epoch, step); CheckpointError if they read different files."""
    places = gather_objects(place)
    if len(set(places)) > 1:
        raise CheckpointError(
            f"the ranks found checkpoints of different places (epoch, step): {places}; "
            "--output_dir must be a folder that all machines share"
        )


def synchronize_batch_norm(model: nn.Layer) -> nn.Layer:
    """The model with batch norms whose statistics in training are those of the batches of all ranks together.

    Names and shapes stay. MissingDependencyError on a CPU, where Paddle has no such operation.
    """
    if not paddle.get_device().startswith("gpu"):
        raise MissingDependencyError("--sync_bn needs GPUs: Paddle has no SyncBatchNorm for a CPU; leave it out")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def ranks_on_this_machine() -> int:
    """How many ranks share its processors, by the launcher; all of them where it does not say."""
    return int(os.environ.get("PADDLE_LOCAL_SIZE", world_size()))


def wrap_model(model: nn.Layer, ranks: Ranks) -> nn.Layer:
    """The same model, with gradients averaged over the ranks in every backward pass."""
    return model if ranks.world == 1 else paddle.DataParallel(model)


def no_sync(network: nn.Layer) -> AbstractContextManager:
    """Within it the gradients stay on their rank: only the last micro-batch of a step needs to exchange them."""
    return network.no_sync() if isinstance(network, paddle.DataParallel) else nullcontext()


def world_size() -> int:
    """The number of ranks that talk to each other."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_ranks(array: np.ndarray) -> np.ndarray:
    """The sum of every rank's array, of equal shape, in float64: exact for counts up to 2^53."""
    array = np.asarray(array, np.float64)
    if world_size() == 1:
        return array
    tensor = paddle.to_tensor(array.reshape(-1), dtype="float64")
    dist.all_reduce(tensor)
    return tensor.numpy().reshape(array.shape)


def gather_rows(row: np.ndarray) -> np.ndarray:
    """Every rank's row [N] of float64 numbers as [world, N] on every rank; N is the same everywhere."""
    rows = np.zeros((world_size(), len(row)))
    rows[dist.get_rank() if world_size() > 1 else 0] = row
    return sum_over_ranks(rows)


def gather_objects(value: object) -> list:
    """Every rank's value, on every rank; for what is rare and small, like file names in an error."""
    if world_size() == 1:
        return [value]
    values = []
    dist.all_gather_object(values, value)
    return values


def any_rank(flag: bool) -> bool:
    """True on all ranks if it is on one."""
    return bool(sum_over_ranks(np.array([flag]))[0] > 0)


def broadcast_model(model: nn.Layer) -> None:
    """Give every rank the batch-norm statistics of rank 0, in one message, before the model is evaluated.

    Trainable parameters are equal on all ranks anyway. The statistics differ, each rank having seen its own images;
    rank 0's are the model's, and only evaluation and saving ever look at them.
    """
    if world_size() == 1:
        return
    statistics = [tensor for tensor in model.state_dict().values() if tensor.stop_gradient]
    if not statistics:
        return
    with paddle.no_grad():
        fused = paddle.concat([tensor.reshape([-1]).astype("float32") for tensor in statistics])
        dist.broadcast(fused, src=0)
        for tensor, part in zip(statistics, fused.split([tensor.size for tensor in statistics]), strict=True):
            tensor.set_value(part.reshape(tensor.shape).astype(tensor.dtype))


def wait_for_first_rank(work: Future | None) -> DiskError | None:
    """All ranks wait until rank 0's `work` (None on the others) is done, and leave together with what came of it.

    They keep talking meanwhile: on CPUs a rank that is silent for 30 s is given up by the others. Whatever `work`
    raises but a DiskError is raised on rank 0.
    """
    is_running = True
    while is_running:
        is_running = any_rank(work is not None and not wait([work], POLL_SECONDS).done)
    error = work.exception() if work else None
    if error and not isinstance(error, DiskError):
        raise error
    if any_rank(error is not None):
        return error or DiskError("rank 0 could not write a file; its message says which and why")
    return None
