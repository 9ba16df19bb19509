"""Read, write and compare the `.npy` dictionaries of reprod_log, without running code from them."""

import argparse
import io
import pickletools
from pathlib import Path
from tokenize import TokenError

import numpy as np

from common.errors import CheckpointError, WeightsError
from common.printable import print_safely

from ..compare import compare
from ..rules import Arrays
from ..verdict import FAIL, PASS, Check, within

# Last operations of the pickle of a 0-d object array by numpy 1 and 2: they put the dictionary into the array.
ENDINGS = (["APPEND", "TUPLE", "MEMOIZE", "BUILD", "STOP"], ["APPEND", "TUPLE", "BINPUT", "BUILD", "STOP"])


def read_dictionary(path: str | Path) -> Arrays:
    """Read {key: array} from a file of ReprodLogger.save.

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds anything else. No code from the file is run.
    """
    from engine.paddle_pickle import read_pickle

    path = Path(path)
    try:
        data = path.read_bytes()
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if not dtype.hasobject or shape != ():
            raise WeightsError(f"{path} is not a dictionary of reprod_log: it holds {dtype} {list(shape)}")
        sections, _ = read_pickle(_dictionary_pickle(data[file.tell() :]), path)
    except (OSError, ValueError, TokenError) as error:  # numpy raises TokenError for a header that is no literal
        raise WeightsError(f"{path} is not a file of reprod_log: {error}") from None
    except CheckpointError as error:
        raise WeightsError(str(error)) from None
    return sections["model"]


def _dictionary_pickle(data: bytes) -> bytes:
    """The pickle of the dictionary inside the pickle of the array, cut out without running either.

    read_pickle checks it like any other pickle. Frames are dropped: they only help streaming, and their lengths would
    be wrong.
    """
    operations = list(pickletools.genops(data))
    positions = [position for _, _, position in operations] + [len(data)]
    names = [operation.name for operation, _, _ in operations]
    if names[-5:] not in ENDINGS:
        raise ValueError("the pickle does not end as numpy ends the array of a dictionary")
    parts = []
    for index, (operation, argument, position) in enumerate(operations[:-5]):
        if operation.name == "FRAME":
            continue
        is_object = operation.name in ("SHORT_BINUNICODE", "BINUNICODE") and argument == "O8"
        raw = data[position : positions[index + 1]]
        parts.append(raw.replace(b"O8", b"f8") if is_object else raw)
    return b"".join(parts) + b"."


def write_dictionary(path: str | Path, arrays: Arrays) -> None:
    """Write {key: array} to a file that ReprodDiffHelper.load_info reads."""
    np.save(path, {name: np.asarray(array) for name, array in arrays.items()})


def compare_dictionaries(actual: Arrays, expected: Arrays, tolerance: float) -> list[Check]:
    """One check for each key of the two; a missing key, another shape or type, NaN and a constant do not pass."""
    checks = []
    for key in dict.fromkeys([*actual, *expected]):
        if key not in actual or key not in expected:
            checks.append(Check(key, FAIL, detail=f"only in the {'first' if key in actual else 'second'} file"))
            continue
        types = actual[key].dtype, expected[key].dtype
        check = within(key, compare(actual[key], expected[key]), tolerance)
        if types[0] != types[1]:
            check = Check(key, FAIL, check.value, tolerance, f"{types[0]} against {types[1]}")
        checks.append(check)
    return checks


def main(argv: list[str]) -> int:
    """Compare two files of reprod_log, print one line per key; returns 0 if all agree, else 6."""
    parser = argparse.ArgumentParser("python -m alignment compare", description=__doc__)
    parser.add_argument("actual", type=Path, help="file of the port")
    parser.add_argument("expected", type=Path, help="file of the reference")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="relative to the largest number of each array")
    options = parser.parse_args(argv)
    actual, expected = read_dictionary(options.actual), read_dictionary(options.expected)
    checks = compare_dictionaries(actual, expected, options.tolerance)
    for check in checks:
        number = "" if check.value is None else f"{check.value:.2e}"
        print_safely(f"{check.status:<12} {check.name:<30} {number:<10} {check.detail}")
    return 0 if checks and all(check.status == PASS for check in checks) else 6
