"""Worker pools: processes, threads and the calling thread fill the same batches, and a machine gets what it can run."""

import contextlib
import io
import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from common.errors import BadImage, DataError, MissingDependencyError
from datasets.loading import process_pool, worker_pool
from datasets.loading.sample import EvalSampleMaker, Task
from datasets.loading.sampler import TrainSampler
from datasets.loading.worker_pool import ProcessPool, SerialPool, ThreadPool, open_pool, shared_memory_shortage
from datasets.preprocess import Preprocess
from tests.datasets.fake_images import FaultySamples, encode_image, fake_image, write_fake_images
from tests.datasets.loaders import PREPROCESS, as_bytes, open_eval_loader, open_train_loader, wait_until

SAMPLES = EvalSampleMaker(PREPROCESS)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_fake_images(tmp_path_factory.mktemp("images"), 33)


@pytest.fixture(autouse=True)
def no_worker_is_left():
    worker_pool._warn.cache_clear()
    threads = set(threading.enumerate())
    yield
    wait_until(lambda: not multiprocessing.active_children())
    wait_until(lambda: not {thread for thread in threading.enumerate() if "images" in thread.name} - threads)


def two_epochs(images, num_workers, worker_type="thread"):
    sampler = TrainSampler(len(images), 4, 1, 0, 1, seed=5)
    loader = open_train_loader(images, sampler, num_workers=num_workers, worker_type=worker_type)
    return [part for epoch in (0, 1) for part in as_bytes(loader.batches(epoch))]


@pytest.mark.parametrize("pool_of", [SerialPool, lambda *how: ThreadPool(*how, 2), lambda *how: ProcessPool(*how, 2)])
def test_every_pool_fills_the_same_batches_in_order(images, pool_of):
    batches = [np.array([0, 1, 2]), np.array([3, 4, 5]), np.array([6, 7, 8]), np.array([9, 10, 11]), np.array([12])]
    tasks = [Task(0, indices, [images.path(i) for i in indices]) for indices in batches]
    expected = [[SAMPLES.make(images.path(i), 0, i) for i in indices] for indices in batches]
    pool = pool_of(SAMPLES, 3)
    filled = [(task, rows.copy(), failures) for task, rows, failures in pool.batches(tasks)]
    assert [task.indices.tolist() for task, _, _ in filled] == [indices.tolist() for indices in batches]
    for (_, rows, failures), rows_expected in zip(filled, expected, strict=True):
        np.testing.assert_array_equal(rows, rows_expected)
        assert failures == []
    assert pool.current_image() == ""
    pool.close()


def test_threads_fill_the_same_bytes(images):
    expected = two_epochs(images, 0)
    assert len(expected) == 16
    for num_workers in (1, 2, 5):
        assert two_epochs(images, num_workers) == expected


def test_a_bad_image_and_a_fault_of_the_code_reach_the_caller_from_a_thread(tmp_path):
    images = write_fake_images(tmp_path, 9)
    (tmp_path / "6.png").unlink()
    with pytest.raises(BadImage, match=r"6\.png: No such file or directory \(named by l\.txt:7\)"):
        list(open_eval_loader(images, 2, num_workers=2, worker_type="thread").batches())
    loader = open_eval_loader(images, 4, num_workers=2, worker_type="thread")
    loader._samples = FaultySamples(PREPROCESS)
    with pytest.raises(DataError, match=r"(?s)0\.png: no sample could be made of it.*ZeroDivisionError"):
        list(loader.batches())


@pytest.fixture
def slow_third(monkeypatch):
    """Reading of the third image waits until the test sets `go_on`."""
    third = SimpleNamespace(is_reading=threading.Event(), go_on=threading.Event(), read=[])

    def read(path, preprocess):
        third.read.append(Path(path).stem)
        if path.endswith("/2.png"):
            third.is_reading.set()
            assert third.go_on.wait(20)
        return np.zeros((16, 16, 3), np.uint8)

    monkeypatch.setattr("datasets.loading.sample.read_pixels", read)
    return third


@pytest.mark.parametrize("pool_of", [SerialPool, lambda *how: ThreadPool(*how, 1)], ids=["serial", "thread"])
def test_the_image_that_a_batch_waits_for_is_named(images, slow_third, pool_of):
    pool = pool_of(SAMPLES, 8)
    assert pool.current_image() == ""
    batches = pool.batches([Task(0, np.arange(8), [images.path(i) for i in range(8)])])
    reader = threading.Thread(target=next, args=(batches,))
    reader.start()
    assert slow_third.is_reading.wait(20)
    wait_until(lambda: pool.current_image() == f"{images.path(2)} (image 2)")
    slow_third.go_on.set()
    reader.join(20)
    assert pool.current_image() == "" and len(slow_third.read) == 8
    pool.close()


def test_closing_a_pool_ends_its_threads_after_the_image_that_they_read(images, slow_third):
    def read_until_closed():
        with contextlib.suppress(CancelledError):
            next(batches)

    pool = ThreadPool(SAMPLES, 8, 1)
    batches = pool.batches(Task(0, np.arange(8), [images.path(i) for i in range(8)]) for _ in range(4))
    reader = threading.Thread(target=read_until_closed)
    reader.start()
    assert slow_third.is_reading.wait(20)
    wait_until(lambda: pool.current_image() == f"{images.path(2)} (image 2)")  # all tasks are started
    pool.close()
    slow_third.go_on.set()
    reader.join(20)
    assert slow_third.read == ["0", "1", "2"]


