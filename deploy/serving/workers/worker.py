"""The main function of an engine process: load and verify an exported folder, then answer the server's messages."""

import json
import os
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import ProjectError
from common.processes import exit_with_parent

from ...classifier import is_exported, open_exported
from ...engine_base import EngineOptions
from ...predictor import Predictor
from ..errors import ServingError, engine_away
from .batching import Answer, Batcher, Job
from .frames import TIMES, Frame, Kind, receive_frame

NICENESS = 5  # of the engine process: where it shares a processor with the server, refusals and health checks go first
MAX_DECODERS = 4  # threads; a decoder may take 170 MB (datasets.reading.limits)


@dataclass(frozen=True)
class WorkerSettings:
    """What an engine process is started with.

    Args:
        folder: exported folder.
        engine: name in `deploy.engines.ENGINES`, or "auto".
        device: "auto", "cpu" or "gpu".
        num_threads: of the engine; None: one per usable processor.
        precision: one of `deploy.classifier.PRECISIONS`.
        max_batch_size: images in a batch.
        max_delay_ms: how long an incomplete batch waits for images that are being decoded.
    """

    folder: str
    engine: str = "auto"
    device: str = "auto"
    num_threads: int | None = None
    precision: str = "fp32"
    max_batch_size: int = 8
    max_delay_ms: float = 2.0


def run_worker(channel: socket.socket, settings: WorkerSettings) -> None:
    """Run until the server closes its end of `channel`, or ends."""
    exit_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to both; the server decides when to end
    os.nice(NICENESS)  # before threads are started, which inherit it
    os.dup2(2, 1)  # what runtimes print must not come between the log lines of the server
    try:
        predictor = _load(settings)
    except ProjectError as error:
        failure = {"exit_code": error.exit_code, "message": str(error)}
        _send(channel, Frame(Kind.FAILED, body=json.dumps(failure).encode()))
        return
    lock = threading.Lock()

    def report(job: Job, answer: Answer | ServingError) -> None:
        frame = frame_of(job, answer)
        with lock:
            _send(channel, frame)

    batcher = Batcher(
        predictor,
        report,
        num_decoders=min(MAX_DECODERS, max(2, EngineOptions(num_threads=settings.num_threads).threads)),
        max_batch_size=settings.max_batch_size,
        max_delay_seconds=settings.max_delay_ms / 1000,
    )
    _send(channel, Frame(Kind.READY, body=json.dumps(describe(predictor)).encode()))
    side = predictor.card.preprocess.input_size
    while frame := receive_frame(channel):
        if frame.kind == Kind.CANCEL:
            batcher.cancel(frame.job)
        elif frame.kind == Kind.IMAGE:
            batcher.submit(Job(frame.job, frame.body, frame.deadline))
        elif len(frame.body) == 4 * 3 * side**2:
            tensor = np.frombuffer(frame.body, np.float32).reshape(3, side, side)
            batcher.submit(Job(frame.job, tensor, frame.deadline))
        else:  # made for the model before a reload
            report(Job(frame.job, frame.body, frame.deadline), engine_away())
    os._exit(0)  # at once: the server has all answers that it waits for, or is gone


def _load(settings: WorkerSettings) -> Predictor:
    """Open the folder as infer.py does, and compute a batch of each size that is common."""
    path = Path(settings.folder)
    is_exported(path)  # an error that says what the path is
    predictor = open_exported(
        path, settings.engine, settings.device, settings.num_threads, None, False, settings.precision
    )
    side = predictor.card.preprocess.input_size
    for size in {1, settings.max_batch_size}:
        predictor.run(np.zeros((size, 3, side, side), np.float32))
    return predictor


def describe(predictor: Predictor) -> dict:
    """What the server must know of a model: the card, and the engine in words."""
    card = predictor.card
    return {
        "model": card.model,
        "architecture": card.architecture,
        "num_classes": card.num_classes,
        "class_names": list(predictor.class_names) if predictor.class_names else None,
        "preprocess": card.preprocess.to_dict(),
        "temperature": card.temperature,
        "metrics": {name: value for name, value in card.metrics.items() if isinstance(value, int | float)},
        "created": card.created,
        "engine_name": getattr(predictor.engine, "name", ""),
        "engine": predictor.engine.description,
    }


def frame_of(job: Job, answer: Answer | ServingError) -> Frame:
    """The message that answers a job."""
    if isinstance(answer, ServingError):
        names = ("status", "kind", "message", "retry_after")
        refusal = {name: getattr(answer, name) for name in names}
        return Frame(Kind.REFUSED, job.number, body=json.dumps(refusal).encode())
    times = TIMES.pack(answer.queue_seconds, answer.decode_seconds, answer.compute_seconds, answer.batch_size)
    return Frame(Kind.RESULT, job.number, body=times + answer.logits.astype(np.float32).tobytes())


def _send(channel: socket.socket, frame: Frame) -> None:
    channel.sendall(frame.header() + frame.body)
