"""main.py with a fault in it, which the variable FAULT describes as JSON; one name below for each kind."""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

FAULT = json.loads(os.environ.get("FAULT", "{}"))
RANK = int(os.environ.get("PADDLE_TRAINER_ID", 0))


def fault_of_reading(index: int, do: str, **_: object) -> None:
    """The process that reads image `index` dies, hangs or makes a mistake. Also in spawned workers."""
    import datasets.loading.sample as samples

    real = samples.TrainSampleMaker.make

    def make(self, path, epoch, this):
        if this == index and do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if this == index and do == "hang":
            time.sleep(3600)
        if this == index and do == "mistake":
            raise ZeroDivisionError("a mistake in an operation")
        return real(self, path, epoch, this)

    samples.TrainSampleMaker.make = make


def fault_at_step(after: dict[int, callable]) -> None:
    """Do something once that many steps are done in this process, before the ranks compare notes."""
    import engine.train as train

    real, done = train.sync_losses, [0]

    def sync_losses(*arguments):
        done[0] += 1
        if action := after.get(done[0]):
            action()
        return real(*arguments)

    train.sync_losses = sync_losses


def fault_signal(step: int, name: str, rank: int = 0) -> None:
    if rank == RANK:
        fault_at_step({step: lambda: os.kill(os.getpid(), getattr(signal, name))})


def fault_disk(full_after: int, free_after: int, hog: str = "") -> None:
    """No byte more can be written between two steps: `hog` fills the disk, or a limit of the file size is set."""
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

    fault_at_step({full_after: fill, free_after: free})


def fault_numbers(where: str, value: str, rank: int, steps: list[int]) -> None:
    """The loss, the gradient or an image is not finite in some steps of one rank."""
    import engine.train as train
    from engine.state import TrainState

    bad, real_seed, real_set = float(value), train.step_seed, TrainState.__init__

    def step_seed(seed, epoch, iteration, this_rank):
        place[0] = iteration
        return real_seed(seed, epoch, iteration, this_rank)

    def is_due() -> bool:
        return rank == RANK and place[0] in steps

    def init(self, model, *arguments, **keywords):
        real_set(self, model, *arguments, **keywords)
        if where == "input":
            model.register_forward_pre_hook(lambda _, images: (images[0] * bad if is_due() else images[0],))
        if where == "loss":
            model.register_forward_post_hook(lambda _, __, logits: logits * bad if is_due() else logits)
        if where == "gradient":
            weight = model.parameters()[0]
            weight.register_hook(lambda gradient: gradient * bad if is_due() else gradient)

    place = [-1]
    train.step_seed, TrainState.__init__ = step_seed, init


def fault_none_but_record(file: str) -> None:
    """No fault: note which images each rank has in each micro-batch of each step."""
    import engine.train as train

    real = train.sync_losses

    def sync_losses(state, unsynced, *arguments):
        with open(file, "a", encoding="utf-8") as notes:
            for step in unsynced:
                images = [micro.tolist() for micro in step.indices]
                notes.write(json.dumps([state.next_epoch, step.step, RANK, images]) + "\n")
        return real(state, unsynced, *arguments)

    train.sync_losses = sync_losses


def fault_none_but_record_samples(file: str) -> None:
    """No fault: note a checksum of each training sample, as it is after its augmentations. Without workers."""
    import datasets.loading.sample as samples

    real = samples.TrainSampleMaker.make

    def make(self, path, epoch, index):
        row = real(self, path, epoch, index)
        with open(file, "a", encoding="utf-8") as notes:
            notes.write(json.dumps([epoch, index, hashlib.sha256(row.tobytes()).hexdigest()]) + "\n")
        return row

    samples.TrainSampleMaker.make = make


def fault_pause(phase: str, seconds: float, marker: str, nth: int = 1, rank: int = 0) -> None:
    """Entering a phase for the nth time rank `rank` makes the file `marker` and waits: time for a signal."""
    count = [0]

    def pause():
        count[0] += 1
        if count[0] == nth and rank == RANK:
            Path(marker).touch()
            end = time.monotonic() + seconds  # a signal must not cut the wait short
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

    places = {
        "train": (engine.train, "step_seed"),
        "eval": (engine.evaluate, "per_sample"),
        "save": (engine.saver, "write_checkpoint"),
        "read": (datasets.loading.worker_pool, "fill_batch"),
    }
    before(*places[phase])


KINDS = {
    "reading": fault_of_reading,
    "signal": fault_signal,
    "disk": fault_disk,
    "numbers": fault_numbers,
    "pause": fault_pause,
    "record": fault_none_but_record,
    "record_samples": fault_none_but_record_samples,
}


def install(fault: dict) -> None:
    for kind, arguments in fault.items():
        KINDS[kind](**arguments)


if "reading" in FAULT:  # here, because a spawned worker imports this file and does not run it
    fault_of_reading(**FAULT["reading"])

if __name__ == "__main__":
    import main
    from common.cli import run

    install({kind: arguments for kind, arguments in FAULT.items() if kind != "reading"})
    run(main.main)
