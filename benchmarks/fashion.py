"""Measures the recipes of Fashion-MNIST: the short and the long form, and what each setting of the short form does.

python -m benchmarks.fashion [--models peleenet mobilenet_v3_small] [--part short arms long] [--seeds 0 1 2]

A run is recorded when it is finished, and never repeated with the same settings; a run that was stopped continues.
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml", "paddle")

import argparse
import functools
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from benchmarks import scripts
from benchmarks.flags import add_output_flag, add_results_flag
from benchmarks.record import read_results, record
from common.cli import home_path, positive_int
from common.cli import run as run_program
from common.errors import ProjectError, UsageError
from common.files import write_atomically
from common.printable import print_safely
from common.regular_files import read_regular
from configs.loader import changed, parse
from configs.schema import TrainConfig
from datasets.idx import FASHION_MNIST
from datasets.idx import main as write_idx

ROOT = Path(__file__).parent.parent
BENCHMARK = "fashion_mnist"  # of the lines in results.jsonl
RECIPES = {
    "peleenet": "configs/recipes/fashion_mnist_peleenet.yaml",
    "mobilenet_v3_small": "configs/recipes/fashion_mnist_mobilenet_v3_small.yaml",
}
LONG = ("--epochs", "30", "--reprob", "0.25")  # the heads of the recipes name the same flags

# Each arm changes one thing of the recipe in its short form.
ARMS = {
    "crop resized 0.6": "--crop resized --scale 0.6 1",
    "64 pixels": "--input_size 64 --crop pad8",  # what the stem, which divides the sides by 4, costs at 32
    "crop none": "--crop resized --scale 1 1 --ratio 1 1",
    "crop pad2": "--crop pad2",
    "centre 0.875": "--crop_pct 0.875",
    "no flip": "--hflip 0",
    "erasing": "--reprob 0.25",
    "mixup": "--mixup 0.2",
    "cutmix": "--cutmix 1 --mixup_prob 0.5",
    "smoothing": "--smoothing 0.1",
    "lr 0.05": "--lr 0.05",
    "lr 0.2": "--lr 0.2",
    "lr 0.4": "--lr 0.4",
    "decay 1e-4": "--weight_decay 1e-4",
    "decay 1e-3": "--weight_decay 1e-3",
    "no decay of norms": "--no_decay_norm_and_bias",
    "no warm-up": "--warmup_epochs 0",
    "batch 32": "--batch_size 32",
    "adamw": "--opt adamw --lr 2e-3 --weight_decay 0.05",
    "average": "--model_ema --model_ema_decay 0.995 --model_ema_eval",
    "epochs 10": "--epochs 10",
    "untuned": "--crop resized --scale 0.6 1 --crop_pct 0.875 --hflip 0 --lr 0.2",  # the settings of peleenet_digits
}
LONG_ARMS = {
    "long": LONG,
    "long, no erasing": (*LONG, "--reprob", "0"),
    "long, cutmix": (*LONG, "--cutmix", "1", "--mixup_prob", "0.5"),
    "long, mixup": (*LONG, "--mixup", "0.2"),
    "long, smoothing": (*LONG, "--smoothing", "0.1"),
    "long, average": (*LONG, "--model_ema", "--model_ema_decay", "0.999", "--model_ema_eval"),
}
PARTS: dict[str, dict[str, Sequence[str]]] = {
    "short": {"short": ()},
    "arms": {name: flags.split() for name, flags in ARMS.items()},
    "long": {"long": LONG},
    "long_arms": {name: flags for name, flags in LONG_ARMS.items() if name != "long"},
}
SEEDS = {"short": (0, 1, 2)}  # other parts: seed 0
# Settings that decide no number: of the machine, of the names of files, of the log.
IGNORED = {"data_path", "label_list", "output_dir", "config", "log_every", "save_freq", "resume", "seed", "num_workers",
           "cpu_threads"}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One training of the plan.

    Attributes:
        model: key of RECIPES.
        arm: name of the settings.
        seed: of the training.
        flags: of main.py, without those of files.
        processes: number of processes on the processor.
    """

    model: str
    arm: str
    seed: int
    flags: tuple[str, ...]
    processes: int

    @functools.cached_property
    def settings(self) -> dict:
        """What differs from the defaults and decides the numbers of the run."""
        values = changed(parse(TrainConfig, list(self.flags), prog="main.py"))
        values = {name: value for name, value in values.items() if name not in IGNORED}
        return values | {"processes": self.processes}

    @property
    def name(self) -> str:
        """Name of the folder; another one for other settings."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:6]
        return f"{self.model}_{self.arm}_{self.seed}_{digest}".replace(" ", "_").replace(",", "")

    def is_that_of(self, line: dict) -> bool:
        """Whether a line of results.jsonl is the result of this run."""
        same = ("model", self.model), ("seed", self.seed), ("settings", self.settings)
        return line.get("benchmark") == BENCHMARK and all(line.get(name) == value for name, value in same)

    def command(self, data: Path, folder: Path) -> list[str]:
        """The words behind `python`."""
        script = ["main.py", *self.flags, "--data_path", str(data), "--label_list", str(data / "label_list.txt")]
        script += ["--output_dir", str(folder)]
        if self.processes == 1:
            return script
        launcher = ["-m", "paddle.distributed.launch", "--log_dir", str(folder / "launch")]
        return [*launcher, "--nproc_per_node", str(self.processes), *script]


def plan(
    models: Iterable[str], parts: Iterable[str], *, seeds: Sequence[int] = (), arms: Sequence[str] = (), processes: int
) -> list[Run]:
    """The runs of the parts, in the order in which they are most useful: the short forms of all models first.

    Args:
        models: keys of RECIPES.
        parts: keys of PARTS.
        seeds: of every arm; empty takes SEEDS.
        arms: names of arms; empty takes all of the parts.
        processes: number of processes of a training.
    """
    return [
        Run(model, arm, seed, ("--config", RECIPES[model], *flags, "--seed", str(seed)), processes)
        for part in parts
        for arm, flags in PARTS[part].items()
        for model in models
        for seed in (seeds or SEEDS.get(part, (0,)))
        if not arms or arm in arms
    ]


def train(run: Run, data: Path, folder: Path) -> dict:
    """Train to the end, from the last checkpoint if there is one; returns the numbers of the run.

    Raises:
        ProjectError: the training failed; the message has the last lines of its log.
    """
    clock = Clock(folder)
    clock.start()
    command = [*run.command(data, folder), "--resume", "auto"]
    log = folder / "benchmark.log"
    with log.open("a", encoding="utf-8") as stream:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise ProjectError(f"{run.name}: the training ended with code {done.returncode}; its log is {log}\n{tail}")
    seconds = clock.stop()
    epochs = [json.loads(line) for line in (folder / "log.txt").read_text(encoding="utf-8").splitlines()]
    last = epochs[-1]
    numbers = {"epochs": len(epochs), "seconds": round(seconds), "top1_percent": round(last["test_acc1"], 3)}
    numbers |= {"best_top1_percent": round(last["best_acc1"], 3)}
    if "test_acc1_ema" in last:
        numbers["average_top1_percent"] = round(last["test_acc1_ema"], 3)
    curve = [[round(e["train_loss"], 4), round(e["test_loss"], 4), round(e["test_acc1"], 3)] for e in epochs]
    return numbers | {"train_loss_test_loss_top1": curve}


class Clock:
    """The seconds of a training over all its starts: a start that was killed counts up to its last checkpoint.

    What comes after that checkpoint is computed again, so it is counted in the next start.
    """

    def __init__(self, folder: Path):
        self._folder, self._file = folder, folder / "clock.json"
        self._earlier = 0.0

    def start(self) -> None:
        """Read the earlier starts, and write this one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        checkpoint = self._folder / "checkpoint-latest.pd"
        if self._file.exists():
            state = json.loads(read_regular(self._file))
            last = checkpoint.stat().st_mtime if checkpoint.exists() else state["started"]
            self._earlier = state["seconds"] + max(0.0, last - state["started"])
        self._started = time.time()
        write_atomically(self._file, json.dumps({"seconds": self._earlier, "started": self._started}))

    def stop(self) -> float:
        """Seconds of all starts."""
        return self._earlier + time.time() - self._started


