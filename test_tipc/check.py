"""Checks of the results of a TIPC chain: losses, scores and predictions are compared, since exit status 0 says little.

Each check reads files and logs of the run, prints the compared numbers, and ends with status 1 if a result is wrong.
The harness starts this file from any folder by its path, so it imports the standard library alone.
"""

import argparse
import ast
import hashlib
import json
import math
import re
import sys
from pathlib import Path

# Largest difference of a probability from that of the eager model. fp16 on a CPU is bfloat16: 8 bits of mantissa.
TOLERANCE = {"fp32": 1e-5, "fp16": 0.05, "cpp": 1e-4}
INT8_SAME_CLASS = 0.9  # share of the images; 8 bits change single probabilities of a barely trained model much
# float32 keeps logits to 1e-6 of their range. After two epochs logits can be in the thousands; then no program can give
# probabilities to 1e-5, and the tolerance grows with the range of the logits.
USUAL_LOGIT_RANGE = 10
NUM_CLASSES = re.compile(r"^nb_classes: (\d+)", re.MULTILINE)  # in config.yaml beside log.txt
LATENCY = re.compile(r"preprocess_time\(ms\): (\S+), inference_time\(ms\): (\S+), postprocess_time\(ms\): (\S+)")


class WrongResult(Exception):
    """A result is missing or wrong."""


def loss(log_txt: Path) -> None:
    """Check that the training loss fell: from the first epoch to the last, or well below that of an untrained model.

    Raises:
        WrongResult: the loss diverged.
    """
    losses = [epoch["train_loss"] for epoch in read_epochs(log_txt)]
    settings = log_txt.parent / "config.yaml"
    found = NUM_CLASSES.search(read(settings)) if settings.exists() else None
    untrained = math.log(int(found[1]) if found else 1000)
    print(f"training loss by epoch: {', '.join(f'{value:.4f}' for value in losses)}; untrained: {untrained:.4f}")
    if not all(math.isfinite(value) for value in losses):
        raise WrongResult("the loss diverged: it is not finite")
    if not (losses[-1] < losses[0] or losses[-1] < 0.95 * untrained):
        raise WrongResult(f"the loss diverged: {losses[-1]:.4f} in the last epoch, {losses[0]:.4f} in the first")


def trained_as_evaluated(log_txt: Path, eval_log: Path) -> None:
    """Check that eval.py computes the scores of the checkpoint that the last epoch of the training logged.

    Raises:
        WrongResult: top-1 or loss differ.
    """
    trained, (evaluated, loss_value) = read_epochs(log_txt)[-1], read_scores(eval_log)
    print(f"top-1: training {trained['test_acc1']:.3f} %, eval.py {evaluated:.3f} %")
    print(f"loss: training {trained['test_loss']:.5f}, eval.py {loss_value:.3f}")
    if abs(trained["test_acc1"] - evaluated) > 0.001:
        raise WrongResult("eval.py and the last epoch of training disagree on top-1")
    if not math.isclose(trained["test_loss"], loss_value, rel_tol=1e-3, abs_tol=1e-3):
        raise WrongResult("eval.py and the last epoch of training disagree on the loss")


def evaluated_as_predicted(eval_log: Path, predict_log: Path, label_list: Path) -> None:
    """Check that top-1 of eval.py is that of the classes which predict.py predicts for the same images.

    Raises:
        WrongResult: top-1 differs, or the images are not the same.
    """
    records = read_records(predict_log)
    labels = {}
    for line in filter(str.strip, read(label_list).splitlines()):
        name, _, label = line.strip().rpartition(" ")
        labels[str(label_list.parent / name)] = int(label)
    if {Path(name) for name in records} != {Path(name) for name in labels}:
        raise WrongResult(f"predict.py predicted {len(records)} images, {label_list} lists {len(labels)}, not the same")
    num_right = sum(labels[str(Path(name))] == best(classes) for name, classes in records.items())
    top1, (evaluated, _) = 100 * num_right / len(records), read_scores(eval_log)
    print(f"top-1 of {len(records)} images: eval.py {evaluated:.3f} %, predict.py {top1:.3f} %")
    if abs(top1 - evaluated) > 0.001:
        raise WrongResult("eval.py and predict.py disagree on top-1")


