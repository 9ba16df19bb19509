"""Read, write and compare the `.npy` dictionaries of reprod_log, without running code from them."""

import argparse
import re
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from common.errors import CheckpointError, WeightsError
from common.files import atomic_write
from common.printable import print_safely
from common.regular_files import read_regular

from ..pipeline.judge import array_difference
from ..rules import Arrays
from ..verdict import FAIL, PASS, Check, within

MAX_BYTES, MAX_HEADER = 1 << 32, 200
UNNAMED = "array"  # key of the array in a file of numpy.save
# The header that numpy writes for a dictionary: an array of one Python object, which it pickles behind the header.
HEADER = re.compile(rb"\x93NUMPY(?:\x01\x00..|[\x02\x03]\x00....)(\{[ -z|]{10,100}\}) *\n", re.DOTALL)
OF_A_DICTIONARY = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"


def read_dictionary(path: str | Path) -> Arrays:
    """Read {key: array} from a file of ReprodLogger.save.

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds anything else. No code from the file is run.
    """
    path = Path(path)
    return _dictionary_of(_read(path), path)


def read_recorded(path: str | Path) -> Arrays:
    """Read the arrays of a file of ReprodLogger.save, of numpy.savez, or of numpy.save, whose one array is `array`.

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds Python objects. No code from the file is run.
    """
    path = Path(path)
    data = _read(path)
    if HEADER.match(data) and b"'descr': '|O'" in data[:MAX_HEADER]:
        return _dictionary_of(data, path)
    try:
        found = np.load(BytesIO(data), allow_pickle=False)
        return {UNNAMED: found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise WeightsError(f"{path} is neither a file of reprod_log nor of numpy: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None


def _dictionary_of(data: bytes, path: Path) -> Arrays:
    from engine.paddle_pickle import read_pickled_dictionary

    if not (header := HEADER.match(data)):
        raise WeightsError(f"{path} is not a file of reprod_log: it does not begin as numpy.save writes a dictionary")
    if header[1] != OF_A_DICTIONARY:
        raise WeightsError(f"{path} is not a dictionary of reprod_log: it holds an array, {header[1].decode()}")
    try:
        return read_pickled_dictionary(data[header.end() :], path)
    except CheckpointError as error:
        raise WeightsError(str(error)) from None


def write_dictionary(path: str | Path, arrays: Arrays) -> None:
    """Write {key: array} to a file that ReprodDiffHelper.load_info reads."""
    path = Path(path)
    with atomic_write(path if path.suffix == ".npy" else path.with_name(path.name + ".npy")) as file:
        np.save(file, {name: np.asarray(array) for name, array in arrays.items()})


def compare_dictionaries(actual: Arrays, expected: Arrays, tolerance: float) -> list[Check]:
    """One check for each key of the two; a missing key, another shape or type, NaN and a constant do not pass.

    Shapes that differ in axes of length 1 alone are compared: a loss may be [1] in one file and [] in the other. Two
    arrays without names are compared, whatever the key.
    """
    checks = []
    if len(actual) == len(expected) == 1 and UNNAMED in (*actual, *expected):
        expected = dict(zip(actual, expected.values(), strict=True))
    for key in dict.fromkeys([*actual, *expected]):
        if key not in actual or key not in expected:
            checks.append(Check(key, FAIL, detail=f"only in the {'first' if key in actual else 'second'} file"))
            continue
        types = actual[key].dtype, expected[key].dtype
        check = within(key, array_difference(actual[key], expected[key]), tolerance)
        if actual[key].shape != expected[key].shape and not check.detail:
            check.detail = f"shape {list(actual[key].shape)} against {list(expected[key].shape)}"
        if types[0] != types[1]:
            check = Check(key, FAIL, check.value, tolerance, f"{types[0]} against {types[1]}")
        checks.append(check)
    return checks


def main(argv: list[str]) -> int:
    """Compare two files of recorded arrays, print one line per key; returns 0 if all agree, else 6."""
    parser = argparse.ArgumentParser("python -m alignment compare", description=__doc__)
    parser.add_argument("actual", type=Path, help="file of the port: of reprod_log, or .npy or .npz of numpy")
    parser.add_argument("expected", type=Path, help="file of the reference")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="relative to the largest number of each array")
    options = parser.parse_args(argv)
    actual, expected = read_recorded(options.actual), read_recorded(options.expected)
    checks = compare_dictionaries(actual, expected, options.tolerance)
    for check in checks:
        number = "" if check.value is None else f"{check.value:.2e}"
        print_safely(f"{check.status:<12} {check.name:<30} {number:<10} {check.detail}")
    return 0 if checks and all(check.status == PASS for check in checks) else 6
