"""reprod_log's `.npy` dictionaries: read without running them, written for its users, and compared strictly."""

import argparse
import io
import pickletools
from pathlib import Path
from tokenize import TokenError

import numpy as np

from common.errors import WeightsError

from .compare import compare
from .verdict import PASS, Check, within

# How numpy 1 and 2 end the pickle of a 0-d object array: the dictionary goes into a list, the list into the array.
ENDINGS = (["APPEND", "TUPLE", "MEMOIZE", "BUILD", "STOP"], ["APPEND", "TUPLE", "BINPUT", "BUILD", "STOP"])


def read_dictionary(path: str | Path) -> dict[str, np.ndarray]:
    """What ReprodLogger.save wrote: {key: array}. WeightsError for anything else; no file can run code."""
    from common.errors import CheckpointError
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
    except (OSError, ValueError, TokenError) as error:  # numpy takes the header for Python 2's, and apart
        raise WeightsError(f"{path} is not a file of reprod_log: {error}") from None
    except CheckpointError as error:
        raise WeightsError(str(error)) from None
    return sections["model"]


def _dictionary_pickle(data: bytes) -> bytes:
    """The pickle of the dictionary inside that of the array: stop before the array is built of it.

    Rewritten without being run; read_pickle then checks it like any other. Frames only help streaming, and their
    lengths would no longer be right.
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


def write_dictionary(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """A file that ReprodDiffHelper.load_info reads."""
    np.save(path, {name: np.asarray(array) for name, array in arrays.items()})


def compare_dictionaries(ours: dict, theirs: dict, tolerance: float) -> list[Check]:
    """One check for each key of either side: a missing key, another shape, NaN or a constant is no success."""
    checks = []
    for key in dict.fromkeys([*ours, *theirs]):
        if key not in ours or key not in theirs:
            checks.append(Check(key, "fail", detail=f"only in the {'first' if key in ours else 'second'} file"))
            continue
        detail = "" if ours[key].dtype == theirs[key].dtype else f"{ours[key].dtype} against {theirs[key].dtype}"
        check = within(key, compare(ours[key], theirs[key]), tolerance, detail=detail)
        checks.append(Check(key, "fail", check.value, tolerance, detail) if detail else check)
    return checks


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m alignment compare", description=__doc__)
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-5, help="relative to the largest number of each array")
    options = parser.parse_args(argv)
    checks = compare_dictionaries(read_dictionary(options.ours), read_dictionary(options.theirs), options.tolerance)
    for check in checks:
        number = "" if check.value is None else f"{check.value:.2e}"
        print(f"{check.status:<12} {check.name:<30} {number:<10} {check.detail}")
    return 0 if checks and all(check.status == PASS for check in checks) else 6
