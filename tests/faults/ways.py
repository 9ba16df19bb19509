"""The ways of pictures into a model, each in a process that may die of them: training, evaluation, predict, infer."""

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
MAX_SECONDS, ALARM_SECONDS, MAX_MEGABYTES = 1.0, 5, 200  # of a data set of one or a few pictures
ADDRESS_SPACE = 600 << 20  # more than a way has when it begins: what asks for more gets a MemoryError
FORBIDDEN = ("subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.system", "socket.connect")


class Source(NamedTuple):
    """What a way is pointed to: a data set, with a list or folders of classes, and what predict.py is given of it."""

    root: Path
    list_file: Path | None
    named: Path


class Sample(NamedTuple):
    path: str
    label: int | None
    found: np.ndarray | str  # what the model is fed, [3, S, S] float32, or why it is not; of the doctor [2]: H, W


class Outcome(NamedTuple):
    """What became of a source."""

    samples: list[Sample]
    error: str = ""  # of what ended the way, behind the name of its type
    seconds: float = 0.0  # of the processor
    megabytes: float = 0.0  # more at most than before
    forbidden: tuple[str, ...] = ()  # events of the interpreter that no picture should cause


class Way(NamedTuple):
    name: str
    backend: str = "pil"

    def __str__(self) -> str:
        return f"{self.name} by {self.backend}"


BACKENDS = [name for name, packages in BACKEND_PACKAGES.items() if all(map(importlib.util.find_spec, packages))]
WAYS = [Way(name, backend) for backend in BACKENDS for name in ("train", "eval", "predict", "infer")]
DOCTOR = Way("doctor")


def follow(way: Way, sources: Sequence[Source], exif_orientation: str = "ignore") -> Iterator[Outcome]:
    """What becomes of each source, in order. A process that died is an outcome too, and another goes on after it."""
    import datasets.loading.loader  # noqa: F401 (with Paddle, which computes nothing before the forks)
    import deploy.predictor  # noqa: F401

    sources = deque(sources)
    if sources:  # what all processes of a way need is made before them
        warm_up()
    if sources and way.name == "infer":
        exported()
    while sources:
        here, there = Pipe(duplex=False)
        pid = os.fork()
        if pid == 0:
            here.close()
            code = 1
            try:
                _work(way, list(sources), exif_orientation, there)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        there.close()
        try:
            while sources:
                yield here.recv()
                sources.popleft()
        except EOFError:
            yield Outcome([], f"the process died: {_ending(pid)}")
            sources.popleft()
        else:
            os.waitpid(pid, 0)


def _ending(pid: int) -> str:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _work(way: Way, sources: Sequence[Source], exif_orientation: str, report_to) -> None:
    warnings.simplefilter("ignore")
    signal.alarm(60)
    backend = "pil" if way.name in ("train", "doctor") else way.backend
    preprocess = Preprocess(SIDE, exif_orientation=exif_orientation, image_backend=backend)
    read, events = READERS[way.name](way, preprocess), []
    list(read(warm_up()))
    sys.addaudithook(lambda event, arguments: events.append(event) if event in FORBIDDEN else None)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE, resource.RLIM_INFINITY))
    for source in sources:
        events.clear()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew at what is used now
        before, start = _memory("VmRSS"), time.process_time()
        signal.alarm(ALARM_SECONDS)
        samples, error = [], ""
        try:
            for sample in read(source):
                samples.append(sample)
        except DataError as ending:
            error = f"{type(ending).__name__} {ending}"
        except Exception as mistake:
            error = f"mistake: {mistake!r}"
        signal.alarm(0)
        more = _memory("VmHWM") - before
        report_to.send(Outcome(samples, error, time.process_time() - start, more, tuple(events)))


def _memory(which: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) / 1024
    return 0.0


@cache
def warm_up() -> Source:
    """A good picture: what is imported and set up for the first one is no matter of a later one."""
    from tests.datasets.fake_images import fake_image

    root = Path(_scratch().name) / "warm-up"
    (root / "train" / "a").mkdir(parents=True)
    (root / "val").symlink_to("train")
    fake_image(300, 200).save(root / "train" / "a" / "1.jpg")
    return Source(root, None, root / "train")


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    """Goes with this process, and not with those that are forked from it."""
    return tempfile.TemporaryDirectory(prefix="faults-ways-")


# ----------------------------------------------------------------------------------------------- each way by its name

Reader = Callable[[Source], Iterator[Sample]]


def transform_of(preprocess: Preprocess):
    """Crops and flips alone: on these the backends can be compared."""
    return build_train_transform(AugmentConfig(aa=""), PreprocessConfig(preprocess.input_size, "bicubic"))


def training(way: Way, preprocess: Preprocess) -> Reader:
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
        images, _ = open_datasets(parse(TrainConfig, argv, prog="main.py"), check_files=True)
        loader = TrainLoader(
            images,
            transform_of(preprocess),
            preprocess,
            TrainSampler(len(images), 1, 1, 0, 1, SEED),
            TrainLoaderConfig(batch_size=1, num_workers=0, image_backend=way.backend),
        )
        yield from _of_batches(images, loader.batches(0))

    return read


def evaluation(way: Way, preprocess: Preprocess) -> Reader:
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


class Watched:
    """An engine that remembers what it was fed."""

    def __init__(self, engine):
        self._engine, self.fed = engine, deque()

    def run(self, images: np.ndarray) -> np.ndarray:
        self.fed.append(images[0].copy())
        return self._engine.run(images)


def prediction(way: Way, preprocess: Preprocess) -> Reader:
    from deploy.engines import EagerEngine

    model, card = _model_and_card(preprocess)
    return _answers_of(EagerEngine(model), card)


def inference(way: Way, preprocess: Preprocess) -> Reader:
    from deploy.predictor import open_predictor

    predictor = open_predictor(exported(), engine="paddle")
    return _answers_of(predictor.engine, replace(predictor.card, preprocess=preprocess))


@cache
def exported() -> Path:
    """A folder of export_model.py, made once, in a process of its own."""
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


def _answers_of(engine, card) -> Reader:
    from datasets.reading.image_folder import find_images
    from deploy.pipeline import predict_files
    from deploy.predictions import PredictionWriter, read_predictions
    from deploy.predictor import Predictor

    engine = Watched(engine)
    predictor = Predictor(engine, card)

    def read(source: Source) -> Iterator[Sample]:
        """What --save_path keeps and gives back, in each of its forms, beside what the engine was fed."""
        engine.fed.clear()
        found, paths = list(chain(*predict_files(predictor, find_images(source.named), batch_size=1))), []
        for suffix in (".json", ".jsonl", ".csv"):
            file = source.root / f"records{suffix}"
            with PredictionWriter(file) as writer:
                writer.write(found)
            paths.append([record["file_name"] for record in read_predictions(file)])
        assert paths[0] == paths[1] == paths[2], "the forms of the records differ"
        for record, path in zip(found, paths[0], strict=True):
            yield Sample(path, None, record.get("error") or engine.fed.popleft())

    return read


def examination(way: Way, preprocess: Preprocess) -> Reader:
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


READERS = {
    "train": training,
    "eval": evaluation,
    "predict": prediction,
    "infer": inference,
    "doctor": examination,
}


def training_sample(pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """What training makes of the first picture of a data set in its first epoch, given its decoded `pixels`."""
    from PIL import Image

    transform = transform_of(preprocess)
    choice = transform.draw(sample_rng(SEED, 0, 0), pixels.shape[1::-1])
    return preprocess.normalize(transform.apply(Image.fromarray(pixels), choice))
