"""main.py with an injected fault, which the environment variable FAULT describes as JSON {kind: arguments}."""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

FAULT = json.loads(os.environ.get("FAULT", "{}"))
RANK = int(os.environ.get("PADDLE_TRAINER_ID", 0))


def fault_of_reading(index: int, do: str, **_: object) -> None:
    """Let the process that reads image `index` die, hang or raise an error; also in spawned workers."""
    from datasets.loading.sample import TrainSampleMaker

    real = TrainSampleMaker.make

    def make(self, path, epoch, this_index):
        if this_index == index and do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if this_index == index and do == "hang":
            time.sleep(3600)
        if this_index == index and do == "raise":
            raise ZeroDivisionError("an error in an operation")
        return real(self, path, epoch, this_index)

    TrainSampleMaker.make = make


def after_steps(actions: dict[int, Callable[[], None]]) -> None:
    """Call each action once this process has done that number of steps, before the ranks exchange their losses."""
    import engine.train as train

    real, num_done = train.sync_losses, [0]

    def sync_losses(*arguments):
        num_done[0] += 1
        if action := actions.get(num_done[0]):
            action()
        return real(*arguments)

    train.sync_losses = sync_losses


def fault_signal(step: int, name: str, rank: int = 0) -> None:
    """Send the signal `name` to rank `rank` during a step."""
    if rank == RANK:
        after_steps({step: lambda: os.kill(os.getpid(), getattr(signal, name))})


def fault_disk(full_after: int, free_after: int, hog: str = "") -> None:
    """Fill the disk with the file `hog`, or without one limit the size of files, from one step to another."""
    import resource

    def fill():
        if not hog:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            return
        with open(hog, "wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 14)):
                    pass
            except OSError:
                pass

    def free():
        if hog:
            os.remove(hog)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    after_steps({full_after: fill, free_after: free})


def fault_numbers(where: str, value: str, rank: int, steps: list[int]) -> None:
    """Make the loss, the gradient or the images not finite in some steps of one rank.

    Args:
        where: "loss", "gradient" or "input".
        value: "nan" or "inf".
        rank: number of the process.
        steps: numbers of the micro-batches.
    """
    import engine.train as train
    from engine.state import TrainState

    bad, real_seed, real_init = float(value), train.step_seed, TrainState.__init__

    def step_seed(seed, epoch, iteration, this_rank):
        current[0] = iteration
        return real_seed(seed, epoch, iteration, this_rank)

    def is_due() -> bool:
        return rank == RANK and current[0] in steps

    def init(self, model, *arguments, **keywords):
        real_init(self, model, *arguments, **keywords)
        if where == "input":
            model.register_forward_pre_hook(lambda _, images: (images[0] * bad if is_due() else images[0],))
        if where == "loss":
            model.register_forward_post_hook(lambda _, __, logits: logits * bad if is_due() else logits)
        if where == "gradient":
            weight = model.parameters()[0]
            weight.register_hook(lambda gradient: gradient * bad if is_due() else gradient)

    current = [-1]
    train.step_seed, TrainState.__init__ = step_seed, init


def record_steps(file: str) -> None:
    """Record the images of each rank in each micro-batch of each step; injects no fault."""
    import engine.train as train

    real = train.sync_losses

    def sync_losses(state, unsynced, *arguments):
        with open(file, "a", encoding="utf-8") as notes:
            for step in unsynced:
                images = [micro.tolist() for micro in step.indices]
                notes.write(json.dumps([state.next_epoch, step.step, RANK, images]) + "\n")
        return real(state, unsynced, *arguments)

    train.sync_losses = sync_losses


def record_samples(file: str) -> None:
    """Record a checksum of each training sample after its augmentations; injects no fault, and needs 0 workers."""
    from datasets.loading.sample import TrainSampleMaker

    real = TrainSampleMaker.make

    def make(self, path, epoch, index):
        row = real(self, path, epoch, index)
        with open(file, "a", encoding="utf-8") as notes:
            notes.write(json.dumps([epoch, index, hashlib.sha256(row.tobytes()).hexdigest()]) + "\n")
        return row

    TrainSampleMaker.make = make


def fault_pause(phase: str, seconds: float, marker: str, nth: int = 1, rank: int = 0) -> None:
    """Let a rank create the file `marker` and wait, when it enters a phase for the nth time.

    Args:
        phase: "train", "eval", "save" or "read".
        seconds: time to wait; the signal of a test arrives meanwhile.
        marker: file that says that the rank waits.
        nth: which entry, from 1 on.
        rank: number of the process.
    """
    count = [0]

    def pause():
        count[0] += 1
        if count[0] == nth and rank == RANK:
            Path(marker).touch()
            end = time.monotonic() + seconds  # a signal does not end the wait
            while time.monotonic() < end:
                time.sleep(0.02)

    def before(module, name):
        real = getattr(module, name)

        def paused(*arguments, **keywords):
            pause()
            return real(*arguments, **keywords)

        setattr(module, name, paused)

    import datasets.loading.worker_pool
    import engine.evaluate
    import engine.saver
    import engine.train

    functions = {
        "train": (engine.train, "step_seed"),
        "eval": (engine.evaluate, "per_sample"),
        "save": (engine.saver, "write_checkpoint"),
        "read": (datasets.loading.worker_pool, "fill_batch"),
    }
    before(*functions[phase])


KINDS = {
    "reading": fault_of_reading,
    "signal": fault_signal,
    "disk": fault_disk,
    "numbers": fault_numbers,
    "pause": fault_pause,
    "record": record_steps,
    "record_samples": record_samples,
}


def install(fault: dict) -> None:
    """Install the faults {kind: arguments} in this process."""
    for kind, arguments in fault.items():
        KINDS[kind](**arguments)


if "reading" in FAULT:  # here, because a spawned worker imports this file as a module
    fault_of_reading(**FAULT["reading"])

if __name__ == "__main__":
    import main
    from common.cli import run

    install({kind: arguments for kind, arguments in FAULT.items() if kind != "reading"})
    run(main.main)