def table(lines: Iterable[dict]) -> list[str]:
    """One line per model and arm: mean and standard deviation over the seeds, seconds of one run."""
    groups: dict[tuple, list[dict]] = {}
    for line in lines:
        groups.setdefault((line["model"], line["arm"], json.dumps(line["settings"], sort_keys=True)), []).append(line)
    texts = []
    for (model, arm, _), group in groups.items():
        scores = [line["top1_percent"] for line in group]
        spread = f" +- {stdev(scores):.2f}" if len(scores) > 1 else " " * 8
        average = [line["average_top1_percent"] for line in group if "average_top1_percent" in line]
        averaged = f"  averaged weights {fmean(average):.2f}" if average else ""
        seconds = fmean(line["seconds"] for line in group)
        texts.append(
            f"{model:20s} {arm:20s} {fmean(scores):6.2f}{spread}  {len(scores)} seeds  "
            f"{group[0]['epochs']:3d} epochs  {seconds:6.0f} s{averaged}"
        )
    return texts


def draw(model: str, arm: str, folder: Path, pictures: Path) -> None:
    """Write the curves and the confusion matrix of the finished run in `folder` to files in `pictures`.

    Args:
        model: key of RECIPES, for the names of the files.
        arm: name of the settings, for the names of the files.
        folder: of the run.
        pictures: folder of the files.

    Raises:
        ProjectError: the evaluation failed.
    """
    report = folder / "report"
    command = ["eval.py", "--resume", str(folder / "checkpoint-latest.pd"), "--output_dir", str(report)]
    scripts.run(*command, "--suspects", "never")
    pictures.mkdir(parents=True, exist_ok=True)
    for name, source in (("curves", folder / "curves.png"), ("confusion", report / "confusion_matrix.png")):
        path = pictures / f"fashion_{model}_{arm}_{name}.png"
        write_atomically(path, read_regular(source))
        print_safely(f"wrote {path}")


