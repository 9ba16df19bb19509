"""E1, R5, R8, R9, R11 to R14: whole trainings with injected faults, on one process and under Paddle's launcher."""

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

START_SECONDS = 60.0  # largest time before the first steps, on a busy machine


class Tally:
    """Counts the cases and those that broke the promise, with a line on the first few."""

    def __init__(self, name: str, seed: int):
        self.rng = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix=f"faults-{name}-"))
        self.cases, self.broken, self.details, self.seconds = 0, 0, [], []

    def add_case(self, what: str, *failures: str | bool) -> None:
        """Count one case; each of `failures` that is not empty or False says what broke."""
        self.cases += 1
        if messages := [str(failure) for failure in failures if failure]:
            self.broken += 1
            self.details.append(f"{what}: {'; '.join(messages)}")

    def line(self, **more: object) -> dict:
        """The result of the promise."""
        worst = {"worst_seconds": round(max(self.seconds), 1)} if self.seconds else {}
        return {"cases": self.cases, "broken": self.broken, **worst, **more, "details": self.details[:5]}


def whole(folder: Path, ranks: int) -> dict[str, str]:
    """Train without any fault; returns the result."""
    assert Job(folder / f"whole-{ranks}", ranks=ranks).wait() == 0, f"see {folder}"
    return result(folder / f"whole-{ranks}")


