"""`make demo`: digits -> train -> eval -> predict -> export -> infer, with the commands that a user would type."""

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

FOLDER = Path("output/demo")
DATA = FOLDER / "digits"
RECIPE = "configs/recipes/peleenet_digits.yaml"
SIDE, NUM_CLASSES = 64, 10
TOLERANCE = 1e-5  # of a probability, between the eager and the exported model
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
    "train": "PeleeNet from scratch, on every GPU or in two processes on the CPU",
    "eval": "score the best checkpoint on the test images",
    "predict": "name every test image with the eager model",
    "export": "write program, weights and card",
    "infer": "name every test image with the exported program",
}
STEP = re.compile(r"Epoch: \[(\d+)\]  \[ *(\d+)/(\d+)\].*?(loss: \S+)")


def main() -> None:
    console = Console(highlight=False)
    FOLDER.mkdir(parents=True, exist_ok=True)
    seconds = {}
    for number, (stage, command) in enumerate(COMMANDS.items(), start=1):
        command = command.format(processes=processes())
        console.print(f"\n[bold]{number}/{len(COMMANDS)} {stage}[/bold]: {MEANING[stage]}")
        console.print(f"  python {command}", style="dim", soft_wrap=True)
        start = time.perf_counter()
        run(stage, [sys.executable, *shlex.split(command)], console)
        seconds[stage] = round(time.perf_counter() - start, 1)
    result = {**compare(), "seconds": seconds, "seconds_total": round(sum(seconds.values()), 1)}
    (FOLDER / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    draw_pictures()
    show(result, console)


def processes() -> str:
    """The launcher's flag: all GPUs if Paddle sees any, else a process on each of two cores."""
    import paddle

    has_gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    return "" if has_gpu else "--nproc_per_node 2"


def run(stage: str, command: list[str], console: Console) -> None:
    """Run `command`, its output in a log file; a terminal shows a bar, anything else some of the lines."""
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
            update(progress, bar, line, console)
    if process.returncode:
        tail = log_path.read_text(encoding="utf-8").splitlines()[-15:]
        sys.exit("\n".join([*tail, f"error: the stage '{stage}' failed; all of its output is in {log_path}"]))


def update(progress: Progress, bar: int, line: str, console: Console) -> None:
    """Show what `line` of the output says of the progress."""
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
    from configs.loader import parse
    from configs.schema import TrainConfig

    return parse(TrainConfig, ["--config", RECIPE], prog="main.py").schedule.epochs


def read_records(name: str) -> dict[str, dict]:
    """The records of a .jsonl file by file name."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return {record["file_name"]: record for record in map(json.loads, lines)}


def read_labels() -> dict[str, int]:
    """The labels of the test images by file name."""
    lines = (DATA / "val_list.txt").read_text(encoding="utf-8").splitlines()
    return {str(DATA / path): int(label) for path, label in (line.rsplit(" ", 1) for line in lines)}


def compare() -> dict:
    """Scores of eval, predict and infer, which saw the same test images, and how far the last two differ."""
    eval_log = (FOLDER / "eval.log").read_text(encoding="utf-8")
    eval_percent = float(re.findall(r"\* Acc@1 (\S+)", eval_log)[-1])
    labels = read_labels()
    predicted, inferred = read_records("predict.jsonl"), read_records("infer.jsonl")
    assert predicted.keys() == inferred.keys() == labels.keys()

    def top1_percent(records: dict[str, dict]) -> float:
        right = sum(record["class_ids"][0] == labels[name] for name, record in records.items())
        return round(100 * right / len(records), 3)

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


def draw_pictures() -> None:
    """The curves of the training, and a sheet of every 12th test image with what the exported model says of it."""
    from datasets.reading.decode import read_image
    from engine.plots import plot_curves, plot_predictions

    plot_curves(FOLDER / "train" / "log.txt", FOLDER / "curves.png")
    labels, records = read_labels(), list(read_records("infer.jsonl").values())[::12]
    plot_predictions(
        [read_image(record["file_name"]) for record in records],
        [f"{record['label_names'][0]} {record['scores'][0]:.1%}" for record in records],
        FOLDER / "predictions.png",
        is_correct=[record["class_ids"][0] == labels[record["file_name"]] for record in records],
    )


def show(result: dict, console: Console) -> None:
    """The table at the end, and an exit code that is not zero where the ends do not agree."""
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
    console.print(f"{result['seconds_total']:.0f} s in all; pictures: {FOLDER}/curves.png, {FOLDER}/predictions.png")
    agree = abs(result["top1_percent"] - result["predict_top1_percent"]) < 0.001
    agree &= result["predict_top1_percent"] == result["infer_top1_percent"]
    if not agree or result["predict_infer_max_diff"] > TOLERANCE:
        sys.exit(f"error: eval, predict and infer do not agree; see {FOLDER}/result.json")
    if result["top1_percent"] < MIN_TOP1_PERCENT:
        sys.exit(f"error: top-1 is {result['top1_percent']} %, expected at least {MIN_TOP1_PERCENT} %")


if __name__ == "__main__":
    main()
