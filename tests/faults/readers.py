"""Readers of images: train, eval, predict, infer and datasets.check, each in a process that a file may kill."""

import ctypes
import importlib.util
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from multiprocessing import Pipe
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import DataError
from configs.schema import AugmentConfig, LoaderConfig, PreprocessConfig, TrainLoaderConfig
from datasets.augment.transforms import build_train_transform, sample_rng
from datasets.constants import BACKEND_PACKAGES
from datasets.preprocess import Preprocess

SIDE, NUM_CLASSES, SEED = 224, 4, 0
MAX_SECONDS, ALARM_SECONDS, MAX_MEGABYTES = 1.0, 20, 200  # for a data set of one or a few images
ADDRESS_SPACE = 600 << 20  # bytes that a reader may add to its memory; more is a MemoryError
FORBIDDEN = ("subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.system", "socket.connect")


class Source(NamedTuple):
    """Data set with a list file or class folders.

    Attributes:
        root: root of the data.
        list_file: list of both splits; None for class folders.
        infer_path: file or folder that predict and infer read.
    """

    root: Path
    list_file: Path | None
    infer_path: Path


class Sample(NamedTuple):
    """One image of a source.

    Attributes:
        path: the file.
        label: its class; None where a reader has no labels.
        result: input of the model, [3, S, S] float32, or the reason why there is none; of the check [2]: H, W.
    """

    path: str
    label: int | None
    result: np.ndarray | str


class Outcome(NamedTuple):
    """Result of reading a source.

    Attributes:
        samples: images that were read before the end or an error.
        error: type and message of the error that ended the reader.
        seconds: processor time.
        megabytes: largest additional memory.
        forbidden: audit events of the interpreter that no image may cause.
    """

    samples: list[Sample]
    error: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0
    forbidden: tuple[str, ...] = ()


class Reader(NamedTuple):
    """Program that reads images, and its image backend."""

    name: str
    backend: str = "pil"

    def __str__(self) -> str:
        return f"{self.name} by {self.backend}"


BACKENDS = [name for name, packages in BACKEND_PACKAGES.items() if all(map(importlib.util.find_spec, packages))]
READERS = [Reader(name, backend) for backend in BACKENDS for name in ("train", "eval", "predict", "infer")]
CHECK, BYTES = Reader("check"), Reader("bytes")


def read_all(reader: Reader, sources: Sequence[Source], exif_orientation: str = "ignore") -> Iterator[Outcome]:
    """Read each source in order; after a source that kills the process another process continues."""
    import datasets.loading.loader  # noqa: F401 (with Paddle, which computes nothing before the forks)
    import deploy.predictor  # noqa: F401

    sources = deque(sources)
    if sources:  # made before the forks, because all processes need it
        warm_up()
    if sources and reader.name == "infer":
        exported()
    while sources:
        receiver, sender = Pipe(duplex=False)
        pid = os.fork()
        if pid == 0:
            receiver.close()
            code = 1
            try:
                _read_sources(reader, list(sources), exif_orientation, sender)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        sender.close()
        try:
            while sources:
                yield receiver.recv()
                sources.popleft()
        except EOFError:
            yield Outcome([], f"the process died: {_ending(pid)}")
            sources.popleft()
        else:
            os.waitpid(pid, 0)


def _ending(pid: int) -> str:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _read_sources(reader: Reader, sources: Sequence[Source], exif_orientation: str, report_to) -> None:
    warnings.simplefilter("ignore")
    signal.alarm(60)
    backend = "pil" if reader.name in ("train", "check", "bytes") else reader.backend
    preprocess = Preprocess(SIDE, exif_orientation=exif_orientation, image_backend=backend)
    read, events = READ_FUNCTIONS[reader.name](reader, preprocess), []
    list(read(warm_up()))
    sys.addaudithook(lambda event, arguments: events.append(event) if event in FORBIDDEN else None)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE, resource.RLIM_INFINITY))
    for source in sources:
        events.clear()
        ctypes.CDLL(None).malloc_trim(0)  # else freed memory of the last file would hide that of this one
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak of the memory
        before, start = _memory("VmRSS"), time.process_time()
        signal.alarm(ALARM_SECONDS)
        samples, error = [], ""
        try:
            for sample in read(source):
                samples.append(sample)
        except DataError as data_error:
            error = f"{type(data_error).__name__} {data_error}"
        except Exception as fault:
            error = f"fault of the project: {fault!r}"
        signal.alarm(0)
        additional = _memory("VmHWM") - before
        report_to.send(Outcome(samples, error, time.process_time() - start, additional, tuple(events)))


