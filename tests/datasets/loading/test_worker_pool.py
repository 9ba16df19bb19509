"""Holds threads to what processes do, and the choice between them to what a machine can."""

import contextlib
import io
import multiprocessing
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from common.errors import BadImage, DataError, MissingDependencyError
from configs.schema import AugmentConfig, LoaderConfig, PreprocessConfig, TrainLoaderConfig
from datasets.augment.transforms import build_train_transform
from datasets.loading import worker_pool
from datasets.loading.loader import EvalLoader, TrainLoader
from datasets.loading.sample import EvalSampleMaker, Task
from datasets.loading.sampler import EvalSampler, TrainSampler
from datasets.loading.worker_pool import ProcessPool, ThreadPool, open_pool, shared_memory_shortage
from datasets.preprocess import Preprocess
from tests.datasets.fake_images import FaultySamples, encoded, picture, write_pictures

PREPROCESS = Preprocess(16)
SAMPLES = EvalSampleMaker(PREPROCESS)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"), 33)


@pytest.fixture(autouse=True)
def nothing_is_left():
    worker_pool._warn.cache_clear()
    threads = set(threading.enumerate())
    yield
    wait_until(lambda: not multiprocessing.active_children())
    wait_until(lambda: not {thread for thread in threading.enumerate() if "images" in thread.name} - threads)


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def train_batches(images, num_workers, worker_type="thread"):
    transform = build_train_transform(AugmentConfig(aa="rand-m9-mstd0.5-inc1"), PreprocessConfig(16, "random"))
    sampler = TrainSampler(len(images), 4, 1, 0, 1, seed=5)
    loader = TrainLoader(images, transform, PREPROCESS, sampler, TrainLoaderConfig(4, num_workers, worker_type))
    for epoch in (0, 1):
        yield from ((batch.images.numpy().tobytes(), batch.labels.numpy().tobytes()) for batch in loader.batches(epoch))


def test_threads_make_the_same_bytes(images):
    expected = list(train_batches(images, 0))
    assert len(expected) == 16
    for num_workers in (1, 2, 5):
        assert list(train_batches(images, num_workers)) == expected


def test_a_bad_image_and_a_mistake_reach_the_caller_from_a_thread(tmp_path):
    images = write_pictures(tmp_path, 9)
    (tmp_path / "6.png").unlink()
    with pytest.raises(BadImage, match=r"6\.png: No such file or directory \(named by l\.txt:7\)"):
        list(EvalLoader(images, PREPROCESS, EvalSampler(9, 2), LoaderConfig(2, 2, "thread")).batches())
    with pytest.raises(DataError, match=r"(?s)0\.png: no sample could be made of it.*ZeroDivisionError"):
        loader = EvalLoader(images, PREPROCESS, EvalSampler(9, 4), LoaderConfig(4, 2, "thread"))
        loader._samples = FaultySamples(PREPROCESS)
        list(loader.batches())


def test_an_image_that_does_not_come_is_named_and_a_pool_that_is_left_ends_with_it(images, monkeypatch):
    stuck, go_on, read = threading.Event(), threading.Event(), []

    def wait_at_third(path, preprocess):
        read.append(path)
        if path.endswith("/2.png"):
            stuck.set()
            assert go_on.wait(20)
        return np.zeros((16, 16, 3), np.uint8)

    monkeypatch.setattr("datasets.loading.sample.read_pixels", wait_at_third)
    threads = ThreadPool(SAMPLES, 8, 1)
    paths = [images.path(i) for i in range(8)]
    found = threads.batches(Task(0, np.arange(8), paths) for _ in range(4))
    assert threads.current_image() == ""
    reader = threading.Thread(target=_read_until_closed, args=(found,))
    reader.start()
    assert stuck.wait(20)
    wait_until(lambda: threads.current_image() == f"{images.path(2)} (image 2)")
    threads.close()
    go_on.set()
    reader.join(20)
    assert [Path(path).stem for path in read] == ["0", "1", "2"]


def _read_until_closed(batches):
    with contextlib.suppress(CancelledError):
        next(batches)


def test_leaving_early_ends_the_threads(images):
    batches = EvalLoader(images, PREPROCESS, EvalSampler(33, 2), LoaderConfig(2, 2, "thread")).batches()
    next(batches)
    assert any("images" in thread.name for thread in threading.enumerate())
    batches.close()  # the fixture looks


