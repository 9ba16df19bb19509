"""Runs the chain of `make demo`: digits, train, eval, predict, export and infer, by the commands that a user types."""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("rich")

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from common.cli import run as run_program
from common.errors import ProjectError
from common.files import write_atomically

FOLDER = Path("output/demo")
DATA = FOLDER / "digits"
RECIPE = "configs/recipes/peleenet_digits.yaml"
SIDE, NUM_CLASSES = 64, 10
TOLERANCE = 1e-5  # difference of a probability between the eager and the exported model
MIN_TOP1_PERCENT = 99.0

MODEL = f"--model peleenet --nb_classes {NUM_CLASSES} --input_size {SIDE} --train_interpolation bilinear"
LISTS = f"--cls_label_path_train {DATA}/train_list.txt --cls_label_path_val {DATA}/val_list.txt"
CHECKPOINT = f"{FOLDER}/train/checkpoint-best.pd"
LAUNCH = f"-m paddle.distributed.launch {{processes}} --log_dir {FOLDER}/launch"

COMMANDS = {
    "data": f"-m datasets.digits {DATA}",
    "train": f"{LAUNCH} main.py --config {RECIPE} --data_path {DATA} {LISTS} --label_list {DATA}/label_list.txt "
    f"--output_dir {FOLDER}/train",
    "eval": f"eval.py {MODEL} --data_path {DATA} --cls_label_path_val {DATA}/val_list.txt --resume {CHECKPOINT}",
    "predict": f"predict.py {MODEL} --resume {CHECKPOINT} --infer_imgs {DATA}/val --batch_size 16 "
    f"--save_path {FOLDER}/predict.jsonl",
    "export": f"export_model.py {MODEL} --resume {CHECKPOINT} --output_dir {FOLDER}/export",
    "infer": f"infer.py --model_file {FOLDER}/export/model.json --params_file {FOLDER}/export/model.pdiparams "
    f"--input_file {DATA}/val --batch_size 16 --save_path {FOLDER}/infer.jsonl",
}
MEANING = {
    "data": "write the scans as an ImageNet-style folder",
    "train": "train PeleeNet from scratch, on every GPU or in two processes on the CPU",
    "eval": "score the best checkpoint on the test images",
    "predict": "classify the test images with the eager model",
    "export": "write program, weights and card",
    "infer": "classify the test images with the exported program",
}
STEP = re.compile(r"Epoch: \[(\d+)\]  \[ *(\d+)/(\d+)\].*?(loss: \S+)")


def main(argv: list[str]) -> None:
    """Run all stages, compare their results, plot them and print a table.

    Raises:
        ProjectError: a stage failed, or the results do not agree.
    """
    argparse.ArgumentParser(prog="python -m demo.run", description=__doc__).parse_args(argv)  # there are no flags
    console = Console(highlight=False)
    FOLDER.mkdir(parents=True, exist_ok=True)
    seconds = {}
    for number, (stage, command) in enumerate(COMMANDS.items(), start=1):
        command = command.format(processes=launcher_flag())
        console.print(f"\n[bold]{number}/{len(COMMANDS)} {stage}[/bold]: {MEANING[stage]}")
        console.print(f"  python {command}", style="dim", soft_wrap=True)
        start = time.perf_counter()
        run_stage(stage, [sys.executable, *shlex.split(command)], console)
        seconds[stage] = round(time.perf_counter() - start, 1)
    result = {**compare(), "seconds": seconds, "seconds_total": round(sum(seconds.values()), 1)}
    write_atomically(FOLDER / "result.json", json.dumps(result, indent=2) + "\n")
    plot_results()
    print_table(result, console)
    check_agreement(result)


def launcher_flag() -> str:
    """The number of processes for the launcher: one per GPU if Paddle sees any, else two on the CPU."""
    import paddle

    has_gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    return "" if has_gpu else "--nproc_per_node 2"


def run_stage(stage: str, command: list[str], console: Console) -> None:
    """Run `command` with its output in a log file; a terminal shows a progress bar, a pipe some of the lines.

    Raises:
        ProjectError: the command failed.
    """
    log_path = FOLDER / f"{stage}.log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with (
        log_path.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as process,
        Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as progress,
    ):
        bar = progress.add_task(stage, total=None, note="")
        for line in process.stdout:
            log.write(line)
            update_progress(progress, bar, line, console)
    if process.returncode:
        tail = log_path.read_text(encoding="utf-8").splitlines()[-15:]
        raise ProjectError("\n".join([f"the stage '{stage}' failed; its whole output is in {log_path}", *tail]))


