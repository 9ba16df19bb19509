"""Flags of the benchmarks: what is wrong is said before anything is measured, not at the end of an hour."""

import argparse
from pathlib import Path

from benchmarks.record import RESULTS


def from_one(text: str) -> int:
    """A number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text}")
    return number


def add_results_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=_file, default=str(RESULTS), help="file that gets a line of this run")


def add_output_flag(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--output_dir", type=_folder, default=default)


def _file(text: str) -> Path:
    try:
        Path(text).open("a").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text}: {error.strerror}") from None
    return Path(text)


def _folder(text: str) -> Path:
    try:
        Path(text).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write into {text}: {error.strerror}") from None
    return Path(text)