def same(expected_log: Path, log: Path, precision: str) -> None:
    """Check that two logs hold the same classes for the same images, with the same probabilities.

    Raises:
        WrongResult: the images are not the same, or a probability differs by more than the tolerance of `precision`.
    """
    expected, predicted = read_same_images(expected_log, log)
    compared = []
    for name, classes in expected.items():
        allowed = TOLERANCE[precision] * max(1, logit_range(classes) / USUAL_LOGIT_RANGE)
        compared.append((difference(classes, predicted[name]) / allowed, allowed, name))
    worst, allowed, name = max(compared)
    print(f"{len(expected)} images; {name}: a probability differs by {worst * allowed:.1e}, allowed are {allowed:.1e}")
    if not worst <= 1:
        raise WrongResult(f"{name}: a probability differs by {worst * allowed:.1e}, allowed are {allowed:.1e}")


def same_classes(expected_log: Path, log: Path) -> None:
    """Check that two logs hold the same best class for nearly all images, which is what INT8 can reach.

    Raises:
        WrongResult: the images are not the same, or too many classes differ.
    """
    expected, predicted = read_same_images(expected_log, log)
    num_same = sum(best(expected[name]) == best(predicted[name]) for name in expected)
    print(f"the same class for {num_same} of {len(expected)} images, required are {INT8_SAME_CLASS:.0%}")
    if num_same < INT8_SAME_CLASS * len(expected):
        raise WrongResult(f"another class for {len(expected) - num_same} of {len(expected)} images")


def best(classes: dict[int, float]) -> int:
    """The class with the largest probability."""
    return max(classes, key=classes.get)


def logit_range(classes: dict[int, float]) -> float:
    """Difference of the largest and the smallest logit of a prediction."""
    logs = [math.log(score) for score in classes.values() if score > 0]
    return max(logs) - min(logs)


def difference(one: dict[int, float], other: dict[int, float]) -> float:
    """Largest difference of a probability between two top-k predictions.

    A class that is missing in one of them has at most the smallest probability there. NaN gives infinity.
    """
    differences = [0.0]
    for a, b in ((one, other), (other, one)):
        differences += [abs(score - b[label]) if label in b else score - min(b.values()) for label, score in a.items()]
    return math.inf if any(math.isnan(value) for value in differences) else max(differences)