def _memory(which: str) -> float:
    """Memory of this process in MB, by its name in /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) / 1024
    return 0.0


@cache
def warm_up() -> Source:
    """Write one good image: reading it first keeps imports and set-up out of the measurements."""
    from tests.datasets.fake_images import fake_image

    root = Path(_scratch().name) / "warm-up"
    (root / "train" / "a").mkdir(parents=True)
    (root / "val").symlink_to("train")
    fake_image(300, 200).save(root / "train" / "a" / "1.jpg")
    return Source(root, None, root / "train")


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    """Create a folder that is removed at the end of this process, and not of its forks."""
    return tempfile.TemporaryDirectory(prefix="faults-readers-")


# --------------------------------------------------------------------------------------- functions of the readers

ReadFunction = Callable[[Source], Iterator[Sample]]


def transform_of(preprocess: Preprocess):
    """Create the transform of crops and flips alone, in which the backends can be compared."""
    return build_train_transform(AugmentConfig(aa=""), PreprocessConfig(preprocess.input_size, "bicubic"))


def training(reader: Reader, preprocess: Preprocess) -> ReadFunction:
    """Read the training images by TrainLoader."""
    from configs.loader import parse
    from configs.schema import TrainConfig
    from datasets.loading.loader import TrainLoader
    from datasets.loading.sampler import TrainSampler
    from factory import open_datasets

    def read(source: Source) -> Iterator[Sample]:
        lists = {"cls_label_path_train": source.list_file, "cls_label_path_val": source.list_file}
        folders = [path for path in Path(source.root).glob("train/*") if os.path.isdir(path)]
        num_classes = NUM_CLASSES if source.list_file else max(1, len(folders))
        flags = {"data_path": source.root, "nb_classes": num_classes} | (lists if source.list_file else {})
        argv = [f"--{name}={value}" for name, value in flags.items()]
        images = open_datasets(parse(TrainConfig, argv, prog="main.py")).train_set
        loader = TrainLoader(
            images,
            transform_of(preprocess),
            preprocess,
            TrainSampler(len(images), 1, 1, 0, 1, SEED),
            TrainLoaderConfig(batch_size=1, num_workers=0, image_backend=reader.backend),
        )
        yield from _of_batches(images, loader.batches(0))

    return read


def evaluation(reader: Reader, preprocess: Preprocess) -> ReadFunction:
    """Read the validation images by EvalLoader."""
    from datasets.loading.loader import EvalLoader
    from datasets.loading.sampler import EvalSampler
    from datasets.reading.dataset import open_dataset

    def read(source: Source) -> Iterator[Sample]:
        images = open_dataset(source.root, "val", source.list_file, NUM_CLASSES)
        loader = EvalLoader(images, preprocess, EvalSampler(len(images), 1), LoaderConfig(1, 0))
        yield from _of_batches(images, loader.batches())

    return read


def _of_batches(images, batches) -> Iterator[Sample]:
    for batch in batches:
        index = int(batch.indices[0])
        yield Sample(images.path(index), images.label(index), batch.images.numpy()[0])


class RecordingEngine:
    """Engine that keeps its inputs."""

    def __init__(self, engine):
        self._engine, self.inputs = engine, deque()

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute logits of images [B, 3, S, S], and keep the first image."""
        self.inputs.append(images[0].copy())
        return self._engine.run(images)


def prediction(reader: Reader, preprocess: Preprocess) -> ReadFunction:
    """Read images as predict.py does."""
    from deploy.engines import EagerEngine

    model, card = _model_and_card(preprocess)
    return _predictions_of(EagerEngine(model), card)