def wait_for_step(job: Job, step: int) -> bool:
    """Wait until that number of steps is in a checkpoint; False if the run ended before."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and job.process.poll() is None:
        state = job.state
        if state.get("next_epoch", 0) * STEPS + state.get("next_step", 0) >= step:
            return True
        time.sleep(0.01)
    return False


# 8 images per step, in equal micro-batches of 2 per process: on 4 processes, on 2, and again on 4
WORLDS = ({"ranks": 4, "batch_size": 2}, {"ranks": 2, "batch_size": 2, "accum_iter": 2}, {"ranks": 4, "batch_size": 2})


def e1(cases: int, seed: int) -> dict:
    """Stop inside epochs, continue on 2 and on 4 processes, and compare the images of every step in their order."""
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
        tally.add_case(
            f"stopped after steps {places}; {out}",
            codes != [75, 75, 0] and f"exit codes {codes}",
            images_of_steps(notes) != expected and "other images, or another order",
        )
    return tally.line(processes=[world["ranks"] for world in WORLDS], steps_compared=len(expected))


def images_of_steps(notes: Path) -> dict[tuple[int, int], list[int]]:
    """Read the images of each step in their order over all ranks; a step that is done twice has more of them."""
    ranks: dict[tuple[int, int], list] = {}
    for line in notes.read_text().splitlines():
        epoch, step, rank, micro_batches = json.loads(line)
        ranks.setdefault((epoch, step), []).append((rank, micro_batches))
    images = {}
    for place, parts in ranks.items():
        micro_batches = zip(*(micro for _, micro in sorted(parts)), strict=True)
        images[place] = [
            image for micro in micro_batches for of_ranks in zip(*micro, strict=True) for image in of_ranks
        ]
    return images


def r5(cases: int, seed: int) -> dict:
    """Kill a random process twice at random places, under the supervisor, on one and two processes alternately."""
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
                if pids := list(job.ranks().values()):
                    os.kill(tally.rng.choice(pids), signal.SIGKILL)
                    kills, before = kills + 1, time.monotonic()
                    place = job.state
                    while job.state.get("time") == place.get("time") and job.process.poll() is None:
                        time.sleep(0.02)
                    tally.seconds.append(time.monotonic() - before)
        code = job.wait()
        different = num_different(result(out), expected[ranks]) if code == 0 else -1
        tally.add_case(f"case {case}", code and f"exit code {code}", different and f"{different} differ")
    return tally.line(kills=kills)


def r8(cases: int, seed: int) -> dict:
    """Fill a tmpfs (as root) or limit the file size, for some steps or to the end."""
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
            wrong = wrong or (done < full_after - 2 and f"only {done} steps are saved")
        tally.add_case(f"{'tmpfs' if is_disk else 'limit'}, full after {full_after}, freed: {is_freed}", wrong)
        if is_disk:
            subprocess.run(["umount", "-l", disk], check=True)
    return tally.line()


SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
TARGETS = ("process", "supervisor", "launcher", "rank 0", "rank 1", "all ranks")
PHASES = ("train", "eval", "save", "read")


def r9(cases: int, seed: int) -> dict:
    """Send every signal to every target while rank 0 is in every phase, some three times; then resume to the end."""
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
        job.wait_for(marker, START_SECONDS)
        of_ranks = job.ranks()
        pids = {"rank 0": [of_ranks[0]], "rank 1": [of_ranks.get(1)], "all ranks": list(of_ranks.values())}
        times = 1 if name == "SIGINT" else tally.rng.choice((1, 3))  # a second Ctrl-C interrupts at once
        for _ in range(times):
            for pid in pids.get(target, [job.process.pid]):
                os.kill(pid, getattr(signal, name))
        seconds = job.seconds_until_empty(60)
        state = job.state
        code = Job(out, ranks=ranks).wait()
        log = job.log if ranks == 1 else Path(f"{out}-launch") / "workerlog.0"  # of both runs
        steps = re.findall(r"Epoch: (\[\d+\]  \[ *\d+/)", log.read_text())
        repeated = [step for step, count in Counter(steps).items() if count > 1]
        tally.seconds.append(seconds or 60)
        tally.add_case(
            f"{name} x {times} to {target} in {phase} {nth}; {out}",
            seconds is None and "processes left",
            state.get("exit_code") != 75 and f"run_state {state.get('exit_code')}",
            code and f"then exit code {code}",
            not code and bool(num_different(result(out), expected[ranks])) and "another result",
            repeated and f"repeated steps: {repeated[:3]}",
        )
    return tally.line()


def r11(cases: int, seed: int) -> dict:
    """Make steps 3 and 7 of one of two ranks not finite, with a budget that suffices, one too small, and none."""
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
        num_nonfinite = sum(not np.isfinite(array).all() for file in files for array in file.tensors.values())
        num_skipped = read_checkpoint(out / "checkpoint-latest.pd").meta["num_skipped"]
        tally.add_case(
            f"{value} in {where} of rank {rank}, {budget} allowed; {out}",
            state.get("exit_code") != (0 if budget == 5 else 5) and f"run_state {state}",
            num_nonfinite and f"{num_nonfinite} tensors are not finite",
            num_skipped != min(budget, 2) and f"{num_skipped} steps skipped",
            job.seconds_until_empty(10) is None and "processes left",
        )
    return tally.line()


def r12(cases: int, seed: int) -> dict:
    """Let the process that reads one image die, hang or raise an error, with 0, 1 and 2 worker processes."""
    tally, stall = Tally("r12", seed), 8
    kinds = [
        ("kill", 1),
        ("hang", 2),
        ("raise", 0),
        ("hang", 0),
        ("kill", 2),
        ("raise", 2),
        ("hang", 1),
        ("raise", 1),
    ]
    for case in range(cases):
        do, num_workers = kinds[case % len(kinds)]
        index, out = tally.rng.randrange(40), tally.folder / f"case-{case}"
        fault = {"reading": {"index": index, "do": do}}
        job = Job(out, fault=fault, num_workers=num_workers, stall_seconds=stall, epochs=30)
        code = job.wait()
        tally.add_case(
            f"{do} at image {index}, {num_workers} workers; {out}",
            code != (3 if do == "raise" else 1) and f"exit code {code}",
            code != job.state.get("exit_code") and f"run_state {job.state}",
            f"/{index}.png" not in job.state.get("message", "") and f"not named: {job.state.get('message')}",
            job.seconds_until_empty(10) is None and "processes left",
        )
    return tally.line(stall_seconds=stall)


def r13(cases: int, seed: int) -> dict:
    """Kill each process of a job, or stop a rank by SIGSTOP; two ranks with one worker each."""
    tally, num_orphaned = Tally("r13", seed), 0
    kinds = ["rank 0", "launcher", "rank 1", "supervisor", "SIGSTOP", "process"]
    for case in range(cases):
        kind, out = kinds[case % len(kinds)], tally.folder / f"case-{case}"
        job = Job(out, ranks=1 if kind == "process" else 2, supervised=kind == "supervisor", num_workers=1,
                  epochs=1000, save_steps=5)  # fmt: skip
        if not wait_for_step(job, tally.rng.randrange(5, 15)):
            tally.add_case(f"{kind}; {out}", "did not start")
            continue
        rank = {"rank 0": 0, "rank 1": 1, "SIGSTOP": 1, "process": 0}.get(kind)
        pid = job.process.pid if rank is None else job.ranks()[rank]
        os.kill(pid, signal.SIGSTOP if kind == "SIGSTOP" else signal.SIGKILL)
        seconds = job.seconds_until_empty(60 if kind == "SIGSTOP" else 15)
        num_orphaned += seconds is None
        if kind != "SIGSTOP":
            tally.seconds.append(seconds or 15)
        exit_code = read_run_state(out).get("exit_code")
        tally.add_case(
            f"{kind}; {out}",
            seconds is None and "processes left",
            kind in ("launcher", "supervisor") and exit_code != 75 and f"run_state {exit_code}, expected 75: saved",
        )
    return tally.line(orphans=num_orphaned)


def r14(cases: int, seed: int) -> dict:
    """Let a write of rank 0 take 60 s, beside training or at its end, with two ranks; gloo waits 30 s for a rank."""
    tally, expected = Tally("r14", seed), None
    for case in range(cases):
        expected = expected or whole(tally.folder, 2)
        out = tally.folder / f"case-{case}"
        pause = {"phase": "save", "seconds": 60, "marker": str(out) + ".marker", "nth": tally.rng.randrange(1, 8)}
        code = Job(out, ranks=2, fault={"pause": pause}, save_steps=5).wait()
        different = num_different(result(out), expected) if code == 0 else -1
        tally.add_case(f"{out}", code and f"exit code {code}", different and f"{different} differ")
    return tally.line(seconds_of_the_write=60)