def test_leaving_early_ends_the_threads(images):
    batches = open_eval_loader(images, 2, num_workers=2, worker_type="thread").batches()
    next(batches)
    assert any("images" in thread.name for thread in threading.enumerate())
    batches.close()  # the fixture checks the threads


# --------------------------------------------------------------------------------------------- processes or threads


@pytest.mark.parametrize(("free_mb", "is_enough"), [(1000, True), (7, True), (5, False), (0, False)])
def test_too_little_shared_memory_means_threads_and_a_next_step(free_mb, is_enough, monkeypatch, capsys):
    large = EvalSampleMaker(Preprocess(256))  # 196,608 bytes per image: 1.5 MB for two batches of 4
    monkeypatch.setattr(worker_pool.os.path, "isdir", lambda path: True)
    monkeypatch.setattr(worker_pool.shutil, "disk_usage", lambda path: SimpleNamespace(free=free_mb * 2**20))
    shortage = shared_memory_shortage(large, 4, 4)
    assert (shortage == "") == is_enough
    if not is_enough:
        assert f"has {free_mb} MB free, 4 processes need 6" in shortage and "--shm-size" in shortage
        for _ in range(2):
            pool = open_pool(large, 4, 4, "auto")
            assert isinstance(pool, ThreadPool)
            pool.close()
        message = "continuing with 4 threads, which make the same batches"
        assert capsys.readouterr().err.count(message) == 1
        with pytest.raises(MissingDependencyError, match="--worker_type auto continues with threads") as caught:
            open_pool(large, 4, 4, "process")
        assert caught.value.exit_code == 7


@pytest.mark.parametrize("missing", [0, 1])
def test_shared_memory_that_just_suffices_is_enough(monkeypatch, missing):
    needed = 3 * worker_pool.SLOTS_PER_WORKER * 3 * 4 * SAMPLES.side**2  # 3 processes, batches of 4
    monkeypatch.setattr(worker_pool.os.path, "isdir", lambda path: True)
    monkeypatch.setattr(worker_pool.shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - missing))
    assert bool(shared_memory_shortage(SAMPLES, 4, 3)) == bool(missing)


def test_a_machine_that_starts_no_process_gets_threads(images, monkeypatch, capsys):
    def refuse(process):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", refuse)
    assert two_epochs(images, 2, "auto") == two_epochs(images, 0)
    assert capsys.readouterr().err == (
        "warning: no process can be started to read images ([Errno 1] Operation not permitted): continuing with "
        "2 threads, which make the same batches\n"
    )


def test_a_process_that_ends_at_its_start_is_noticed(monkeypatch, capfd):
    monkeypatch.setattr(process_pool, "_run_worker", print)
    with pytest.raises(ChildProcessError, match="ended at its start, exit code 0"):
        ProcessPool(SAMPLES, 2, 2)


@pytest.mark.parametrize(
    ("num_workers", "worker_type", "kind"),
    [(1, "auto", ProcessPool), (1, "process", ProcessPool), (1, "thread", ThreadPool), (0, "process", SerialPool)],
)
def test_choice_of_the_pool(num_workers, worker_type, kind):
    pool = open_pool(SAMPLES, 2, num_workers, worker_type)
    assert isinstance(pool, kind)
    pool.close()


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


def test_a_process_that_may_not_have_child_processes_gets_threads(monkeypatch, capsys):
    """As every worker of a multiprocessing.Pool."""

    def refuse(*arguments, **how):
        raise AssertionError("daemonic processes are not allowed to have children")

    monkeypatch.setattr(worker_pool, "ProcessPool", refuse)
    pool = open_pool(SAMPLES, 2, 1, "auto")
    pool.close()
    assert isinstance(pool, ThreadPool) and "not allowed to have children" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- Python's lock


def _slow_calls():
    cv2, simplejpeg = pytest.importorskip("cv2"), pytest.importorskip("simplejpeg")
    large = fake_image(3600, 3200)
    data, pixels = encode_image(large, "JPEG", quality=90), np.asarray(large)
    yield "Pillow decodes", lambda: Image.open(io.BytesIO(data)).load()
    yield "Pillow resizes", lambda: large.resize((3500, 3100), Image.Resampling.BICUBIC)
    yield "OpenCV resizes", lambda: cv2.resize(pixels, (5600, 5200), interpolation=cv2.INTER_CUBIC)
    yield "simplejpeg decodes", lambda: simplejpeg.decode_jpeg(data)


def _releases_the_lock(call) -> bool:
    """Whether this thread runs while another thread is in `call`.

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


def test_decoders_release_the_lock_of_python():
    """Else one thread would be as fast as many, and the training would wait for each image."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    try:
        assert not _releases_the_lock(lambda: sum(range(100_000)))
        for name, call in _slow_calls():
            assert _releases_the_lock(call), f"{name} and holds the lock"
    finally:
        sys.setswitchinterval(interval)
