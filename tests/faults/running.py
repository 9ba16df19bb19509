"""E1, R5, R8, R9, R11-R14: whole trainings with something going wrong, on one process and under Paddle's launcher."""

import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np

from engine.checkpoint import find_latest, read_checkpoint
from engine.run_state import read_run_state

from .job import EPOCHS, STEPS, Job, num_different, result, run_forked

FIRST_STEPS = 60.0  # seconds a run may take to begin on a busy machine


class Tally:
    """Counts what broke, and keeps a word on the first few."""

    def __init__(self, name: str, seed: int):
        self.rng = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix=f"faults-{name}-"))
        self.cases, self.broken, self.details, self.seconds = 0, 0, [], []

    def judge(self, what: str, *wrongs: str | bool) -> None:
        """One case; each of `wrongs` that is not empty is a way in which it broke."""
        self.cases += 1
        if wrong := [w for w in wrongs if w]:
            self.broken += 1
            self.details.append(f"{what}: {'; '.join(map(str, wrong))}")

    def line(self, **more: object) -> dict:
        worst = {"worst_seconds": round(max(self.seconds), 1)} if self.seconds else {}
        return {"cases": self.cases, "broken": self.broken, **worst, **more, "details": self.details[:5]}


def whole(folder: Path, ranks: int) -> dict[str, str]:
    """The result without any fault."""
    assert Job(folder / f"whole-{ranks}", ranks=ranks).wait() == 0, f"see {folder}"
    return result(folder / f"whole-{ranks}")


def wait_for_step(job: Job, step: int) -> bool:
    """Until that many steps are in a checkpoint; False if the run ended before."""
    end = time.monotonic() + FIRST_STEPS
    while time.monotonic() < end and job.process.poll() is None:
        state = job.state
        if state.get("next_epoch", 0) * STEPS + state.get("next_step", 0) >= step:
            return True
        time.sleep(0.01)
    return False


# 8 images a step, in the same micro-batches of 2 for each process: on 4 processes, on 2, on 4 again
WORLDS = ({"ranks": 4, "batch_size": 2}, {"ranks": 2, "batch_size": 2, "accum_iter": 2}, {"ranks": 4, "batch_size": 2})


