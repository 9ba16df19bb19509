"""`python -m alignment.weights convert IN OUT --case NAME`: weights of any publisher, in either direction, safely."""

import argparse
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import ReferenceFailedError, WeightsError

from .case import Case, read_case
from .reference import File, Reference
from .rules import Arrays, unaccounted

# The first bytes of a file of torch: a zip archive since 1.6, before it a pickle of this number (protocol 2).
TORCH_STARTS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
EXTENSIONS = {"paddle": ".pdparams", "torch": ".pth", "safetensors": ".safetensors"}


class Converted(NamedTuple):
    """Arrays by the port's names, the layout they came in, and how many entries were dropped as counters."""

    arrays: Arrays
    layout: str
    num_read: int


def load_torch_weights(path: str | Path, case_name: str, python: str = sys.executable) -> tuple[Arrays, str]:
    """(arrays with the names and layouts of the Paddle model, the case used), from a file of torch.

    Starts PyTorch in a process of its own; MissingReferenceError (7) without it, WeightsError (4) for a file that is
    unsafe, damaged or of another network.
    """
    case = read_case(case_name)
    with Reference(python) as reference:
        converted = read_for_port(Path(path), case, reference, any_classes=True)
    return converted.arrays, case.name


def read_for_port(
    path: Path, case: Case, reference: Reference, layout: str | None = None, *, any_classes: bool = False
) -> Converted:
    """Any file in the port's names: of torch, .pdparams, .pd, safetensors, in the case's layouts.

    The layout is the one under which every name and shape fits; none, or more than one, is an error. `any_classes`
    takes fine-tuned weights too, whose classifier has another number of classes than the case.
    """
    arrays, is_torch = read_arrays_of(path, reference)
    expected = _port_shapes(case)
    candidates = [layout] if layout else ["torch"] if is_torch else ["paddle", "torch", *case.layouts]
    tried, misnamed = {}, set()
    for name in candidates:
        try:
            port_arrays = case.rules(name).to_port(arrays)
        except WeightsError as error:
            tried[name] = [str(error)]
            misnamed.add(name)
            continue
        tried[name] = unaccounted(port_arrays, expected)
        if tried[name] and any_classes and (num_classes := _num_classes(case, port_arrays, expected)):
            tried[name] = unaccounted(port_arrays, _port_shapes(case, num_classes))
        if not tried[name]:
            tried[name] = port_arrays
    fits = [name for name, result in tried.items() if isinstance(result, dict)]
    if len(fits) == 1:
        return Converted(tried[fits[0]], fits[0], len(arrays))
    if fits:
        raise WeightsError(f"{path} fits the layouts {' and '.join(fits)} of {case.name}; say which with --layout")
    nearest = min(tried, key=lambda name: (name in misnamed, len(tried[name])))
    lines = tried[nearest][:8] + ([f"and {len(tried[nearest]) - 8} more"] if len(tried[nearest]) > 8 else [])
    raise WeightsError(f"{path} does not fit {case.name} (layout {nearest}):\n  " + "\n  ".join(lines))


def read_for_reference(path: Path, case: Case, reference: Reference) -> Arrays:
    """Any file in the reference's names, for `--weights` of the stages."""
    return case.rules("torch").from_port(read_for_port(path, case, reference).arrays)


def read_arrays_of(path: Path, reference: Reference) -> tuple[Arrays, bool]:
    """(arrays as they are in the file, whether it is torch's); no file can run code."""
    if not path.is_file():
        raise WeightsError(f"no such file: {path}")
    with open(path, "rb") as file:
        is_torch = file.read(64).startswith(TORCH_STARTS)
    if not is_torch:
        from engine.weights import load_weights

        return load_weights(path).arrays, False
    try:
        return reference.ask_arrays("load_file", path=File.at(path))[1], True
    except ReferenceFailedError as error:
        if "UnpicklingError" in str(error):
            text = "it asks for objects that no weights need and that could run code; nothing in it was run"
        else:
            text = str(error).splitlines()[0][:300]
        raise WeightsError(f"{path} was refused: {text}") from None


def _port_shapes(case: Case, num_classes: int | None = None) -> dict[str, tuple[int, ...]]:
    from .port import build

    if num_classes:
        case = replace(case, port_arguments={**case.port_arguments, "num_classes": num_classes})
    return {name: tuple(value.shape) for name, value in build(case).state_dict().items()}


def _num_classes(case: Case, arrays: Arrays, expected: dict[str, tuple[int, ...]]) -> int | None:
    """What the classifier of `arrays` has, if the port is one of models/: the axes that a port of 7 has otherwise."""
    if ":" in case.port:
        return None
    found = {
        arrays[name].shape[axis]
        for name, shape in _port_shapes(case, 7).items()
        for axis, size in enumerate(shape)
        if size != expected[name][axis] and name in arrays and arrays[name].ndim == len(shape)
    }
    return found.pop() if len(found) == 1 else None


def convert(source: Path, target: Path, case: Case, to: str, reference: Reference, layout: str | None) -> Converted:
    """Read, account for every tensor, write; the target appears whole or not at all."""
    converted = read_for_port(source, case, reference, layout, any_classes=True)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(temporary, converted.arrays, case, to, reference)
        temporary.replace(target)
    except OSError as error:
        raise WeightsError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()
    return converted


def _write(path: Path, arrays: Arrays, case: Case, to: str, reference: Reference) -> None:
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    if to == "torch":
        theirs = reference.put(case.rules("torch").from_port(arrays))
        reference.do("save_file", inputs=theirs, path=str(path.resolve()))
    elif to == "safetensors":
        from safetensors.numpy import save

        path.write_bytes(save(arrays))
    else:
        import paddle

        paddle.save({name: paddle.to_tensor(array) for name, array in arrays.items()}, str(path))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m alignment.weights", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser("convert")
    command.add_argument("source", type=Path)
    command.add_argument("target", type=Path)
    command.add_argument("--case", required=True, help="a shipped case, or the path of a YAML file")
    command.add_argument("--to", choices=tuple(EXTENSIONS), help="by default what the target's extension says")
    command.add_argument("--layout", help="how the source is laid out, when its names and shapes leave a doubt")
    command.add_argument("--python", default=sys.executable, help="the interpreter that has PyTorch")
    options = parser.parse_args(argv)
    case = read_case(options.case)
    to = options.to or _by_extension(options.target)
    with Reference(options.python) as reference:
        done = convert(options.source, options.target, case, to, reference, options.layout)
    print(f"case {case.name}: {done.num_read} entries read (layout {done.layout}), {len(done.arrays)} of the port, "
          f"{done.num_read - len(done.arrays)} counters dropped; wrote {options.target} ({to})")  # fmt: skip
    return 0


def _by_extension(target: Path) -> str:
    named = {".pdparams": "paddle", ".pth": "torch", ".pt": "torch", ".tar": "torch", ".safetensors": "safetensors"}
    if target.suffix not in named:
        raise WeightsError(f"what kind of file is {target}? say --to {', '.join(EXTENSIONS)}")
    return named[target.suffix]


if __name__ == "__main__":
    from .__main__ import start

    start(main)