def stored(results: Path, log_txt: Path, data: Path) -> None:
    """Check the numbers of log.txt against those that `results` keeps: lines `chain epoch name value tolerance`.

    Raises:
        WrongResult: a number is outside its tolerance, not finite, or missing.
    """
    chain = log_txt.parent.parent.name
    lines = [line.split() for line in results.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    epochs = read_epochs(log_txt)
    lists = read(data / "train_list.txt") + read(data / "val_list.txt")
    if ["images", hashlib.sha256(lists.encode()).hexdigest()] not in lines:
        print(f"not compared: {results} belongs to other images than those of {data}")
        return
    kept, wrong = [line for line in lines if line and line[0] == chain], []
    if not kept:
        print(f"not compared: {results} keeps nothing of {chain}")
    for _, epoch, name, value, tolerance in kept:
        number = epochs[int(epoch)][name] if int(epoch) < len(epochs) else math.nan
        print(f"{chain} epoch {epoch} {name}: {number}, kept {value}, tolerance {tolerance}")
        if not abs(number - float(value)) <= float(tolerance):
            wrong.append(f"epoch {epoch} {name} is {number}, kept is {value} with tolerance {tolerance}")
    if wrong:
        raise WrongResult("; ".join(wrong))


def losses_equal(one_log: Path, other_log: Path) -> None:
    """Check that the lines `step N loss X` of two logs have equal text.

    Raises:
        WrongResult: the lines differ, or there are none.
    """
    one, other = ([line for line in read(log).splitlines() if line.startswith("step ")] for log in (one_log, other_log))
    print(f"{len(one)} and {len(other)} losses; the last ones: {one[-1:]} and {other[-1:]}")
    if not one or one != other:
        raise WrongResult("the losses are not equal")


def latencies(logs: list[Path]) -> None:
    """Print a table of the benchmark reports in `logs`: mean times in ms per batch."""
    rows = [(f"{log.parent.name}/{log.stem}", LATENCY.search(read(log))) for log in logs]
    width = max(len(name) for name, _ in rows)
    print(f"{'mean latency, ms per batch':{width}} preprocess  inference postprocess")
    for name, match in rows:
        times = "  ".join(f"{float(time):9.2f}" for time in match.groups()) if match else "        no benchmark report"
        print(f"{name:{width}}  {times}")


def read(path: Path) -> str:
    """Read a text file.

    Raises:
        WrongResult: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise WrongResult(f"{path} cannot be read: {error.strerror}") from None


def read_epochs(log_txt: Path) -> list[dict]:
    """Read the epochs of a log.txt.

    Raises:
        WrongResult: there is none.
    """
    epochs = [json.loads(line) for line in read(log_txt).splitlines() if line.strip()]
    if not epochs:
        raise WrongResult(f"{log_txt} has no epoch")
    return epochs


def read_scores(eval_log: Path) -> tuple[float, float]:
    """Read top-1 in percent and loss from the line `* Acc@1 71.300 Acc@5 90.100 loss 1.234`.

    Raises:
        WrongResult: there is no such line.
    """
    scores = re.findall(r"\* Acc@1 (\S+) Acc@5 \S+ loss (\S+)", read(eval_log))
    if not scores:
        raise WrongResult(f"{eval_log} has no line `* Acc@1 ...`")
    return float(scores[-1][0]), float(scores[-1][1])


def read_records(log: Path) -> dict[str, dict[int, float]]:
    """Read the predictions of a log: image -> class -> probability.

    The Python scripts print lists of records, the C++ program prints one record per line.

    Raises:
        WrongResult: the log has no prediction.
    """
    records = {}
    for text in re.findall(r"(\[?\{['\"]class_ids['\"].*\}\]?)$", read(log), re.MULTILINE):
        value = ast.literal_eval(text)
        for record in value if isinstance(value, list) else [value]:
            records[str(Path(record["file_name"]))] = dict(zip(record["class_ids"], record["scores"], strict=True))
    if not records:
        raise WrongResult(f"{log} has no prediction of any image")
    return records


def read_same_images(expected_log: Path, log: Path) -> tuple[dict, dict]:
    """Read the predictions of two logs of the same images.

    Raises:
        WrongResult: the images are not the same.
    """
    expected, predicted = read_records(expected_log), read_records(log)
    if expected.keys() != predicted.keys():
        raise WrongResult(f"{expected_log} has {len(expected)} images, {log} {len(predicted)}, not the same ones")
    return expected, predicted


COMPARISONS = (loss, trained_as_evaluated, evaluated_as_predicted, same, same_classes, stored, losses_equal)
CHECKS = {check.__name__: check for check in (*COMPARISONS, latencies)}


def main(argv: list[str]) -> None:
    """Run one check by its name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("arguments", nargs="+")
    parser.add_argument("--precision", choices=TOLERANCE, default="fp32", help="of `same`")
    given = parser.parse_args(argv)
    paths = [Path(argument) for argument in given.arguments]
    if given.check == "same":
        same(*paths, given.precision)
    elif given.check == "latencies":
        latencies(paths)
    else:
        CHECKS[given.check](*paths)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except WrongResult as error:
        sys.exit(f"error: {error}")
