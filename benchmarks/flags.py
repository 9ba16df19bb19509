"""Flags that several benchmarks share; a file that cannot be written is an error before anything is measured."""

import argparse
from pathlib import Path

from benchmarks.record import RESULTS


def add_results_flag(parser: argparse.ArgumentParser) -> None:
    """Add --results, the file of results.jsonl's format."""
    parser.add_argument(
        "--results", type=_writable_file, default=str(RESULTS), help="file to which one line of results is appended"
    )


def add_output_flag(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --output_dir, which is created."""
    parser.add_argument("--output_dir", type=_writable_folder, default=default, help="folder of plots and models")


def _writable_file(text: str) -> Path:
    try:
        Path(text).open("a").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text}: {error.strerror}") from None
    return Path(text)


def _writable_folder(text: str) -> Path:
    try:
        Path(text).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write into {text}: {error.strerror}") from None
    return Path(text)
