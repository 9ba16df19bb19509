"""Restarts a training on one machine: `python -m engine.supervise -- python main.py --output_dir DIR ...`.

The supervisor starts the command (main.py, or Paddle's launcher with main.py) with `--resume auto`, and starts it again
when the run ends by a fault; the wait before a restart doubles each time. The supervisor stops when the run is
finished, when the same fault would only come again, when `--patience` restarts in a row made no progress, and when a
signal asks it to: SIGTERM, SIGINT and SIGUSR1 let the run save its state and end.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from common.cli import home_path, non_negative_float, non_negative_int
from common.cli import run as run_program
from common.errors import (
    CheckpointError,
    DataError,
    DiskError,
    MissingDependencyError,
    NonFiniteLossError,
    ParityError,
    Preempted,
    UsageError,
)
from common.printable import print_safely
from common.processes import (
    STOP_SIGNALS,
    adopt_orphans,
    children,
    descendants,
    environment_of,
    reap_orphans,
    request_stop_with_parent,
    send_signal,
)

from .run_state import RunRecord, read_run_state

# Exit codes after which the same command would end in the same way: wrong flags, data, checkpoint, numbers, packages.
FINAL = {
    error.exit_code
    for error in (UsageError, DataError, CheckpointError, NonFiniteLossError, ParityError, MissingDependencyError)
}
GRACE_SECONDS = 10.0  # for the processes that a killed launcher leaves behind


def main(argv: list[str]) -> int:
    """Parse the flags and supervise the command; returns the exit code of the last attempt."""
    parser = argparse.ArgumentParser(prog="python -m engine.supervise", description=__doc__.splitlines()[0])
    number, seconds = non_negative_int, non_negative_float
    parser.add_argument("--max_restarts", type=number, default=100, help="largest number of restarts (%(default)s)")
    parser.add_argument(
        "--backoff",
        type=seconds,
        default=1.0,
        help="seconds before a restart; doubled while restarts bring no progress (%(default)s)",
    )
    parser.add_argument(
        "--max_backoff", type=seconds, default=60.0, help="largest wait before a restart, in seconds (%(default)s)"
    )
    parser.add_argument(
        "--patience", type=number, default=2, help="restarts in a row that may bring no progress (%(default)s)"
    )
    parser.add_argument(
        "--grace", type=seconds, default=120.0, help="seconds that the run may take to save and end (%(default)s)"
    )
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
            "checkpoint of --output_dir, and --finetune names the weights with which a run begins"
        )
    if not shutil.which(command[0]):
        parser.error(f"{command[0]}: no such program; give the command after --, for example -- python main.py ...")
    if not resume:
        command = [*command, "--resume", "auto"]
    return Supervisor(command, home_path(output_dir), options).run()


def _value(command: list[str], flag: str) -> str:
    """The last value of a flag, in the form `--flag value` or `--flag=value`, with hyphens or underscores; else ""."""
    found = ""
    for word, following in pairwise([*command, ""]):
        name, equals, value = word.partition("=")
        if name.replace("-", "_") == flag.replace("-", "_"):
            found = value if equals else following
    return found


class Supervisor:
    """Runs one command, and restarts it after a fault.

    Args:
        command: the program and its arguments, with `--resume auto`.
        output_dir: the value of `--output_dir` in the command, where run_state.json is.
        options: max_restarts, backoff, max_backoff, patience and grace.
    """

    def __init__(self, command: list[str], output_dir: Path, options: argparse.Namespace):
        self._command, self._output_dir, self._options = command, output_dir, options
        self._child: subprocess.Popen | None = None
        self._stop_requested_at: float | None = None  # time.monotonic() of the first signal
        self._is_signal_forwarded = False
        self._is_killed = False  # the last attempt did not stop in time
        self._ranks: dict[int, str] = {}  # process id -> number of the rank, of this attempt
        self._endings: dict[int, str] = {}  # process id -> how the rank ended, in words

    def run(self) -> int:
        """Run the command until it is finished or hopeless.

        Returns:
            The exit code of the last attempt, from run_state.json where it tells one. After a signal that asked to
            stop it is that of a stopped run, unless the run could not save or was killed.
        """
        adopt_orphans()
        for number in STOP_SIGNALS:
            signal.signal(number, self._request_stop)
        num_without_progress, wait, num_restarts = 0, self._options.backoff, 0
        while True:
            before = self._progress()
            code, message = self._attempt()
            if code == 0 or code in FINAL or self._stop_requested_at:
                self._print(f"ended with {code} {message}".rstrip())
                is_lost = self._is_killed or code == DiskError.exit_code  # what 75 promises was not saved
                return code if code == 0 or code in FINAL or is_lost else Preempted.exit_code
            # Fewer steps than before are progress, too: the run went back to an older checkpoint.
            is_stuck = self._progress() == before
            num_without_progress = num_without_progress + 1 if is_stuck else 0
            wait = min(2 * wait, self._options.max_backoff) if is_stuck else self._options.backoff
            is_hopeless = num_without_progress > self._options.patience
            if num_restarts == self._options.max_restarts or is_hopeless:
                why = "restarts bring nothing" if is_hopeless else f"{num_restarts} restarts"
                self._print(f"gives up after {why}: ended with {code} {message}".rstrip())
                return code
            num_restarts += 1
            self._print(f"restart {num_restarts} in {wait:g} s, because the run ended with {code} {message}".rstrip())
            self._sleep(wait)
            if self._stop_requested_at:
                return Preempted.exit_code

    def _attempt(self) -> tuple[int, str]:
        """Start the command and wait until no process of it is left; returns exit code and message."""
        before = read_run_state(self._output_dir).get("time")
        self._ranks, self._endings = {}, {}
        environment = {**os.environ, "SUPERVISOR_PROCESS": str(os.getpid())}
        self._child = subprocess.Popen(self._command, env=environment, preexec_fn=request_stop_with_parent)
        while self._child.poll() is None:
            self._observe_ranks()
            if self._stop_requested_at and not self._is_signal_forwarded:
                self._forward_signal()
            if self._stop_requested_at and time.monotonic() > self._stop_requested_at + self._options.grace:
                self._print(f"the run did not stop within {self._options.grace:g} s and is killed")
                self._is_killed = True
                break
            time.sleep(0.1)
        self._end_descendants()
        code = self._child.wait()
        code = 128 - code if code < 0 else code
        facts = read_run_state(self._output_dir)
        if facts.get("time") != before and facts.get("exit_code") is not None:
            return facts["exit_code"], facts["message"].split("\n")[0]
        if code == 0:  # rank 0, which writes "finished", is on another machine, or the folder is not shared
            return 0, ""
        message = " and ".join(self._endings.values()) or f"the command ended with {code}"
        RunRecord(self._output_dir).failed(code, message)
        return code, message

    def _observe_ranks(self) -> None:
        """Note how each rank ends: a killed rank writes no reason, and gloo then aborts the other ranks."""
        for process in children(self._child.pid):
            if process.is_alive and process.pid not in self._ranks:
                self._ranks[process.pid] = environment_of(process.pid).get("PADDLE_TRAINER_ID", "")
            elif not process.is_alive and self._ranks.get(process.pid) and process.exit_status:
                self._endings[process.pid] = f"rank {self._ranks[process.pid]} {process.ending}"

    def _end_descendants(self) -> None:
        """Wait for the processes that the command left behind, which may be saving; kill them after the grace time."""
        deadline = time.monotonic() + GRACE_SECONDS
        if self._stop_requested_at:
            deadline = self._stop_requested_at + self._options.grace
        while remaining := descendants(os.getpid()):
            if time.monotonic() > deadline:
                for process in remaining:
                    send_signal(process.pid, signal.SIGKILL)
            self._child.poll()
            reap_orphans(self._child.pid)
            time.sleep(0.05)

    def _progress(self) -> tuple[int, int]:
        facts = read_run_state(self._output_dir)
        return facts.get("next_epoch", 0), facts.get("next_step", 0)

    def _request_stop(self, *_: object) -> None:
        self._stop_requested_at = self._stop_requested_at or time.monotonic()

    def _forward_signal(self) -> None:
        """Send one SIGUSR1 to the ranks, as soon as there are any: a launcher takes seconds to start them.

        The launcher gets no signal: it would end the ranks after 30 s, and send them three signals before.
        """
        is_launcher = any("distributed.launch" in word for word in self._command)
        pids = [process.pid for process in children(self._child.pid)] if is_launcher else [self._child.pid]
        for pid in pids:
            send_signal(pid, signal.SIGUSR1)
        self._is_signal_forwarded = bool(pids)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stop_requested_at and time.monotonic() < until:
            time.sleep(0.05)

    def _print(self, text: str) -> None:
        print_safely(f"supervisor: {text}", sys.stderr)


if __name__ == "__main__":
    run_program(main)
