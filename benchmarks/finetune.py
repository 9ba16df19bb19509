"""Measures fine-tuning on small data sets: the recipe for own pictures, today's defaults, and what each setting does.

python -m benchmarks.finetune [--part recipe settings rare] [--seeds 0 1 2]
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml", "paddle")

import argparse
import contextlib
import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.flags import add_output_flag, add_results_flag
from benchmarks.record import record
from benchmarks.small_sets import write_set
from common.cli import run as run_program

MODEL = ("--model=mobilenet_v3_small_x0_35_paddleclas", "--input_size=48", "--num_workers=0")
RECIPE = ("--config=configs/recipes/finetune_own_pictures.yaml",)
PER_CLASS = {"train": 16, "val": 12}
# Epochs of each set that are 120 steps of 16 pictures: the budget of this benchmark is small.
SETS = {"clothes": 20, "digits": 12, "photos": 15}
RARE_SET, RARE = "photos", {"grass": 4, "coffee": 4}  # two classes of the eight have 4 training pictures

# The first training: 5,000 pictures of Fashion-MNIST, which stand for the public weights that this machine cannot load.
FIRST = ("--epochs=3", "--batch_size=32", "--lr=2e-3", "--warmup_epochs=1", "--aa=", "--reprob=0", "--mixup=0",
         "--cutmix=0", "--scale", "0.5", "1")  # fmt: skip
NO_MULT = ("--backbone_lr_mult=1",)

# name: flags. The epochs are the same for all, so that they cost the same.
RECIPES = {"defaults": (), "recipe": RECIPE}
SETTINGS = {
    "recipe": RECIPE,
    "lr 1e-3": (*RECIPE, "--lr=1e-3"),
    "backbone 1": (*RECIPE, *NO_MULT),
    "backbone 0.1": (*RECIPE, "--backbone_lr_mult=0.1"),
    "mixup, cutmix": (*RECIPE, "--mixup=0.8", "--cutmix=1"),
    "frozen backbone": (*RECIPE, *NO_MULT, "--freeze=backbone"),
    "layer_decay 0.8": (*RECIPE, *NO_MULT, "--layer_decay=0.8"),
    "rand-augment": (*RECIPE, "--aa=rand-m9-mstd0.5-inc1"),
    "scale 0.08": (*RECIPE, "--scale", "0.08", "1"),
    "no smoothing": (*RECIPE, "--smoothing=0"),
}
RARE_ARMS = {
    "recipe": RECIPE,
    "balanced_sampling": (*RECIPE, "--balanced_sampling"),
    "class_weights": (*RECIPE, "--class_weights=balanced"),
}
PARTS = {
    "recipe": (SETS, RECIPES),
    "settings": (SETS, SETTINGS),
    "rare": ({"rare": 18}, RARE_ARMS),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Train every arm of the parts on every set with every seed, print a table of each set and record the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs="+", default=("recipe", "rare"), choices=PARTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--arms", nargs="+", help="only these arms of the parts; default: all")
    add_output_flag(parser, "output/benchmarks/finetune")
    add_results_flag(parser)
    flags = parser.parse_args(argv)
    weights = train_first(flags.output_dir)
    for part in flags.part:
        sets, arms = PARTS[part]
        results = []
        for name in sets:
            data = write_small_set(flags.output_dir / "sets", name)
            for seed in flags.seeds:
                for arm in [arm for arm in arms if not flags.arms or arm in flags.arms]:
                    folder = flags.output_dir / name / f"{arm}_{seed}".replace(" ", "_")
                    scores = train_and_score(
                        data, (*arms[arm], f"--epochs={sets[name]}", f"--finetune={weights}", f"--seed={seed}"), folder
                    )
                    results.append({"set": name, "arm": arm, "seed": seed, **scores})
                    print(results[-1], flush=True)
        print(*table(results), sep="\n")
        record(f"finetune, {part}", flags.results, results=results)


def train_first(folder: Path) -> Path:
    """Train the network on Fashion-MNIST, once; returns its weights."""
    data = write_set(folder / "sets", "fashion", {"train": 500, "val": 50})
    out = folder / "first"
    if not (out / "done").exists():
        run("main", *MODEL, *FIRST, f"--data_path={data}", f"--output_dir={out}", log=folder / "logs" / "first.txt")
        (out / "done").touch()
    return out / "checkpoint-latest.pd"


def write_small_set(folder: Path, name: str) -> Path:
    """Write a set of equally large classes, or "rare": the set that has two rare classes in its training part."""
    if name == "rare":
        return write_set(folder / "rare", RARE_SET, PER_CLASS, rare=RARE)
    return write_set(folder, name, PER_CLASS)


def train_and_score(data: Path, arm: tuple[str, ...], folder: Path) -> dict[str, float]:
    """Train one arm, and read the accuracy after its last epoch: the best one would be chosen by the same pictures.

    Returns:
        Top-1 on the validation pictures, of which all classes have the same number, and the same without
        a crop; for the rare set also that on the pictures of the rare classes, which is their mean recall.
    """
    logs = folder.parent / "logs" / folder.name
    if not (folder / "done").exists():
        flags = (*arm, *MODEL, "--min_steps=0", "--save_freq=1000", f"--data_path={data}", f"--output_dir={folder}")
        run("main", *flags, log=logs / "train.txt")
        (folder / "done").touch()
    last = json.loads((folder / "log.txt").read_text().splitlines()[-1])
    weights = f"--resume={folder / 'checkpoint-latest.pd'}"

    def evaluate(*flags: str) -> float:
        return float(re.findall(r"\* Acc@1 (\S+)", run("eval", *MODEL, *flags, weights, log=logs / "eval.txt"))[-1])

    scores = {"top1_percent": last["test_acc1"], "whole_percent": evaluate(f"--data_path={data}", "--crop_pct=1")}
    return scores | ({"rare_percent": evaluate(*_rare_list(data))} if data.parent.name == "rare" else {})


def run(script: str, *flags: str, log: Path) -> str:
    """Run a script of the project in this process, which spares its start; returns what it printed, which is logged.

    Raises:
        ProjectError: the script failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream, contextlib.redirect_stdout(stream):
        importlib.import_module(script).main([*flags])
    return log.read_text(encoding="utf-8")


def _rare_list(data: Path) -> tuple[str, str]:
    labels = {path.name: label for label, path in enumerate(sorted((data / "val").iterdir()))}
    paths = [path for name in RARE for path in sorted((data / "val" / name).iterdir())]
    lines = [f"{path.relative_to(data).as_posix()} {labels[path.parent.name]}\n" for path in paths]
    (data / "rare_list.txt").write_text("".join(lines))
    return f"--data_path={data}", f"--cls_label_path_val={data / 'rare_list.txt'}"


def table(results: list[dict]) -> list[str]:
    """Format one line per set and arm: the mean over the seeds, and the standard deviation."""
    lines = []
    for name, arm in dict.fromkeys((result["set"], result["arm"]) for result in results):
        of_arm = [result for result in results if (result["set"], result["arm"]) == (name, arm)]
        columns = []
        for key in [key for key in of_arm[0] if key.endswith("_percent")]:
            scores = [result[key] for result in of_arm]
            spread = f" +- {stdev(scores):4.1f}" if len(scores) > 1 else ""
            columns.append(f"{key} {fmean(scores):5.1f}{spread}")
        lines.append(f"{name:9s} {arm:18s} {'   '.join(columns)}")
    return lines


if __name__ == "__main__":
    run_program(main)