def e1(cases: int, seed: int) -> dict:
    """Stopped inside epochs and continued on 2 and again on 4 processes: the images of every step, in their order."""
    tally = Tally("e1", seed)
    notes = tally.folder / "whole.notes"
    assert Job(tally.folder / "whole", fault={"record": {"file": str(notes)}}, batch_size=8).wait() == 0
    expected = images_of_steps(notes)
    inside = [step for step in range(1, STEPS * EPOCHS // 2) if step % (STEPS // 2)]
    for case in range(cases):
        out, notes = tally.folder / f"case-{case}", tally.folder / f"case-{case}.notes"
        places = sorted(tally.rng.sample(inside, 2))
        stops, codes = [places[0], places[1] - places[0], None], []
        for stop, world in zip(stops, WORLDS, strict=True):
            fault = {"record": {"file": str(notes)}} | ({"signal": {"step": stop, "name": "SIGTERM"}} if stop else {})
            job = Job(out, fault=fault, **world)
            job.wait()
            codes.append(job.state["exit_code"])
        tally.judge(
            f"stopped after steps {places}; {out}",
            codes != [75, 75, 0] and f"exit codes {codes}",
            images_of_steps(notes) != expected and "other images, or in another order",
        )
    return tally.line(processes=[world["ranks"] for world in WORLDS], steps_compared=len(expected))


def images_of_steps(notes: Path) -> dict[tuple[int, int], list[int]]:
    """The images of each step in their order over all ranks, which take turns; a step that is done twice is longer."""
    ranks: dict[tuple[int, int], list] = {}
    for line in notes.read_text().splitlines():
        epoch, step, rank, micro_batches = json.loads(line)
        ranks.setdefault((epoch, step), []).append((rank, micro_batches))
    found = {}
    for place, parts in ranks.items():
        micro_batches = zip(*(micro for _, micro in sorted(parts)), strict=True)
        found[place] = [image for micro in micro_batches for turn in zip(*micro, strict=True) for image in turn]
    return found


def r5(cases: int, seed: int) -> dict:
    """In turn on one and two processes, under the supervisor, two SIGKILLs of a random process at random places."""
    tally, expected, kills = Tally("r5", seed), {}, 0
    for case in range(cases):
        ranks = 1 + case % 2
        if ranks not in expected:
            expected[ranks] = whole(tally.folder, ranks)
        out = tally.folder / f"case-{case}"
        job = Job(out, ranks=ranks, supervised=True, save_steps=3)
        for step in sorted(tally.rng.sample(range(0, 4 * STEPS - 8), 2)):
            if wait_for_step(job, step):
                time.sleep(tally.rng.uniform(0, 0.5))
                if victims := list(job.ranks().values()):
                    os.kill(tally.rng.choice(victims), signal.SIGKILL)
                    kills, before = kills + 1, time.monotonic()
                    place = job.state
                    while job.state.get("time") == place.get("time") and job.process.poll() is None:
                        time.sleep(0.02)
                    tally.seconds.append(time.monotonic() - before)
        code = job.wait()
        different = num_different(result(out), expected[ranks]) if code == 0 else -1
        tally.judge(f"case {case}", code and f"exit code {code}", different and f"{different} differ")
    return tally.line(kills=kills)


def r8(cases: int, seed: int) -> dict:
    """A full tmpfs (as root) or a limit of the file size, for ever or for a while."""
    tally, expected = Tally("r8", seed), None
    for case in range(cases):
        is_freed, is_disk = case % 2 == 0, case // 2 % 2 == 0 and os.getuid() == 0
        disk = tally.folder / f"disk-{case}"
        disk.mkdir()
        if is_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", disk], check=True)
        full_after = tally.rng.randrange(5, 15)
        free_after = full_after + 2 if is_freed else 10**9
        fault = {
            "disk": {"full_after": full_after, "free_after": free_after, "hog": str(disk / "hog") if is_disk else ""}
        }
        code = run_forked(disk / "run", fault=fault, save_steps=2)
        latest = read_checkpoint(find_latest(disk / "run")).meta
        done = latest["next_epoch"] * STEPS + latest["next_step"]
        wrong = code != (0 if is_freed else 74) and f"exit code {code}"
        if is_freed and not wrong:
            if expected is None:
                assert run_forked(tally.folder / "whole") == 0
                expected = result(tally.folder / "whole")
            wrong = bool(num_different(result(disk / "run"), expected)) and "another result"
        elif not is_freed:
            wrong = wrong or (done < full_after - 2 and f"step {done} is all that is left")
        tally.judge(f"{'tmpfs' if is_disk else 'limit'}, full after {full_after}, freed: {is_freed}", wrong)
        if is_disk:
            subprocess.run(["umount", "-l", disk], check=True)
    return tally.line()


SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
TARGETS = ("process", "supervisor", "launcher", "rank 0", "rank 1", "all ranks")
PHASES = ("train", "eval", "save", "read")


def r9(cases: int, seed: int) -> dict:
    """Every signal to everyone while rank 0 is in every phase, some three times; then to the end, as the whole run."""
    tally, expected = Tally("r9", seed), {}
    combinations = list(product(SIGNALS, TARGETS, PHASES))
    tally.rng.shuffle(combinations)
    for case, (name, target, phase) in enumerate(combinations[:cases]):
        ranks = 1 if target == "process" else 2
        if ranks not in expected:
            expected[ranks] = whole(tally.folder, ranks)
        out, marker = tally.folder / f"case-{case}", tally.folder / f"case-{case}.marker"
        nth = tally.rng.randrange(1, {"train": 25, "eval": 8, "save": 5, "read": 25}[phase])
        pause = {"phase": phase, "seconds": 1.0, "marker": str(marker), "nth": nth}
        job = Job(out, ranks=ranks, supervised=target == "supervisor", fault={"pause": pause}, save_steps=4)
        job.wait_for(marker, FIRST_STEPS)
        of_ranks = job.ranks()
        victims = {"rank 0": [of_ranks[0]], "rank 1": [of_ranks.get(1)], "all ranks": list(of_ranks.values())}
        times = 1 if name == "SIGINT" else tally.rng.choice((1, 3))  # a second Ctrl-C means: at once
        for _ in range(times):
            for pid in victims.get(target, [job.process.pid]):
                os.kill(pid, getattr(signal, name))
        seconds = job.seconds_until_empty(60)
        state = job.state
        code = Job(out, ranks=ranks).wait()
        log = job.log if ranks == 1 else Path(f"{out}-launch") / "workerlog.0"  # of both runs
        steps = re.findall(r"Epoch: (\[\d+\]  \[ *\d+/)", log.read_text())
        twice = [step for step, count in Counter(steps).items() if count > 1]
        tally.seconds.append(seconds or 60)
        tally.judge(
            f"{name} x {times} to {target} in {phase} {nth}; {out}",
            seconds is None and "processes left",
            state.get("exit_code") != 75 and f"run_state {state.get('exit_code')}",
            code and f"then exit code {code}",
            not code and bool(num_different(result(out), expected[ranks])) and "another result",
            twice and f"steps done twice: {twice[:3]}",
        )
    return tally.line()


def r11(cases: int, seed: int) -> dict:
    """Two ranks, bad numbers in steps 3 and 7 of one of them; budgets that suffice, do not suffice, and none."""
    tally = Tally("r11", seed)
    combinations = list(product((5, 0, 1), ("loss", "gradient", "input"), ("nan", "inf"), (0, 1)))
    tally.rng.shuffle(combinations)
    for case, (budget, where, value, rank) in enumerate(combinations[:cases]):
        out = tally.folder / f"case-{case}"
        numbers = {"where": where, "value": value, "rank": rank, "steps": [3, 7]}
        job = Job(out, ranks=2, fault={"numbers": numbers}, epochs=1, save_steps=1, skip_nonfinite=budget)
        job.wait()
        state = job.state
        files = [read_checkpoint(path) for path in out.glob("checkpoint-*.pd")]
        poisoned = sum(not np.isfinite(array).all() for file in files for array in file.tensors.values())
        left_out = read_checkpoint(out / "checkpoint-latest.pd").meta["num_skipped"]
        tally.judge(
            f"{value} in {where} of rank {rank}, {budget} allowed; {out}",
            state.get("exit_code") != (0 if budget == 5 else 5) and f"run_state {state}",
            poisoned and f"{poisoned} poisoned tensors",
            left_out != min(budget, 2) and f"{left_out} steps left out",
            job.seconds_until_empty(10) is None and "processes left",
        )
    return tally.line()


def r12(cases: int, seed: int) -> dict:
    """The reader of one image is killed, hangs or makes a mistake, with 0, 1 and 2 worker processes."""
    tally, stall = Tally("r12", seed), 8
    kinds = [
        ("kill", 1),
        ("hang", 2),
        ("mistake", 0),
        ("hang", 0),
        ("kill", 2),
        ("mistake", 2),
        ("hang", 1),
        ("mistake", 1),
    ]
    for case in range(cases):
        do, num_workers = kinds[case % len(kinds)]
        index, out = tally.rng.randrange(40), tally.folder / f"case-{case}"
        fault = {"reading": {"index": index, "do": do}}
        job = Job(out, fault=fault, num_workers=num_workers, stall_seconds=stall, epochs=30)
        code = job.wait()
        tally.judge(
            f"{do} at image {index}, {num_workers} workers; {out}",
            code != (3 if do == "mistake" else 1) and f"exit code {code}",
            code != job.state.get("exit_code") and f"run_state {job.state}",
            f"/{index}.png" not in job.state.get("message", "") and f"not named: {job.state.get('message')}",
            job.seconds_until_empty(10) is None and "processes left",
        )
    return tally.line(stall_seconds=stall)


def r13(cases: int, seed: int) -> dict:
    """SIGKILL of each process of a job, and a rank that stands still; two ranks with a worker each."""
    tally, left = Tally("r13", seed), 0
    kinds = ["rank 0", "launcher", "rank 1", "supervisor", "still", "process"]
    for case in range(cases):
        kind, out = kinds[case % len(kinds)], tally.folder / f"case-{case}"
        job = Job(out, ranks=1 if kind == "process" else 2, supervised=kind == "supervisor", num_workers=1,
                  epochs=1000, save_steps=5)  # fmt: skip
        if not wait_for_step(job, tally.rng.randrange(5, 15)):
            tally.judge(f"{kind}; {out}", "did not begin")
            continue
        victim = {"rank 0": 0, "rank 1": 1, "still": 1, "process": 0}.get(kind)
        pid = job.process.pid if victim is None else job.ranks()[victim]
        os.kill(pid, signal.SIGSTOP if kind == "still" else signal.SIGKILL)
        seconds = job.seconds_until_empty(60 if kind == "still" else 15)
        left += seconds is None
        if kind != "still":
            tally.seconds.append(seconds or 15)
        exit_code = read_run_state(out).get("exit_code")
        tally.judge(
            f"{kind}; {out}",
            seconds is None and "processes left",
            kind in ("launcher", "supervisor") and exit_code != 75 and f"run_state {exit_code}, expected 75: saved",
        )
    return tally.line(orphans=left)


def r14(cases: int, seed: int) -> dict:
    """Two ranks, and a write of 60 s on rank 0, beside training and at its end; gloo's patience is 30 s."""
    tally, expected = Tally("r14", seed), None
    for case in range(cases):
        expected = expected or whole(tally.folder, 2)
        out = tally.folder / f"case-{case}"
        pause = {"phase": "save", "seconds": 60, "marker": str(out) + ".marker", "nth": tally.rng.randrange(1, 8)}
        code = Job(out, ranks=2, fault={"pause": pause}, save_steps=5).wait()
        different = num_different(result(out), expected) if code == 0 else -1
        tally.judge(f"{out}", code and f"exit code {code}", different and f"{different} differ")
    return tally.line(seconds_of_the_write=60)
