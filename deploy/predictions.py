"""Records on disk: .json (one array), .jsonl (a line a record) or .csv (a row a class), written as they come."""

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

from common.errors import DataError, DiskError, PredictionsFileError

SUFFIXES = (".json", ".jsonl", ".csv")
KEYS = {"class_ids", "scores", "file_name", "label_names"}  # of every record; one that failed has "error" too
CSV_COLUMNS = ("file_name", "rank", "class_id", "score", "label_name", "error")


def failure_record(file_name: str, reason: str) -> dict:
    """The record of an image that could not be read: no classes, and why."""
    return {"class_ids": [], "scores": [], "file_name": file_name, "label_names": [], "error": reason}


def show_records(records: list[dict]) -> int:
    """Print a batch: what was answered as one list on stdout, each failure on stderr; returns the failures."""
    answered = [record for record in records if "error" not in record]
    if answered:
        print(answered, flush=True)
    failures = [record for record in records if "error" in record]
    for record in failures:
        print(f"error: {record['file_name']}: {record['error']}", file=sys.stderr, flush=True)
    return len(failures)


def write_predictions(
    batches: Iterable[list[dict]], num_images: int, save_path: str, kept: Iterable[dict] = ()
) -> None:
    """Show the records of `num_images` as they come; a `save_path` keeps them, after those `kept` from an earlier run.

    Raises:
        DataError: some images could not be read; the others were answered.
    """
    num_failures = 0
    with RecordWriter(save_path, kept) if save_path else nullcontext() as writer:
        for records in batches:
            if writer:
                writer.write(records)
            num_failures += show_records(records)
    if num_failures:
        raise DataError(f"{num_failures} of {num_images} images could not be read; the others were answered")


class RecordWriter:
    """Writes records to `path`, after the records `kept` from an earlier run.

    A .jsonl or .csv file grows as records come, so that what a killed run has written can be read. A .json file appears
    when it is complete. File names that are not UTF-8 are escaped in JSON, and kept byte for byte in a .csv.
    """

    def __init__(self, path: str | Path, kept: Iterable[dict] = ()):
        self._path = Path(path)
        if self._path.suffix not in SUFFIXES:
            raise PredictionsFileError(
                f"{path}: records are written to {', '.join(SUFFIXES)} files, not {self._path.suffix!r}"
            )
        self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        errors = "surrogateescape" if self._path.suffix == ".csv" else "backslashreplace"  # which JSON reads back
        self._num_written = 0
        with self._disk():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("w", encoding="utf-8", errors=errors, newline="")
        try:
            self._begin(kept)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def _begin(self, kept: Iterable[dict]) -> None:
        if self._path.suffix == ".csv":
            # Its own lines end in \r\n: so it quotes a name that holds one of these.
            self._rows = csv.writer(SimpleNamespace(write=lambda line: self._file.write(line[:-2] + "\n")))
            self._rows.writerow(CSV_COLUMNS)
        for record in kept:
            self.write([record])
        if self._path.suffix != ".json":
            with self._disk():
                self._file.flush()
                os.replace(self._temporary, self._path)  # the open file keeps its place under the new name

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskError(f"cannot write {self._path}: {error.strerror or error}") from None

    def write(self, records: Iterable[dict]) -> None:
        """Append `records` and hand them to the operating system.

        Raises:
            DiskError: it does not take them.
        """
        with self._disk():
            for record in records:
                if self._path.suffix == ".csv":
                    self._rows.writerows(_csv_rows(record))
                else:
                    before = "" if self._path.suffix == ".jsonl" else "[\n" if self._num_written == 0 else ",\n"
                    after = "\n" if self._path.suffix == ".jsonl" else ""
                    self._file.write(before + json.dumps(record, ensure_ascii=False) + after)
                self._num_written += 1
            self._file.flush()

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        try:
            with self._disk():
                if self._path.suffix == ".json" and error_type is None:
                    self._file.write("[]\n" if self._num_written == 0 else "\n]\n")
                self._file.close()
                if self._path.suffix == ".json" and error_type is None:
                    os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


def read_records(path: str | Path) -> Iterator[dict]:
    """The records of a file that RecordWriter wrote; of a killed run, all but the one it was writing.

    In a .csv the rows of that one can be whole lines: a last image with fewer classes than another one is left out.

    Raises:
        RecordsError: not such a file.
    """
    path = Path(path)
    reader = {".json": _read_json, ".jsonl": _read_jsonl, ".csv": _read_csv}.get(path.suffix)
    if reader is None:
        raise PredictionsFileError(f"{path}: records are read from {', '.join(SUFFIXES)} files, not {path.suffix!r}")
    try:
        errors = "surrogateescape" if path.suffix == ".csv" else "strict"
        with path.open(encoding="utf-8", errors=errors, newline="\n") as file:
            for record in reader(file):
                if not (isinstance(record, dict) and record.keys() >= KEYS):
                    raise ValueError(f"{record!r:.80} is none")
                yield record
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise PredictionsFileError(f"{path}: cannot be read as records: {error}") from None


def _read_json(file) -> Iterator[dict]:
    yield from json.load(file)


def _read_jsonl(file) -> Iterator[dict]:
    for line in file:
        if line.endswith("\n"):  # the last line of a killed run may be half a record
            yield json.loads(line)


def _csv_rows(record: dict) -> list[tuple]:
    classes = zip(record["class_ids"], record["scores"], record["label_names"], strict=True)
    rows = [(record["file_name"], rank, *one, "") for rank, one in enumerate(classes, start=1)]
    return rows or [(record["file_name"], "", "", "", "", record.get("error", ""))]


def _read_csv(file) -> Iterator[dict]:
    record, most = None, 0
    for row in csv.DictReader(line for line in file if line.endswith("\n")):
        if record is None or row["file_name"] != record["file_name"]:
            if record is not None:
                most = max(most, len(record["class_ids"]))
                yield record
            record = {"class_ids": [], "scores": [], "file_name": row["file_name"], "label_names": []}
        if row["error"]:
            record["error"] = row["error"]
        elif row["rank"]:
            record["class_ids"].append(int(row["class_id"]))
            record["scores"].append(float(row["score"]))
            record["label_names"].append(row["label_name"])
    if record is not None and (len(record["class_ids"]) >= most or not record["class_ids"]):
        yield record
