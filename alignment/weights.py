"""`python -m alignment.weights convert IN OUT --case NAME`: convert weights between publishers, in both directions."""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "yaml")

import argparse
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from common.cli import run
from common.errors import UsageError, WeightsError
from common.files import atomic_write, disk_errors
from common.printable import print_safely

from .case import TRUST_CASE, Case, read_case
from .random_arrays import images_of
from .reference import Reference
from .rules import Arrays, unaccounted

FORMAT_OF_EXTENSION = {
    ".pdparams": "paddle",
    ".pth": "torch",
    ".pt": "torch",
    ".tar": "torch",
    ".safetensors": "safetensors",
}
FORMATS = ("paddle", "torch", "safetensors")
MAX_LINES = 8  # of a message that lists entries
PARALLEL = "module."  # before the names of torch's DataParallel
COUNTER = "num_batches_tracked"
OTHER_NUM_CLASSES = 7  # any number that no case has


class Converted(NamedTuple):
    """Arrays by the names of the port, the layout of the file, and the number of entries in the file."""

    arrays: Arrays
    layout: str
    num_read: int


def load_torch_weights(path: str | Path, case_name: str) -> tuple[Arrays, str]:
    """Read a torch file, without PyTorch; returns (arrays by the names of the Paddle model, name of the case).

    Raises:
        CaseError: there is no such case.
        CheckpointError: the file is missing, damaged or unsafe.
        WeightsError: the file is of another network.
    """
    case = read_case(case_name)
    return read_for_port(Path(path), case, any_classes=True).arrays, case.name


def read_for_port(
    path: Path,
    case: Case,
    layout: str | None = None,
    *,
    any_classes: bool = False,
    expected: Mapping[str, tuple[int, ...]] | None = None,
    complete: Callable[[Arrays], Arrays] = dict,
) -> Converted:
    """Read a file of torch, of Paddle, of this project (.pd) or of safetensors by the names of the port.

    Args:
        path: the file.
        case: its layouts are tried, and the one under which every name and shape fits is taken.
        layout: the only layout to try.
        any_classes: accept fine-tuned weights, whose classifier has another number of classes than the case.
        expected: {name: shape} of the port; by default the port of the case is built.
        complete: adds the second names of tensors of the port, as an LSTM has them.

    Raises:
        CheckpointError: the file is missing, damaged or unsafe. No code from the file is run.
        WeightsError: no layout fits, or more than one.
    """
    from engine.weights import load_weights

    weights = load_weights(path)
    expected = _port_shapes(case) if expected is None else expected
    candidates = [layout] if layout else ["torch"] if weights.layout == "torch" else ["paddle", "torch", *case.layouts]
    fits, problems, misnamed = {}, {}, set()
    for name in candidates:
        try:
            port_arrays = complete(case.rules(name).to_port(weights.arrays))
        except WeightsError as error:
            problems[name] = [str(error)]
            misnamed.add(name)
            continue
        problems[name] = _problems(case, port_arrays, expected, any_classes=any_classes)
        if not problems[name]:
            fits[name] = port_arrays
    if len(fits) == 1:
        [(name, port_arrays)] = fits.items()
        return Converted(port_arrays, name, len(weights.arrays))
    if fits:
        raise WeightsError(f"{path} fits the layouts {' and '.join(fits)} of {case.name}; choose one with --layout")
    nearest = min(problems, key=lambda name: (name in misnamed, len(problems[name])))
    lines, num_more = problems[nearest][:MAX_LINES], len(problems[nearest]) - MAX_LINES
    lines += [f"and {num_more} more"] if num_more > 0 else []
    raise WeightsError(f"{path} does not fit {case.name} (layout {nearest}):\n  " + "\n  ".join(lines))


def read_for_reference(path: Path, case: Case, expected: Mapping[str, tuple[int, ...]] | None = None) -> Arrays:
    """Read a file of weights by the names of the reference; the arguments are those of `read_for_port`.

    Raises:
        CheckpointError, WeightsError: as `read_for_port`.
    """
    return case.rules("torch").from_port(read_for_port(path, case, expected=expected).arrays)


def read_with_names(path: Path, entries: list[dict], layout: str) -> Arrays | None:
    """Read a file of the reference's own weights, for which no rules are needed; None if the file is not one.

    Args:
        path: the file.
        entries: name, shape and type of every entry of the reference.
        layout: torch or paddle, of the reference. A file that does not tell its layout is not taken: the matrices of
            linear layers could be those of the port.

    Raises:
        CheckpointError: the file is missing, damaged or unsafe. No code from the file is run.
    """
    from engine.weights import load_weights

    weights = load_weights(path)
    arrays = weights.arrays
    if all(name.startswith(PARALLEL) for name in arrays):
        arrays = {name.removeprefix(PARALLEL): array for name, array in arrays.items()}
    # Files of old versions of torch have no counters.
    counters = {e["name"]: np.zeros(e["shape"], np.int64) for e in entries if e["name"].endswith(COUNTER)}
    arrays = {**counters, **arrays}
    shapes = {entry["name"]: tuple(entry["shape"]) for entry in entries}
    is_fitting = weights.layout == layout and {name: array.shape for name, array in arrays.items()} == shapes
    return arrays if is_fitting else None


def _problems(case: Case, arrays: Arrays, expected: Mapping[str, tuple[int, ...]], *, any_classes: bool) -> list[str]:
    """Entries that do not fit the port of the case, or with `any_classes` a port with as many classes as the arrays."""
    problems = unaccounted(arrays, expected)
    if problems and any_classes and (num_classes := _num_classes(case, arrays, expected)):
        return unaccounted(arrays, _port_shapes(case, num_classes))
    return problems