def draw_all(runs: Iterable[Run], output_dir: Path, pictures: Path) -> None:
    """Draw the short and the long form of each network, of the first seed whose checkpoint is still there.

    Raises:
        ProjectError: an evaluation failed.
    """
    forms: dict[tuple[str, str], list[Path]] = {}
    for run in runs:
        if run.arm in ("short", "long"):
            forms.setdefault((run.model, run.arm), []).append(output_dir / run.name)
    for (model, arm), folders in forms.items():
        folder = next((folder for folder in folders if (folder / "checkpoint-latest.pd").is_file()), None)
        if folder:
            draw(model, arm, folder, pictures)
        else:
            print_safely(f"{model}, {arm}: no checkpoint in {', '.join(map(str, folders))}; no pictures drawn")


def main(argv: Sequence[str] | None = None) -> None:
    """Carry out what is left of the plan, record each run, print the table of all recorded ones."""
    flags = create_parser().parse_args(argv)
    runs = plan(flags.models, flags.part, seeds=flags.seeds, arms=flags.arms, processes=flags.processes)
    if missing := [name for name in flags.arms if not any(name in PARTS[part] for part in flags.part)]:
        part = next(part for part, arms in PARTS.items() if missing[0] in arms)
        raise UsageError(f"--arms {missing[0]!r} is of the part {part}: add --part {part}")
    earlier = read_results(flags.results)
    left = [run for run in runs if not any(run.is_that_of(line) for line in earlier)]
    data = flags.data or flags.output_dir / "data"
    print_safely(f"{len(runs)} runs, of which {len(runs) - len(left)} are recorded in {flags.results}")
    for run in left if flags.list else ():
        print_safely(f"{run.arm}: python {shlex.join(run.command(data, flags.output_dir / run.name))}")
    if not flags.list:
        if not flags.data and left:
            write_idx([FASHION_MNIST, "--output_dir", str(data)])
        for number, run in enumerate(left, start=1):
            folder = flags.output_dir / run.name
            command = f"python {shlex.join(run.command(data, folder))}"
            print_safely(f"{number} of {len(left)}: {command}")
            numbers = train(run, data, folder)
            about = {"model": run.model, "arm": run.arm, "seed": run.seed, "settings": run.settings}
            record(BENCHMARK, flags.results, **about, command=command, **numbers)
            print_safely(f"top-1 {numbers['top1_percent']:.2f} % in {numbers['seconds']} s")
        if flags.pictures:
            draw_all(runs, flags.output_dir, flags.pictures)
    recorded = [line for line in read_results(flags.results) if any(run.is_that_of(line) for run in runs)]
    print_safely("\n".join(table(recorded)))


def create_parser() -> argparse.ArgumentParser:
    """The flags of the program."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fashion", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument(
        "--part", nargs="+", choices=PARTS, default=["short"], help="forms of the recipes (%(default)s)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="default: 0 1 2 of the short form, else 0")
    names = [arm for arms in PARTS.values() for arm in arms]
    parser.add_argument("--arms", nargs="+", choices=names, metavar="ARM", default=[], help=f"of: {', '.join(names)}")
    parser.add_argument("--processes", type=positive_int, default=2, help="of one training (%(default)s)")
    parser.add_argument("--data", type=home_path, help="what datasets.idx wrote; default: written into OUTPUT_DIR")
    parser.add_argument(
        "--list", action="store_true", help="print the commands that are left, and the recorded results"
    )
    parser.add_argument("--pictures", type=home_path, help="folder for curves and confusion matrix of short and long")
    add_output_flag(parser, "output/benchmarks/fashion")
    add_results_flag(parser)
    return parser


if __name__ == "__main__":
    run_program(main)
