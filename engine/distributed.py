"""Communication among the processes (ranks) that train one model together.

All functions work under `python -m paddle.distributed.launch` on GPUs (NCCL) and on CPUs (gloo). In a single process
they return what they are given.
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
from common.processes import is_alive

POLL_SECONDS = 5.0  # gloo gives up a silent rank after 30 s, and Paddle has no option for that time


class Ranks(NamedTuple):
    """Number of this process, and number of all processes."""

    rank: int = 0
    world: int = 1


def choose_device(name: str = "auto") -> str:
    """Compute on the device "auto", "cpu", "gpu" or "gpu:N" from here on; returns Paddle's name of the device.

    "auto" is a GPU where Paddle sees one, else the CPU. Under the launcher "gpu" is the GPU of this rank.

    Raises:
        MissingDependencyError: a GPU is asked for where there is none.
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
    """Connect to the other processes of the launcher, after `choose_device`; one process alone connects to none."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", 1)) == 1:
        return Ranks()
    if not paddle.get_device().startswith("gpu"):
        os.environ.setdefault("PADDLE_DISTRI_BACKEND", "gloo")
    dist.init_parallel_env()
    return Ranks(dist.get_rank(), dist.get_world_size())


def gather_members() -> list[tuple[str, int]]:
    """Gather (host name, process id) of every rank, by which `describe_lost_ranks` identifies lost ranks."""
    return gather_objects((socket.gethostname(), os.getpid()))


@contextmanager
def explain_lost_ranks(members: list[tuple[str, int]]) -> Iterator[None]:
    """Turn an error of the communication library inside the context into an error that names the ranks that are gone.

    Raises:
        LostRankError: the communication with the `members` ended.
    """
    try:
        yield
    except (RuntimeError, OSError, ValueError, SystemError) as error:
        if len(members) == 1 or not any(word in str(error) for word in ("gloo", "NCCL", "TCP", "peer", "socket")):
            raise
        time.sleep(1)  # a process that was just killed is in /proc for a moment
        what = str(error).strip().splitlines()[-1][:300]
        raise LostRankError(
            f"rank {dist.get_rank()} lost the other ranks: {describe_lost_ranks(members)}\n({what})"
        ) from error


def describe_lost_ranks(members: list[tuple[str, int]]) -> str:
    """Describe which of the processes of `gather_members` are gone, as far as this machine can see."""
    gone = [rank for rank, (host, pid) in enumerate(members) if host == socket.gethostname() and not is_alive(pid)]
    if gone:
        return " and ".join(f"rank {rank} (process {members[rank][1]})" for rank in gone) + " died"
    if all(host == socket.gethostname() for host, _ in members):
        return "all ranks live: one of them hangs, cannot be reached, or has just failed (see its log)"
    return "no rank of this machine is gone: check the logs of the other machines, and the network"


def check_same_place(place: tuple[int, int]) -> None:
    """Check that all ranks continue from the same (epoch, step).

    Raises:
        CheckpointError: the ranks read different files.
    """
    places = gather_objects(place)
    if len(set(places)) > 1:
        raise CheckpointError(
            f"the ranks found checkpoints of different places (epoch, step): {places}; "
            "--output_dir must be a folder that all machines share"
        )


def synchronize_batch_norm(model: nn.Layer) -> nn.Layer:
    """Convert the batch norms of a model to compute their statistics over the batches of all ranks.

    Names and shapes of the parameters do not change.

    Raises:
        MissingDependencyError: on a CPU, where Paddle has no such operation.
    """
    if not paddle.get_device().startswith("gpu"):
        raise MissingDependencyError("--sync_bn needs GPUs: Paddle has no SyncBatchNorm for a CPU; leave it out")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def wrap_model(model: nn.Layer, ranks: Ranks) -> nn.Layer:
    """Wrap the model so that every backward pass averages the gradients over the ranks."""
    return model if ranks.world == 1 else paddle.DataParallel(model)


def no_sync(network: nn.Layer) -> AbstractContextManager:
    """Keep the gradients on their rank inside the context: only the last micro-batch of a step exchanges them."""
    return network.no_sync() if isinstance(network, paddle.DataParallel) else nullcontext()


def world_size() -> int:
    """Number of connected ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first_rank() -> bool:
    """Whether this process is rank 0, which alone writes files."""
    return not dist.is_initialized() or dist.get_rank() == 0


def sum_over_ranks(array: np.ndarray) -> np.ndarray:
    """Sum an array of equal shape over the ranks, in float64: exact for counts up to 2^53."""
    array = np.asarray(array, np.float64)
    if world_size() == 1:
        return array
    tensor = paddle.to_tensor(array.reshape(-1), dtype="float64")
    dist.all_reduce(tensor)
    return tensor.numpy().reshape(array.shape)


def gather_rows(row: np.ndarray) -> np.ndarray:
    """Gather a row [N] of float64 numbers of every rank as [world, N] on every rank; N is equal on all ranks."""
    rows = np.zeros((world_size(), len(row)))
    rows[dist.get_rank() if world_size() > 1 else 0] = row
    return sum_over_ranks(rows)


def gather_objects(value: object) -> list:
    """Gather a value of every rank on every rank; meant for small and rare values, such as file names in an error."""
    if world_size() == 1:
        return [value]
    values = []
    dist.all_gather_object(values, value)
    return values


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank; the answer is the same on all ranks."""
    return bool(sum_over_ranks(np.array([flag]))[0] > 0)


def broadcast_model(model: nn.Layer) -> None:
    """Copy the batch-norm statistics of rank 0 to every rank, in one message, before the model is evaluated.

    Trainable parameters are equal on all ranks. The statistics differ, because each rank has processed other images;
    those of rank 0 are the model's, and only evaluation and saving use them.
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
    """Wait on all ranks until `work` of rank 0 (None on the other ranks) is done.

    The ranks exchange messages while they wait: on CPUs gloo gives up a rank that is silent for 30 s.

    Returns:
        On all ranks a DiskError if `work` raised one, else None.

    Raises:
        Exception: any other exception of `work`, on rank 0.
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
