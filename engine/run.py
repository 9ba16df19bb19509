"""Run: one process of a training with its rank, its signal handlers, its watchdog and its records."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paddle

from common.cli import is_program
from configs.schema import TrainConfig

from .distributed import Ranks, any_rank, choose_device, gather_members, init_ranks
from .preemption import Preemption
from .progress.epoch_log import EpochLog
from .progress.live_line import NOT_SHOWN, LiveLine, is_terminal
from .progress.plots import CurvesPlot
from .progress.step_log import StepLog
from .run_state import RunRecord
from .watchdog import Watchdog

logger = logging.getLogger(__name__)

EVAL_LOG_EVERY = 10  # batches between two lines of an evaluation, as in the predecessor


@dataclass(frozen=True)
class Run:
    """What training and evaluation need to know of their process. `Run()` is a single process without an output folder.

    Attributes:
        ranks: number of this process and of all processes.
        members: host and process id of every rank.
        output_dir: folder of checkpoints and logs; None saves nothing.
        log_every: steps between two log lines of the training.
        sync_every: steps between two exchanges of losses and signals among the ranks. An exchange waits for the
            device, so its default is 1 on a CPU and `log_every` on a GPU.
        preemption: handlers of the signals that ask the run to stop; None handles none.
        watchdog: ends a process in which nothing moves; None waits without end.
        record: writes run_state.json.
        epoch_log: writes log.txt.
        step_log: writes metrics.jsonl, and sends its lines to the trackers of --log_to.
        live: the line of a terminal.
    """

    ranks: Ranks = field(default_factory=Ranks)
    members: tuple[tuple[str, int], ...] = ()
    output_dir: Path | None = None
    log_every: int = 20
    sync_every: int | None = None
    preemption: Preemption | None = None
    watchdog: Watchdog | None = None
    record: RunRecord = field(default_factory=RunRecord)
    epoch_log: EpochLog = field(default_factory=EpochLog)
    step_log: StepLog = field(default_factory=StepLog)
    live: LiveLine = NOT_SHOWN

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_) -> None:
        """Stop the watchdog, and give the signals back in a process that goes on, as a notebook does."""
        if self.watchdog:
            self.watchdog.stop()
        if self.preemption and not is_program():
            self.preemption.uninstall()

    @property
    def steps_per_sync(self) -> int:
        """Steps between two exchanges among the ranks."""
        return self.sync_every or (1 if is_on_cpu() else self.log_every)

    @property
    def is_stop_requested(self) -> bool:
        """Whether a signal asked this process to stop."""
        return self.preemption is not None and self.preemption.requested

    def watch(self, batches: Iterable, what: str, waiting_for: Callable[[], str] = str) -> Iterator:
        """Yield the same batches and report them to the watchdog; the arguments are those of `Watchdog.watch`."""
        return self.watchdog.watch(batches, what, waiting_for) if self.watchdog else iter(batches)

    def interruptible(self, batches: Iterable, num_common: int) -> Iterator:
        """Yield the same batches until a rank is asked to stop; every rank has at least `num_common` batches.

        Raises:
            Preempted: on all ranks before the same batch.
        """
        if self.preemption is None:
            return iter(batches)
        return self.preemption.interrupting(batches, num_common, any_rank, every=self.steps_per_sync)


def is_on_cpu() -> bool:
    """Whether this process computes on a CPU."""
    return paddle.get_device() == "cpu"


def start_run(config: TrainConfig, record: RunRecord) -> Run:
    """Install the signal handlers, choose the device, connect to the other ranks and open the records.

    The run is a context: at its end the watchdog stops, which would end a notebook when nothing moves in it.

    Raises:
        MissingDependencyError: a GPU is asked for where there is none.
    """
    output_dir = Path(config.output.output_dir) if config.output.output_dir else None
    preemption = Preemption().install()
    watchdog = Watchdog(config.run.stall_seconds, preemption=preemption, record=record).start()
    choose_device(config.device.device)
    ranks = init_ranks()
    return Run(
        ranks=ranks,
        members=tuple(gather_members()),
        output_dir=output_dir,
        log_every=config.output.log_every,
        preemption=preemption,
        watchdog=watchdog,
        record=record,
        epoch_log=EpochLog(
            output_dir, ranks.rank, [CurvesPlot(output_dir, config.schedule.epochs)] if output_dir else []
        ),
        live=LiveLine(ranks.rank == 0 and is_terminal(), config.schedule.epochs),
    )