def inference(reader: Reader, preprocess: Preprocess) -> ReadFunction:
    """Read images as infer.py does."""
    from deploy.predictor import open_predictor

    predictor = open_predictor(exported(), engine="paddle")
    return _predictions_of(predictor.engine, replace(predictor.card, preprocess=preprocess))


@cache
def exported() -> Path:
    """Export a model once, in a process of its own, and return the folder."""
    folder = Path(_scratch().name) / "exported"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _export(folder)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0, "no model could be exported"
    return folder


def _export(folder: Path) -> None:
    from deploy.engines import EagerEngine
    from deploy.export.export_folder import export_folder
    from deploy.export.parity import parity_images
    from deploy.predictor import Predictor
    from export_model import program_writer

    model, card = _model_and_card(Preprocess(SIDE))
    images, eager = parity_images(), Predictor(EagerEngine(model), card)
    logits = eager.logits(eager.preprocess(images))
    export_folder(folder, ("paddle",), card, program_writer(model, SIDE), images, logits)


def _model_and_card(preprocess: Preprocess):
    from deploy.card import Card
    from models import create_model

    model = create_model("mobilenet_v3_small_x0_35", num_classes=NUM_CLASSES)
    return model, Card(
        model="mobilenet_v3_small_x0_35",
        architecture=type(model).__name__,
        num_classes=NUM_CLASSES,
        preprocess=preprocess,
        class_names=None,
    )


def _predictions_of(engine, card) -> ReadFunction:
    from datasets.reading.image_folder import find_images
    from deploy.pipeline import predict_files
    from deploy.predictions import PredictionWriter, read_predictions
    from deploy.predictor import Predictor

    engine = RecordingEngine(engine)
    predictor = Predictor(engine, card)

    def read(source: Source) -> Iterator[Sample]:
        """Predict, write and read the predictions in each format, and yield the inputs of the engine."""
        engine.inputs.clear()
        records, paths = list(chain(*predict_files(predictor, find_images(source.infer_path), batch_size=1))), []
        for suffix in (".json", ".jsonl", ".csv"):
            file = source.root / f"records{suffix}"
            with PredictionWriter(file, csv_classes=card.num_classes) as writer:
                writer.write(records)
            paths.append([record["file_name"] for record in read_predictions(file)])
        assert paths[0] == paths[1] == paths[2], "the formats of the predictions differ"
        for record, path in zip(records, paths[0], strict=True):
            yield Sample(path, None, record.get("error") or engine.inputs.popleft())

    return read


def examination(reader: Reader, preprocess: Preprocess) -> ReadFunction:
    """Read images as datasets.check does."""
    from datasets.check.__main__ import open_leniently
    from datasets.check.examine import examine_all

    def read(source: Source) -> Iterator[Sample]:
        list_file = str(source.list_file) if source.list_file else None
        images, _ = open_leniently(str(source.root), "train", list_file, NUM_CLASSES)
        facts, reasons = examine_all(images, num_workers=0, title="")
        for index in range(len(images)):
            size = np.array([facts["height"][index], facts["width"][index]])
            yield Sample(images.path(index), images.label(index), reasons.get(index, size))

    return read


def conversion(reader: Reader, preprocess: Preprocess) -> ReadFunction:
    """Read images as a server does, from their bytes."""
    from datasets.reading.decode import to_rgb
    from datasets.reading.pixels import image_to_input

    def read(source: Source) -> Iterator[Sample]:
        files = [source.infer_path] if source.infer_path.is_file() else sorted(source.infer_path.rglob("*.jpg"))
        for file in files:
            image = to_rgb(file.read_bytes(), preprocess.exif_orientation)
            yield Sample(str(file), None, image_to_input(image, preprocess))

    return read


READ_FUNCTIONS = {
    "train": training,
    "eval": evaluation,
    "predict": prediction,
    "infer": inference,
    "check": examination,
    "bytes": conversion,
}


def training_sample(pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Compute the input of the model for the first image of a training in its first epoch, from decoded `pixels`."""
    from PIL import Image

    transform = transform_of(preprocess)
    choice = transform.draw(sample_rng(SEED, 0, 0), pixels.shape[1::-1])
    return preprocess.normalize(transform.apply(Image.fromarray(pixels), choice))
