"""A list of the length of ImageNet: seconds to start, memory of list and workers, microseconds per image."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.datasets.fake_images import fake_image

ROOT = Path(__file__).parents[3]
COUNT = 1_281_167
NUM_WORKERS = 8

PROGRAM = """
import resource, sys, time

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def main(list_file, folder, num_workers):
    from benchmarks.loader import private_mb, worker_pids  # here: workers import the first lines of the program
    from datasets.reading.image_list import read_image_list
    from datasets.loading.loader import TrainLoader
    from datasets.preprocess import Preprocess
    from datasets.loading.sampler import TrainSampler
    from configs.schema import AugmentConfig, PreprocessConfig, TrainLoaderConfig
    from datasets.augment.transforms import build_train_transform

    before, start = megabytes(), time.perf_counter()
    images = read_image_list(list_file, folder, 1000)
    list_mb = megabytes() - before
    sampler = TrainSampler(len(images), 64, 1, 0, 1, seed=0)
    transform = build_train_transform(AugmentConfig(aa=""), PreprocessConfig(224, "bilinear"))
    loader = TrainLoader(images, transform, Preprocess(224), sampler, TrainLoaderConfig(64, int(num_workers)))
    batches = loader.batches(0)
    next(batches)
    seconds = time.perf_counter() - start
    workers_mb = private_mb(worker_pids())
    start = time.process_time()
    for index in range(0, len(images), max(1, len(images) // 1000)):
        images.path(index), images.label(index)
    microseconds = (time.process_time() - start) * 1e6 / min(1000, len(images))
    print(len(images), seconds, list_mb, workers_mb, microseconds)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def measure(folder, count) -> list[float]:
    for i in range(64):
        fake_image(64, 48, seed=i).save(folder / f"n{i:08d}.jpg")
    (folder / "list.txt").write_text("".join(f"n{i % 64:08d}.jpg {i % 1000}\n" for i in range(count)))
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", "list.txt", str(folder), str(NUM_WORKERS)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return list(map(float, done.stdout.split()))


@pytest.mark.slow
def test_list_of_imagenets_length(tmp_path):
    count, seconds, list_mb, workers_mb, long = measure(tmp_path, COUNT)
    *_, short = measure(tmp_path, 1000)
    print(
        f"first batch after {seconds:.2f} s, list {list_mb:.0f} MB, {NUM_WORKERS} workers {workers_mb:.0f} MB, "
        f"{long:.2f} us per image, of a list of 1,000 {short:.2f}"
    )
    assert count == COUNT
    assert list_mb + workers_mb < 400
    assert long < 3 * short + 2
