"""The report of --enable_benchmark: the sections of AutoLog 1.2.0, and percentiles and throughput."""

import importlib.metadata
import os
import platform
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from common.processes import peak_memory_mb

STAGES = ("preprocess_time", "inference_time", "postprocess_time")


class StageTimer:
    """Measure the seconds of each stage of each batch; the methods are those of `times` in AutoLog."""

    def __init__(self):
        self.batches: list[list[float]] = []

    def start(self) -> None:
        """Begin a batch."""
        self.batches.append([])
        self._last = time.perf_counter()

    def stamp(self) -> None:
        """End a stage, which lasted since the call before."""
        now = time.perf_counter()
        self.batches[-1].append(now - self._last)
        self._last = now

    def end(self, stamp: bool = True) -> None:
        """End the batch, and with `stamp` its last stage."""
        if stamp:
            self.stamp()


@dataclass(frozen=True)
class Conditions:
    """Model, engine and settings of a run, for the head of the report."""

    model_name: str
    engine: str
    device: str  # cpu or gpu
    precision: str
    batch_size: int
    input_size: int
    num_images: int
    ir_optim: bool
    tensorrt: bool
    onednn: bool
    memory_optim: bool
    num_threads: int


class BenchmarkReport:
    """Collect the times of a run and print them at its end; AutoLog prints too if it is installed."""

    def __init__(self, conditions: Conditions, save_path: str):
        """Create the timers. `save_path` is the log file of AutoLog."""
        self._conditions, self._times = conditions, StageTimer()
        self._auto_logger = _auto_logger(conditions, save_path)
        self.timers = [self._times, *([self._auto_logger.times] if self._auto_logger else [])]

    def print(self) -> None:
        """Print the report to stdout in the format of AutoLog's logger."""
        if self._auto_logger:
            with suppress(SystemExit):  # AutoLog ends the process after its report
                self._auto_logger.report()
        for line in report_lines(self._conditions, self._times):
            print(time.strftime("[%Y/%m/%d %H:%M:%S] root INFO: ") + line, flush=True)


def report_lines(conditions: Conditions, times: StageTimer) -> list[str]:
    """Format the report in the order and words of AutoLog; lines that AutoLog does not have end their section."""
    return [
        "",
        *_section("Env info", _environment()),
        *_section("Paddle info", _paddle()),
        *_section("Conf info", _configuration(conditions)),
        *_section("Model info", {"model_name": conditions.model_name, "precision": conditions.precision}),
        *_section(
            "Data info",
            {
                "batch_size": conditions.batch_size,
                "input_shape": f"3,{conditions.input_size},{conditions.input_size}",
                "data_num": len(times.batches),
                "image_num": conditions.num_images,
            },
        ),
        *_section("Perf info", {}),
        *_performance(conditions, times),
    ]


def _auto_logger(conditions: Conditions, save_path: str):
    """Create an AutoLogger if the package auto_log is installed, else return None."""
    try:
        from auto_log import AutoLogger
    except ImportError:
        return None
    return AutoLogger(
        model_name=conditions.model_name,
        model_precision=conditions.precision,
        batch_size=conditions.batch_size,
        data_shape="dynamic",
        save_path=save_path,
        inference_config=None,
        pids=os.getpid(),
        process_name=None,
        gpu_ids=0 if conditions.device == "gpu" else None,
        time_keys=list(STAGES),
        warmup=0,
    )


def _section(title: str, lines: dict) -> list[str]:
    return [f"---------------------- {title} ----------------------", *(f" {key}: {lines[key]}" for key in lines)]


def _environment() -> dict:
    cuda = cudnn = None
    if "paddle" in sys.modules:
        import paddle

        cuda, cudnn = paddle.version.cuda(), paddle.version.cudnn()
    return {
        "OS_version": platform.platform(),
        "CUDA_version": cuda,
        "CUDNN_version": cudnn,
        "drivier_version": None,  # AutoLog's spelling
    }


def _paddle() -> dict:
    commit = sys.modules["paddle"].version.commit if "paddle" in sys.modules else None
    return {"paddle_version": _version("paddlepaddle"), "paddle_commit": commit, "log_api_version": "1.0"}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _configuration(conditions: Conditions) -> dict:
    return {
        "runtime_device": conditions.device,
        "ir_optim": conditions.ir_optim,
        "enable_memory_optim": conditions.memory_optim,
        "enable_tensorrt": conditions.tensorrt,
        "enable_mkldnn": conditions.onednn,
        "cpu_math_library_num_threads": conditions.num_threads,
        "engine": conditions.engine,
    }


def _performance(conditions: Conditions, times: StageTimer) -> list[str]:
    milliseconds = 1000 * np.array(times.batches)  # [batches, stages]
    whole = milliseconds.sum(axis=1)
    means = ", ".join(f"{stage}(ms): {mean:.4f}" for stage, mean in zip(STAGES, milliseconds.mean(axis=0), strict=True))
    lines = [
        f" cpu_rss(MB): {peak_memory_mb():.4f}, gpu_rss(MB): None, gpu_util: None%",
        f" total time spent(s): {whole.sum() / 1000:.4f}",
        f" {means}",
    ]
    for stage, column in zip((*STAGES, "batch_time"), (*milliseconds.T, whole), strict=True):
        p50, p90, p99 = np.percentile(column, (50, 90, 99))
        per_image = column.sum() / max(conditions.num_images, 1)
        lines.append(f" {stage}(ms) p50: {p50:.4f}, p90: {p90:.4f}, p99: {p99:.4f}, per image: {per_image:.4f}")
    return [*lines, f" throughput(images/s): {1000 * conditions.num_images / whole.sum():.4f}"]
