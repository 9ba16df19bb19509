"""Keeps a training running on one machine: `python -m engine.supervise -- python main.py --output_dir DIR ...`.

It starts the command (main.py, or Paddle's launcher with it) with `--resume auto`, and again when it ends by a fault,
waiting longer each time. It stops when the run is finished, when the fault would only come again, when some restarts
in a row (`--patience`) made no progress, and when told to: SIGTERM, SIGINT and SIGUSR1 let the run save and leave.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from common.processes import (
    adopt_orphans,
    children,
    descendants,
    environment_of,
    reap_orphans,
    request_stop_with_parent,
    send_signal,
)

from .run_state import RunRecord, read_run_state

# The same command would end in the same way: wrong flags, data, checkpoint, numbers, missing packages.
FINAL = {2, 3, 4, 5, 6, 7}
PREEMPTED = 75
GRACE_SECONDS = 10.0  # for what a killed launcher leaves behind
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m engine.supervise", description=__doc__.splitlines()[0])
    parser.add_argument("--max_restarts", type=int, default=100, help="restarts in all (default: %(default)s)")
    parser.add_argument("--backoff", type=float, default=1.0, help="seconds before the first restart, then doubled")
    parser.add_argument("--max_backoff", type=float, default=60.0, help="most seconds before a restart")
    parser.add_argument("--patience", type=int, default=2, help="restarts in a row without progress (%(default)s)")
    parser.add_argument("--grace", type=float, default=120.0, help="seconds the run may take to save when told to stop")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command with its --output_dir")
    options = parser.parse_args(argv)
    command = options.command[options.command[:1] == ["--"] :]
    output_dir = _value(command, "--output_dir")
    if not output_dir:
        parser.error("the command needs --output_dir: without checkpoints a restart would begin from nothing")
    resume = _value(command, "--resume")
    if resume not in ("", "auto"):
        parser.error(
            f"with --resume {resume} each restart would go back to that file; --resume auto goes on from the newest "
            "of --output_dir, and a run that is to begin with other weights names them with --finetune"
        )
    if not resume:
        command = [*command, "--resume", "auto"]
    return Supervisor(command, Path(output_dir), options).run()


def _value(command: list[str], flag: str) -> str:
    """The value of a flag, written `--flag value` or `--flag=value`, with hyphens or underscores."""
    for word, following in pairwise([*command, ""]):
        name, equals, value = word.partition("=")
        if name.replace("-", "_") == flag.replace("-", "_"):
            return value if equals else following
    return ""


class Supervisor:
    """One command, started again and again."""

    def __init__(self, command: list[str], output_dir: Path, options: argparse.Namespace):
        self._command, self._output_dir, self._options = command, output_dir, options
        self._child: subprocess.Popen | None = None
        self._told_at: float | None = None  # when a signal asked to stop
        self._is_passed_on = False
        self._ranks: dict[int, str] = {}  # number of each process of the attempt
        self._endings: dict[int, str] = {}

    def run(self) -> int:
        """Exit code of the last attempt, the true one if run_state.json knows it."""
        adopt_orphans()
        for number in SIGNALS:
            signal.signal(number, self._tell)
        without_progress, wait, restarts = 0, self._options.backoff, 0
        while True:
            before = self._progress()
            code, message = self._attempt()
            if code == 0 or code in FINAL or self._told_at:
                self._say(f"ended with {code} {message}".rstrip())
                return code if code == 0 or code in FINAL else PREEMPTED
            is_stuck = self._progress() == before  # after a fallback to an older checkpoint less can be a gain
            without_progress = without_progress + 1 if is_stuck else 0
            wait = min(2 * wait, self._options.max_backoff) if is_stuck else self._options.backoff
            if restarts == self._options.max_restarts or without_progress > self._options.patience:
                why = f"{restarts} restarts" if without_progress <= self._options.patience else "restarts bring nothing"
                self._say(f"gives up after {why}: ended with {code} {message}".rstrip())
                return code
            restarts += 1
            self._say(f"restart {restarts} in {wait:g} s, because the run ended with {code} {message}".rstrip())
            self._sleep(wait)
            if self._told_at:
                return PREEMPTED

    def _attempt(self) -> tuple[int, str]:
        """Start the command and wait until nothing of it is left; exit code and message."""
        before = read_run_state(self._output_dir).get("time")
        self._ranks, self._endings = {}, {}
        environment = {**os.environ, "SUPERVISOR_PROCESS": str(os.getpid())}
        self._child = subprocess.Popen(self._command, env=environment, preexec_fn=request_stop_with_parent)
        while self._child.poll() is None:
            self._watch_ranks()
            if self._told_at and not self._is_passed_on:
                self._pass_on()
            if self._told_at and time.monotonic() > self._told_at + self._options.grace:
                self._say(f"the run did not stop within {self._options.grace:g} s and is killed")
                break
            time.sleep(0.1)
        self._clear()
        code = self._child.wait()
        code = 128 - code if code < 0 else code
        facts = read_run_state(self._output_dir)
        if facts.get("time") != before and facts.get("exit_code") is not None:
            return facts["exit_code"], facts["message"].split("\n")[0]
        if code == 0:  # a machine without rank 0, which has the last word, or whose folder is not shared
            return 0, ""
        message = " and ".join(self._endings.values()) or f"the command ended with {code}"
        RunRecord(self._output_dir).failed(code, message)
        return code, message

    def _watch_ranks(self) -> None:
        """Who is killed cannot say so, and gloo aborts those who talk with him: see here who was the first."""
        for process in children(self._child.pid):
            if process.is_alive and process.pid not in self._ranks:
                self._ranks[process.pid] = environment_of(process.pid).get("PADDLE_TRAINER_ID", "")
            elif not process.is_alive and self._ranks.get(process.pid) and process.exit_status:
                self._endings[process.pid] = f"rank {self._ranks[process.pid]} {process.ending}"

    def _clear(self) -> None:
        """End whatever the command has left behind, after some time: it may be saving."""
        deadline = time.monotonic() + GRACE_SECONDS
        if self._told_at:
            deadline = self._told_at + self._options.grace
        while left := descendants(os.getpid()):
            if time.monotonic() > deadline:
                for process in left:
                    send_signal(process.pid, signal.SIGKILL)
            self._child.poll()
            reap_orphans(self._child.pid)
            time.sleep(0.05)

    def _progress(self) -> tuple[int, int]:
        facts = read_run_state(self._output_dir)
        return facts.get("next_epoch", 0), facts.get("next_step", 0)

    def _tell(self, *_: object) -> None:
        self._told_at = self._told_at or time.monotonic()

    def _pass_on(self) -> None:
        """One SIGUSR1 to the ranks, as soon as there are any: a launcher takes seconds to start them.

        Not to the launcher, which would give them 30 s and three signals.
        """
        is_launcher = any("distributed.launch" in word for word in self._command)
        pids = [process.pid for process in children(self._child.pid)] if is_launcher else [self._child.pid]
        for pid in pids:
            send_signal(pid, signal.SIGUSR1)
        self._is_passed_on = bool(pids)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._told_at and time.monotonic() < until:
            time.sleep(0.05)

    def _say(self, text: str) -> None:
        print(f"supervisor: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