def update_progress(progress: Progress, bar: int, line: str, console: Console) -> None:
    """Show the progress that one line of the output reports.

    Args:
        progress: the progress display.
        bar: number of its bar.
        line: line of the output.
        console: where lines are printed without a terminal.
    """
    step = STEP.search(line)
    if step:
        epoch, done, total, loss = int(step[1]), int(step[2]), int(step[3]), step[4]
        progress.update(
            bar, total=num_epochs() * total, completed=epoch * total + done + 1, note=f"epoch {epoch} {loss}"
        )
        if not console.is_terminal and done == 0:
            console.print("  " + step[0])
    elif "Accuracy of the network" in line or "Max accuracy" in line:
        progress.console.print("  " + line.strip().split("] ", 1)[-1])


def num_epochs() -> int:
    """Number of epochs of the recipe."""
    from configs.loader import parse
    from configs.schema import TrainConfig

    return parse(TrainConfig, ["--config", RECIPE], prog="main.py").schedule.epochs


def read_records(name: str) -> dict[str, dict]:
    """Read the predictions of a .jsonl file, by file name of the image."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return {record["file_name"]: record for record in map(json.loads, lines)}


def read_labels() -> dict[str, int]:
    """Read the labels of the test images, by file name."""
    lines = (DATA / "val_list.txt").read_text(encoding="utf-8").splitlines()
    return {str(DATA / path): int(label) for path, label in (line.rsplit(" ", 1) for line in lines)}


def compare() -> dict:
    """Compute top-1 of eval, predict and infer on the test images, and the largest difference of predict and infer."""
    eval_log = (FOLDER / "eval.log").read_text(encoding="utf-8")
    eval_percent = float(re.findall(r"\* Acc@1 (\S+)", eval_log)[-1])
    labels = read_labels()
    predicted, inferred = read_records("predict.jsonl"), read_records("infer.jsonl")
    assert predicted.keys() == inferred.keys() == labels.keys()

    def top1_percent(records: dict[str, dict]) -> float:
        num_correct = sum(record["class_ids"][0] == labels[name] for name, record in records.items())
        return round(100 * num_correct / len(records), 3)

    def scores(record: dict) -> dict[int, float]:
        return dict(zip(record["class_ids"], record["scores"], strict=True))

    difference = max(
        abs(score - scores(inferred[name]).get(label, 0.0))
        for name, record in predicted.items()
        for label, score in scores(record).items()
    )
    return {
        "num_test_images": len(labels),
        "top1_percent": eval_percent,
        "predict_top1_percent": top1_percent(predicted),
        "infer_top1_percent": top1_percent(inferred),
        "predict_infer_max_diff": difference,
    }


def plot_results() -> None:
    """Plot the curves of the training, and every 12th test image with the prediction of the exported model."""
    from datasets.reading.decode import read_image
    from engine.progress.plots import plot_curves, plot_predictions

    plot_curves(FOLDER / "train" / "log.txt", FOLDER / "curves.png")
    labels, records = read_labels(), list(read_records("infer.jsonl").values())[::12]
    plot_predictions(
        [read_image(record["file_name"]) for record in records],
        [f"{record['label_names'][0]} {record['scores'][0]:.1%}" for record in records],
        FOLDER / "predictions.png",
        is_correct=[record["class_ids"][0] == labels[record["file_name"]] for record in records],
    )


def print_table(result: dict, console: Console) -> None:
    """Print top-1 and seconds of eval, predict and infer."""
    table = Table(title=f"\n{result['num_test_images']} test images", title_justify="left")
    for column in ("", "top-1 %", "seconds"):
        table.add_column(column, justify="left" if not column else "right")
    for stage, key in {
        "eval": "top1_percent",
        "predict": "predict_top1_percent",
        "infer": "infer_top1_percent",
    }.items():
        table.add_row(stage, f"{result[key]:.2f}", f"{result['seconds'][stage]:.1f}")
    console.print(table)
    console.print(f"predict and infer differ by at most {result['predict_infer_max_diff']:.1e} in any probability")
    console.print(f"{result['seconds_total']:.0f} s in all; plots: {FOLDER}/curves.png, {FOLDER}/predictions.png")


def check_agreement(result: dict) -> None:
    """Check that eval, predict and infer agree, and that the training reached its accuracy.

    Raises:
        ProjectError: they differ, or top-1 is too low.
    """
    agree = abs(result["top1_percent"] - result["predict_top1_percent"]) < 0.001
    agree &= result["predict_top1_percent"] == result["infer_top1_percent"]
    if not agree or result["predict_infer_max_diff"] > TOLERANCE:
        raise ProjectError(f"eval, predict and infer do not agree; see {FOLDER}/result.json")
    if result["top1_percent"] < MIN_TOP1_PERCENT:
        raise ProjectError(f"top-1 is {result['top1_percent']} %, expected at least {MIN_TOP1_PERCENT} %")


if __name__ == "__main__":
    run_program(main)
