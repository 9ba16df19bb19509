"""Time of each kind of layer in a training step of Paddle, forward and backward, by Paddle's profiler."""

import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from benchmarks.rotation import start_contender
from benchmarks.step_contenders import Job, prepare_bare_paddle

NUM_STEPS = 3
# Beginnings of the names of Paddle's kernels; the longest one that fits decides.
KINDS = {
    "convolution": ("conv2d", "depthwise_conv2d"),
    "batch norm": ("batch_norm",),
    "activation": ("relu", "hardswish", "hardsigmoid", "swish"),
    "pooling": ("pool2d", "max_pool2d", "adaptive"),
    "concatenation": ("concat", "split", "stack"),
    "matrix product": ("matmul", "linear", "addmm", "fc"),
    "optimizer": ("momentum", "merged_momentum", "sgd", "adam"),
}
OTHER, OUTSIDE = "other kernels", "outside kernels"


class LayerKinds(NamedTuple):
    """Milliseconds per image of each kind of layer, the largest first, and of the whole step under the profiler."""

    model: str
    side: int
    num_threads: int
    total_ms: float
    milliseconds: dict[str, float]


def measure_layer_kinds(job: Job) -> LayerKinds:
    """Train NUM_STEPS steps of a bare loop under Paddle's profiler, in a process of its own.

    Raises:
        ProjectError: the process ended.
    """
    with start_contender("the profiler", run_profiler, job) as process:
        total_ms, milliseconds = process.measure_round(NUM_STEPS)
    return LayerKinds(job.model, job.side, job.num_threads, total_ms, milliseconds)


def run_profiler(pipe: Connection, job: Job) -> None:
    """Answer one request, a number of steps; the main function of the process."""
    steps = prepare_bare_paddle(job)
    from paddle import profiler

    steps(2)
    pipe.send("ready")
    num_steps = pipe.recv()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile = profiler.Profiler(
            targets=[profiler.ProfilerTarget.CPU],
            on_trace_ready=lambda it: it.export(str(trace), "json"),  # the default writes into ./profiler_log
        )
        profile.start()
        start = time.perf_counter()
        steps(num_steps)
        total_ms = 1000 * (time.perf_counter() - start)
        profile.stop()
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    num_images = num_steps * job.batch_size
    by_kind = sum_by_kind(events, total_ms)
    pipe.send((total_ms / num_images, {kind: value / num_images for kind, value in by_kind.items()}))
    pipe.recv()  # until the process is ended


def sum_by_kind(events: Iterable[dict], total_ms: float) -> dict[str, float]:
    """Sum up the milliseconds of the kernels in a chrome trace by kind; the rest of `total_ms` is outside kernels."""
    milliseconds: Counter = Counter()
    for event in events:
        if match := re.match(r"(\w+) kernel launch", event.get("name", "")):
            milliseconds[kind_of(match[1])] += event["dur"] / 1000
    milliseconds[OUTSIDE] = max(0.0, total_ms - sum(milliseconds.values()))
    return dict(milliseconds.most_common())


def kind_of(kernel: str) -> str:
    """The kind of a kernel of Paddle by its name; its gradient is of the same kind."""
    fitting = [(len(start), kind) for kind, starts in KINDS.items() for start in starts if kernel.startswith(start)]
    return max(fitting)[1] if fitting else OTHER


def print_layer_kinds(kinds: LayerKinds) -> None:
    """Print the share of each kind."""
    shares = [f"{kind} {100 * value / kinds.total_ms:.0f} %" for kind, value in kinds.milliseconds.items()]
    print(f"  time of a step in Paddle: {', '.join(shares)}", flush=True)
