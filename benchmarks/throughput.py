"""Measures images per second from JPEG files: infer.py beside the loop of PeleeNet-paddle, and memory of long runs.

python -m benchmarks.throughput --model_dir exported --images FOLDER
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml", "paddle")

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.flags import add_results_flag
from benchmarks.record import record
from common.cli import positive_int
from common.cli import run as run_program
from common.errors import ProjectError, UsageError
from datasets.reading.image_folder import find_images
from deploy.card import read_card
from deploy.engines import EngineOptions
from deploy.exported_program import choose_engine
from deploy.pipeline import predict_files, share_threads
from deploy.predictor import open_predictor

ROOT = Path(__file__).parents[1]
SIDE = 224  # of the input in PeleeNet-paddle


# Runs a command and prints its largest memory in kB. This small process lies between: Linux counts for a new process
# what the one that starts it held.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", type=Path, required=True, help="folder of export_model.py")
    parser.add_argument("--images", required=True, help="JPEG files, repeated until there are enough")
    parser.add_argument("--num_images", type=positive_int, default=2000)
    parser.add_argument("--batch_size", type=positive_int, default=8)
    parser.add_argument("--num_rounds", type=positive_int, default=5, help="rounds in which both are measured")
    add_results_flag(parser)
    flags = parser.parse_args(argv)
    check_folder(flags.model_dir)
    with tempfile.TemporaryDirectory() as links:
        paths = link_images(flags.images, Path(links), flags.num_images)
        # memory first: the peak of a child counts from that of this process, which is small before anything is loaded
        counts = sorted({max(1, flags.num_images // 10), flags.num_images})
        megabytes = {count: peak_memory(flags, paths[:count]) for count in counts}
        speeds = compare(flags, paths)
    for name, speed in speeds.items():
        print(f"{name}: {speed:.1f} images/s")
    ratio = speeds["infer.py"] / speeds["predecessor"]
    print(f"infer.py is {ratio:.2f} times as fast")
    for count, peak in megabytes.items():
        print(f"infer.py on {count} images: peak memory {peak:.0f} MB")
    record("throughput", flags.results, images_per_second=speeds, ratio=ratio, peak_mb=megabytes)


def check_folder(folder: Path) -> None:
    """Refuse an exported folder that the loop of PeleeNet-paddle cannot run: it needs model.json for SIDE pixels.

    Raises:
        UsageError: the folder has another input size, or no model.json.
    """
    card = read_card(folder, verify=False)
    if "paddle" not in card.programs or card.preprocess.input_size != SIDE:
        raise UsageError(
            f"{folder}: expected an export with --format paddle and --input_size {SIDE}, as the loop of "
            f"PeleeNet-paddle needs it; got {', '.join(card.programs)} for {card.preprocess.input_size}"
        )


def link_images(images: str, folder: Path, count: int) -> list[str]:
    """Create `count` links to the images in `folder`, repeating the images if there are fewer."""
    links = []
    for index, path in zip(range(count), itertools.cycle(find_images(images)), strict=False):
        link = folder / f"{index:06d}{Path(path).suffix}"
        link.symlink_to(Path(path).resolve())
        links.append(str(link))
    return links


def compare(flags, paths: list[str]) -> dict[str, float]:
    """Measure the median images per second of both, which alternate on the same slices of `paths`."""
    contenders = {"infer.py": create_pipeline(flags), "predecessor": create_peleenet_loop(flags.model_dir)}
    for run in contenders.values():
        run(paths[:16])
    speeds = {name: [] for name in contenders}
    for part in np.array_split(paths, flags.num_rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run(part.tolist())
            speeds[name].append(len(part) / (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in speeds.items()}


def create_pipeline(flags) -> Callable[[list[str]], None]:
    """Create the pipeline of infer.py with --engine auto; the result predicts a list of files."""
    engine, options = choose_engine(flags.model_dir, EngineOptions())
    num_workers, options = share_threads(engine, options, num_batches=1000)
    predictor = open_predictor(flags.model_dir, engine=engine, options=options)
    print(f"infer.py: {predictor.engine.description}, {num_workers} workers")

    def run(paths: list[str]) -> None:
        for _ in predict_files(predictor, paths, batch_size=flags.batch_size, num_workers=num_workers):
            pass

    return run


def create_peleenet_loop(folder: Path) -> Callable[[list[str]], None]:
    """Create the loop of infer.py in PeleeNet-paddle: image by image, Pillow, Paddle's transforms, oneDNN."""
    from paddle import inference
    from paddle.vision import transforms
    from PIL import Image

    config = inference.Config(str(folder / "model.json"), str(folder / "model.pdiparams"))
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn()  # and on one thread, Paddle's default: its --cpu_threads is not set by default
    predictor = inference.create_predictor(config)
    source = predictor.get_input_handle(predictor.get_input_names()[0])
    output = predictor.get_output_handle(predictor.get_output_names()[0])
    steps = transforms.Compose(
        [
            transforms.Resize(256, interpolation="bicubic"),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    def run(paths: list[str]) -> None:
        for path in paths:
            array = steps(Image.open(path).convert("RGB")).numpy()[None]
            source.reshape(array.shape)
            source.copy_from_cpu(array)
            predictor.run()
            output.copy_to_cpu().argmax()

    return run


def peak_memory(flags, paths: list[str]) -> float:
    """Measure the largest resident memory in MB of infer.py on `paths`.

    Raises:
        ProjectError: infer.py failed.
    """
    folder = Path(paths[0]).parent / f"first {len(paths)}"
    folder.mkdir()
    for path in paths:
        (folder / Path(path).name).symlink_to(path)
    command = [sys.executable, "infer.py", "--engine=auto", f"--model_file={flags.model_dir.resolve()}"]
    command += [f"--input_file={folder}", f"--batch_size={flags.batch_size}", f"--save_path={folder}.jsonl"]
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise ProjectError(f"{' '.join(command)} failed")
    return int(done.stdout) / 1024


if __name__ == "__main__":
    run_program(main)
