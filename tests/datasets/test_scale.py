"""Holds a list of the length of ImageNet to its figures: seconds to start, memory, and a flat cost an image."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNT = 1_281_167

PROGRAM = """
import resource, sys, time
from datasets.image_list import read_image_list
from datasets.sampler import TrainSampler

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, start = megabytes(), time.process_time()
images = read_image_list(sys.argv[1], "/data", 1000)
first = next(TrainSampler(len(images), 64, 1, 0, 1, seed=0).batches(0))
seconds = time.process_time() - start
start = time.process_time()
for index in range(0, len(images), max(1, len(images) // 1000)):
    images.path(index), images.label(index)
microseconds = (time.process_time() - start) * 1e6 / min(1000, len(images))
print(len(images), len(first), seconds, megabytes() - before, microseconds)
"""


def measure(folder, count) -> list[float]:
    path = folder / f"{count}.txt"
    with path.open("w") as file:
        file.writelines(f"train/n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG {i % 1000}\n" for i in range(count))
    command = [sys.executable, "-c", PROGRAM, str(path)]
    return list(
        map(float, subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    )


@pytest.mark.slow
def test_list_of_imagenets_length(tmp_path):
    found, batch, seconds, megabytes, long = measure(tmp_path, COUNT)
    *_, short = measure(tmp_path, 1000)
    print(f"{seconds:.2f} s, {megabytes:.0f} MB, {long:.2f} us an image, of a list of 1,000 {short:.2f}")
    assert (found, batch) == (COUNT, 64)
    assert seconds < 3 and megabytes < 250
    assert long < 3 * short + 2