@pytest.mark.parametrize(("free_mb", "is_enough"), [(1000, True), (7, True), (5, False), (0, False)])
def test_too_little_shared_memory_means_threads_and_a_remedy(images, free_mb, is_enough, monkeypatch, capsys):
    large = EvalSampleMaker(Preprocess(256))  # 196,608 bytes an image: 1.5 MB for two batches of 4
    monkeypatch.setattr(worker_pool.os.path, "isdir", lambda path: True)
    monkeypatch.setattr(worker_pool.shutil, "disk_usage", lambda path: SimpleNamespace(free=free_mb * 2**20))
    remark = shared_memory_shortage(large, 4, 4)
    assert (remark == "") == is_enough
    if not is_enough:
        assert f"has {free_mb} MB free, 4 processes need 6" in remark and "--shm-size" in remark
        for _ in range(2):
            started = open_pool(large, 4, 4, "auto")
            assert isinstance(started, ThreadPool)
            started.close()
        assert capsys.readouterr().err.count("continuing with 4 threads, which make the same batches") == 1
        with pytest.raises(MissingDependencyError, match="--worker_type auto continues with threads") as caught:
            open_pool(large, 4, 4, "process")
        assert caught.value.exit_code == 7


def test_a_machine_that_starts_no_process_gets_threads(images, monkeypatch, capsys):
    def refuse(process):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", refuse)
    assert list(train_batches(images, 2, "auto")) == list(train_batches(images, 0))
    assert capsys.readouterr().err == (
        "warning: no process can be started to read images ([Errno 1] Operation not permitted): continuing with "
        "2 threads, which make the same batches\n"
    )


def test_a_process_that_ends_at_its_start_is_noticed(monkeypatch, capfd):
    monkeypatch.setattr(worker_pool, "_run_worker", print)
    with pytest.raises(ChildProcessError, match="ended at its start, exit code 0"):
        ProcessPool(SAMPLES, 2, 2)


def test_processes_are_the_rule():
    started = open_pool(SAMPLES, 2, 1, "auto")
    assert isinstance(started, ProcessPool)
    started.close()


def test_a_program_without_a_file_gets_threads(images):
    """As in a pipe or in some notebooks: a spawned process could not import `__main__`."""
    program = f"""
from configs.schema import LoaderConfig
from datasets.loading.loader import EvalLoader
from datasets.loading.sampler import EvalSampler
from datasets.preprocess import Preprocess
from datasets.reading.image_list import ImageList
images = ImageList({str(images.root)!r}, [b"0.png", b"1.png"], [0, 1])
loader = EvalLoader(images, Preprocess(16), EvalSampler(2, 1), LoaderConfig(1, 1))
print(sum(len(batch.indices) for batch in loader.batches()))
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable], input=program, cwd=root, capture_output=True, text=True)
    assert done.stdout == "2\n" and "continuing with 1 threads" in done.stderr, done.stderr


def _calls_that_take_long():
    cv2, simplejpeg = pytest.importorskip("cv2"), pytest.importorskip("simplejpeg")
    large = picture(3600, 3200)
    data, pixels = encoded(large, "JPEG", quality=90), np.asarray(large)
    yield "Pillow decodes", lambda: Image.open(io.BytesIO(data)).load()
    yield "Pillow resizes", lambda: large.resize((3500, 3100), Image.Resampling.BICUBIC)
    yield "OpenCV resizes", lambda: cv2.resize(pixels, (5600, 5200), interpolation=cv2.INTER_CUBIC)
    yield "simplejpeg decodes", lambda: simplejpeg.decode_jpeg(data)


def _lets_others_run(call) -> bool:
    """Whether this thread runs while another one is in `call`.

    With a switch interval of an hour Python takes its lock from no thread: this thread runs only when `call` releases
    the lock. `call` is repeated, because the system may wake this thread too late for the first repetitions.
    """
    begun, seen, ended = threading.Event(), threading.Event(), threading.Event()

    def repeat():
        begun.set()
        for _ in range(20):
            call()
            if seen.is_set():
                break
        ended.set()

    thread = threading.Thread(target=repeat)
    thread.start()
    begun.wait()
    is_running = not ended.is_set()
    seen.set()
    thread.join()
    return is_running


def test_threads_have_little_need_of_pythons_lock():
    """Else one would be as good as many, and the training would wait for each image."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    try:
        assert not _lets_others_run(lambda: sum(range(100_000)))
        for name, call in _calls_that_take_long():
            assert _lets_others_run(call), f"{name} and holds the lock"
    finally:
        sys.setswitchinterval(interval)


def test_a_process_that_may_have_no_children_goes_on_with_threads(monkeypatch, capsys):
    """As every worker of a multiprocessing.Pool."""

    def refuse(*arguments):
        raise AssertionError("daemonic processes are not allowed to have children")

    monkeypatch.setattr("datasets.loading.worker_pool.ProcessPool", refuse)
    threads = open_pool(SAMPLES, 2, 1, "auto")
    threads.close()
    assert isinstance(threads, ThreadPool) and "not allowed to have children" in capsys.readouterr().err
