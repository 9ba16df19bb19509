"""Files of predictions: .json (one array), .jsonl (one line per image) or .csv (one row per image, or per class)."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

from common.errors import PredictionsFileError
from common.files import atomic_write, disk_errors, temporary_path
from common.printable import original_text, spreadsheet_text
from common.regular_files import open_regular

SUFFIXES = (".json", ".jsonl", ".csv")
CSV_COLUMNS = ("file_name", "rank", "class_id", "score", "label_name", "error")  # of one row per class
CSV_CLASS = ("label_name", "score", "class_id")  # columns of a class where there is one row per image


def failed_prediction(file_name: str, reason: str) -> dict:
    """Make the prediction of an image that could not be read: no classes, and the reason."""
    return {"class_ids": [], "scores": [], "file_name": file_name, "label_names": [], "error": reason}


class PredictionWriter:
    """Write predictions to a file, after those `kept` from an earlier run.

    A .jsonl or .csv file grows with every batch, so that the predictions of a killed run can be read. A .json file
    appears when it is complete. File names that are not UTF-8 are escaped in JSON, and kept byte for byte in a .csv.
    A spreadsheet runs a cell of a .csv that begins with = + - or @, unless a ' makes it a text.
    """

    def __init__(
        self, path: str | Path, kept: Iterable[dict] = (), *, csv_formulas: bool = False, csv_classes: int | None = None
    ):
        """Create the file.

        Args:
            path: .json, .jsonl or .csv file.
            kept: predictions of an earlier run, which the file gets first.
            csv_formulas: leave texts as they are that a spreadsheet would run.
            csv_classes: number of classes in the one row per image of a .csv; None: one row per class.

        Raises:
            DiskError: the file cannot be written.
            PredictionsFileError: the extension of `path` names no format, or a prediction of `kept` has more classes
                than a row.
        """
        self._path = Path(path)
        if self._path.suffix not in SUFFIXES:
            raise PredictionsFileError(
                f"{path}: predictions are written to {', '.join(SUFFIXES)} files, not {self._path.suffix!r}"
            )
        self._is_json = self._path.suffix == ".json"
        self._csv_formulas, self._csv_classes = csv_formulas, csv_classes
        self._num_written = 0
        options = {"encoding": "utf-8", "newline": ""}
        options["errors"] = "surrogateescape" if self._path.suffix == ".csv" else "backslashreplace"  # JSON reads these
        with disk_errors(self._path), ExitStack() as stack:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = stack.enter_context(atomic_write(self._path, "w", replace=self._is_json, **options))
            self._begin(kept)
            self._open_file = stack.pop_all()

    def _begin(self, kept: Iterable[dict]) -> None:
        if self._path.suffix == ".csv":
            self._file.write(",".join(CSV_COLUMNS if self._csv_classes is None else _columns(self._csv_classes)) + "\n")
        for prediction in kept:
            self.write([prediction])
        if not self._is_json:
            self._file.flush()
            os.replace(temporary_path(self._path), self._path)  # the open file is now the one of this name

    def write(self, predictions: Iterable[dict]) -> None:
        """Append `predictions` and hand them to the operating system.

        Raises:
            DiskError: the file cannot be written.
            PredictionsFileError: a prediction has more classes than a row of the .csv.
        """
        with disk_errors(self._path):
            for prediction in predictions:
                self._file.write(self._encoded(prediction))
                self._num_written += 1
            self._file.flush()

    def _encoded(self, prediction: dict) -> str:
        if self._path.suffix == ".csv":
            if self._csv_classes is None:
                rows = _rows_of_classes(prediction)
            else:
                rows = [_row_of_image(prediction, self._csv_classes, self._path)]
            return _csv_text(rows, csv_formulas=self._csv_formulas)
        return _json_text(prediction, self._num_written) if self._is_json else _jsonl_text(prediction)

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        if error_type is not None:
            self._open_file.__exit__(error_type, error, traceback)
            return
        with disk_errors(self._path), self._open_file:
            if self._is_json:
                self._file.write("[]\n" if self._num_written == 0 else "\n]\n")


def _json_text(prediction: dict, index: int) -> str:
    return ("[\n" if index == 0 else ",\n") + json.dumps(prediction, ensure_ascii=False)


def _jsonl_text(prediction: dict) -> str:
    return json.dumps(prediction, ensure_ascii=False) + "\n"


def _columns(num_classes: int) -> list[str]:
    """`file_name,label_name,score,class_id,error,label_name_2,score_2,class_id_2,...`"""
    later = [f"{column}_{rank}" for rank in range(2, num_classes + 1) for column in CSV_CLASS]
    return ["file_name", *CSV_CLASS, "error", *later]


def _row_of_image(prediction: dict, num_classes: int, path: Path) -> list:
    if (needed := len(prediction["class_ids"])) > num_classes:
        raise PredictionsFileError(
            f"{path}: the earlier prediction of {prediction['file_name']} has {needed} classes, a row has room for "
            f"{num_classes}; take --topk {needed} again, or --csv_rows classes"
        )
    classes = zip(prediction["label_names"], prediction["scores"], prediction["class_ids"], strict=True)
    cells = [cell for one in classes for cell in one]
    cells += [""] * (len(CSV_CLASS) * max(num_classes, 1) - len(cells))
    return [prediction["file_name"], *cells[:3], prediction.get("error", ""), *cells[3:]]


def _rows_of_classes(prediction: dict) -> list[tuple]:
    classes = zip(prediction["class_ids"], prediction["scores"], prediction["label_names"], strict=True)
    rows = [(prediction["file_name"], rank, *one, "") for rank, one in enumerate(classes, start=1)]
    return rows or [(prediction["file_name"], "", "", "", "", prediction.get("error", ""))]


def _csv_text(rows: Iterable[Sequence], *, csv_formulas: bool) -> str:
    lines = []
    # The line ends of csv.writer are \r\n, so csv.writer quotes a file name that holds one of these characters.
    writer = csv.writer(SimpleNamespace(write=lines.append))
    writer.writerows([spreadsheet_text(cell, allow_formulas=csv_formulas) for cell in row] for row in rows)
    return "".join(line[:-2] + "\n" for line in lines)


def read_predictions(path: str | Path) -> Iterator[dict]:
    """Read the predictions of a file that PredictionWriter wrote; of a killed run, all but an unfinished one.

    The last image of a .csv with rows of classes is left out if it has fewer than another image: it may be incomplete.

    Raises:
        PredictionsFileError: the file is missing, or is not a file of predictions.
    """
    path = Path(path)
    reader = {".json": _read_json, ".jsonl": _read_jsonl, ".csv": _read_csv}.get(path.suffix)
    if reader is None:
        raise PredictionsFileError(
            f"{path}: predictions are read from {', '.join(SUFFIXES)} files, not {path.suffix!r}"
        )
    try:
        errors = "surrogateescape" if path.suffix == ".csv" else "strict"
        with open_regular(path, "r", encoding="utf-8", errors=errors, newline="\n") as file:
            for prediction in reader(file):
                if not _is_prediction(prediction):
                    raise ValueError(f"{prediction!r:.80} is not a prediction")
                yield prediction
    except OSError as error:
        raise PredictionsFileError(f"{path}: cannot be read as predictions: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise PredictionsFileError(f"{path}: cannot be read as predictions: {error}") from None


def _is_prediction(value: object) -> bool:
    """Whether a value is a prediction of `topk_predictions`, or a failed one, which has an `error` and no classes."""
    match value:
        case {"class_ids": [*labels], "scores": [*scores], "file_name": str(), "label_names": [*names]}:
            return (
                len(labels) == len(scores) == len(names)
                and all(type(label) is int and label >= 0 for label in labels)
                and all(type(score) in (int, float) for score in scores)
                and all(isinstance(name, str) for name in names)
                and isinstance(value.get("error", ""), str)
            )
    return False


def _read_json(file) -> Iterator[dict]:
    yield from json.load(file)


def _read_jsonl(file) -> Iterator[dict]:
    for line in file:
        if line.endswith("\n"):  # the last line of a killed run may be incomplete
            yield json.loads(line)


def _read_csv(file) -> Iterator[dict]:
    rows = csv.DictReader(line for line in file if line.endswith("\n"))
    yield from _of_rows_of_classes(rows) if "rank" in (rows.fieldnames or ()) else map(_of_row_of_image, rows)


def _of_row_of_image(row: dict) -> dict:
    prediction = {"class_ids": [], "scores": [], "file_name": original_text(row["file_name"]), "label_names": []}
    for suffix in ("", *(f"_{rank}" for rank in range(2, len(row)))):
        if not row["class_id"] or not row.get(f"class_id{suffix}"):
            break
        prediction["class_ids"].append(int(row[f"class_id{suffix}"]))
        prediction["scores"].append(float(row[f"score{suffix}"]))
        prediction["label_names"].append(original_text(row[f"label_name{suffix}"]))
    return prediction | ({"error": original_text(row["error"])} if row["error"] else {})


def _of_rows_of_classes(rows: Iterable[dict]) -> Iterator[dict]:
    prediction, most_classes = None, 0
    for row in rows:
        file_name = original_text(row["file_name"])
        if prediction is None or file_name != prediction["file_name"]:
            if prediction is not None:
                most_classes = max(most_classes, len(prediction["class_ids"]))
                yield prediction
            prediction = {"class_ids": [], "scores": [], "file_name": file_name, "label_names": []}
        if row["error"]:
            prediction["error"] = original_text(row["error"])
        elif row["rank"]:
            prediction["class_ids"].append(int(row["class_id"]))
            prediction["scores"].append(float(row["score"]))
            prediction["label_names"].append(original_text(row["label_name"]))
    if prediction is not None and (len(prediction["class_ids"]) >= most_classes or not prediction["class_ids"]):
        yield prediction


def check_same_classes(path: str | Path, class_names: Sequence[str] | None) -> None:
    """Check that the predictions in `path` name classes as the model does that is to predict the remaining images.

    Args:
        path: file of an earlier run.
        class_names: names of the model's classes; None if they have none.

    Raises:
        PredictionsFileError: a class has another name in the file: the file is of another model.
    """
    for prediction in read_predictions(path):
        for label, name in zip(prediction["class_ids"], prediction["label_names"], strict=True):
            known = class_names[label] if class_names and label < len(class_names) else None
            expected = known if class_names else f"class {label}"
            if name != expected:
                raise PredictionsFileError(
                    f"--resume_from {path}: class {label} is called {name!r} there and {expected!r} by this model: the "
                    "predictions are of another model; name another file, or leave out --resume_from"
                )