def _port_shapes(case: Case, num_classes: int | None = None) -> dict[str, tuple[int, ...]]:
    from .paddle_side.port import build, state_shapes

    if num_classes:
        case = replace(case, port_arguments={**case.port_arguments, "num_classes": num_classes})
    return state_shapes(build(case))


def _num_classes(case: Case, arrays: Arrays, expected: Mapping[str, tuple[int, ...]]) -> int | None:
    """Number of classes of the arrays, or None. It is the size of the axes that change with the number of classes."""
    if ":" in case.port:
        return None  # only models of models/ are known to take num_classes
    sizes = {
        arrays[name].shape[axis]
        for name, shape in _port_shapes(case, OTHER_NUM_CLASSES).items()
        for axis, size in enumerate(shape)
        if size != expected[name][axis] and name in arrays and arrays[name].ndim == len(shape)
    }
    return sizes.pop() if len(sizes) == 1 else None


def convert(source: Path, target: Path, case: Case, to: str, reference: Reference, layout: str | None) -> Converted:
    """Read `source`, account for every entry, and write `target` whole or not at all.

    Args:
        source: file of weights.
        target: file to write; its folder is made.
        case: the network.
        to: one of FORMATS.
        reference: the process that writes torch files.
        layout: layout of the source, or None to find it.

    Raises:
        CheckpointError, WeightsError: as `read_for_port`.
        UsageError: the target is the source.
        MissingDependencyError: a torch file is to be written or rules are to be found, and PyTorch is missing.
        DiskError: the target cannot be written.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"{target}: source and target are one file; name another target")
    from .paddle_side.port import PortState, build

    port = PortState.of_model(build(case), case.keep)
    if case.transpose is None and case.reference:  # a case without rules: they are found, as by `alignment all`
        case = _with_found_rules(case, reference)

    def complete(arrays: Arrays) -> Arrays:
        return port.completed(arrays, case.keep, {})

    shapes = {name: array.shape for name, array in port.arrays.items()}
    converted = read_for_port(source, case, layout, any_classes=True, expected=shapes, complete=complete)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            _write(file, converted.arrays, port.shared if to == "torch" else (), case, to, reference)
    return converted


def _with_found_rules(case: Case, reference: Reference) -> Case:
    from .mapping.resolve import with_adapter, with_rules
    from .paddle_side.port import build

    case = with_adapter(case, reference)
    images = images_of(case, case.shape)

    def draw(case: Case) -> Arrays:
        file = reference.put({"images": images})
        question = {"reference": case.reference_spec, "seed": case.seed, "images": file, "num_checked": len(images)}
        return reference.ask_arrays("initialise", **question)[1]

    return with_rules(case, reference, lambda: build(case), images, draw)[0]


def _write(
    file: IO[bytes], arrays: Arrays, left_out: Collection[str], case: Case, to: str, reference: Reference
) -> None:
    """Write to an open file. torch and Paddle open it once more by its name, which POSIX and Windows allow.

    Args:
        file: open for writing.
        arrays: by the names of the port.
        left_out: names that are not written.
        case: the network.
        to: one of FORMATS.
        reference: the process that writes torch files.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items() if name not in left_out}
    if to == "torch":
        inputs = reference.put(case.rules("torch").from_port(arrays))
        reference.do("save_file", inputs=inputs, path=str(Path(file.name).resolve()))
    elif to == "safetensors":
        from engine.safetensors_io import encode

        file.writelines(encode(arrays, {}))
    else:
        import paddle

        paddle.save({name: paddle.to_tensor(array) for name, array in arrays.items()}, file.name)


def main(argv: list[str]) -> int:
    """Convert a file of weights and print what was read and written; returns the exit code."""
    parser = argparse.ArgumentParser("python -m alignment.weights", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser("convert")
    command.add_argument("source", type=Path, help="file of torch, Paddle, safetensors, or a checkpoint of main.py")
    command.add_argument("target", type=Path, help="file to write")
    command.add_argument("--case", required=True, help="name of a shipped case, or path of a YAML file")
    command.add_argument("--trust_case", action="store_true", help=TRUST_CASE)
    command.add_argument("--to", choices=FORMATS, help="format of the target; by default that of its extension")
    command.add_argument("--layout", help="layout of the source, where names and shapes fit more than one")
    command.add_argument(
        "--python", default=sys.executable, help="Python interpreter that has PyTorch, to write torch files"
    )
    options = parser.parse_args(argv)
    case = read_case(options.case, is_trusted=options.trust_case)
    to = options.to or _format_of(options.target)
    with Reference(options.python) as reference:
        done = convert(options.source, options.target, case, to, reference, options.layout)
    dropped = max(0, done.num_read - len(done.arrays))  # counters of batch norms, which a port does not have
    print_safely(
        f"case {case.name}: {done.num_read} entries read (layout {done.layout}), {len(done.arrays)} of the port, "
        f"{dropped} counters dropped; wrote {options.target} ({to})"
    )
    return 0


def _format_of(target: Path) -> str:
    if target.suffix not in FORMAT_OF_EXTENSION:
        raise WeightsError(f"{target}: the extension names no format; add --to with one of {', '.join(FORMATS)}")
    return FORMAT_OF_EXTENSION[target.suffix]


if __name__ == "__main__":
    run(main)
