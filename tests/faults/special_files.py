"""S5: pipes, sockets, devices and folders in place of every file that a program is given."""

import importlib
import os
import random
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tests.datasets.fake_images import fake_image

WALL_SECONDS, PROCESSOR_SECONDS = 120, 20  # of one program; most of it is the import of Paddle


class Input(NamedTuple):
    """A flag that takes a file.

    Attributes:
        program: the module whose main is called.
        suffix: of the special file; "card" for a folder with a special file as card.yaml.
        argv: arguments; FILE stands for the special file and HERE for a folder with an image and a list.
        exit_code: of the error.
    """

    program: str
    suffix: str
    argv: str
    exit_code: int


LISTS = "--cls_label_path_train HERE/l.txt --cls_label_path_val HERE/l.txt"
DATA = f"--data_path HERE {LISTS} --nb_classes 2 --output_dir HERE/out"
INPUTS = [
    Input("main", ".yaml", "--config FILE", 2),
    Input("main", ".pd", f"{DATA} --resume FILE", 4),
    Input("main", ".pd", f"{DATA} --finetune FILE", 4),
    Input("main", ".txt", f"{DATA} --cls_label_path_train FILE", 3),
    Input("main", ".txt", f"{DATA} --cls_label_path_val FILE", 3),
    Input("main", ".txt", f"{DATA} --label_list FILE", 3),
    Input("eval", ".yaml", "--config FILE", 2),
    Input("eval", ".pd", "--data_path HERE --resume FILE", 4),
    Input("predict", ".yaml", "--config FILE", 2),
    Input("predict", ".pd", "--infer_imgs HERE --resume FILE", 4),
    Input("predict", ".png", "--infer_imgs FILE --resume HERE/x.pd", 3),
    Input("export_model", ".yaml", "--config FILE", 2),
    Input("export_model", ".pd", "--resume FILE --output_dir HERE/exported", 4),
    Input("infer", ".yaml", "--config FILE", 2),
    Input("infer", ".json", "--model_file FILE --params_file HERE/l.txt --input_file HERE", 4),
    Input("infer", ".json", "--model_file HERE/a.json --params_file FILE --input_file HERE", 4),
    Input("infer", ".onnx", "--model_file FILE --engine onnxruntime --input_file HERE", 4),
    Input("infer", ".png", "--model_file HERE --input_file FILE", 3),
    Input("infer", ".csv", "--model_file HERE --input_file HERE --resume_from FILE", 2),
    Input("infer", "card", "--model_file FILE --input_file HERE", 4),
    Input("datasets.check.__main__", ".txt", "HERE --lists FILE", 3),
    Input("datasets.check.__main__", ".txt", "HERE --lists HERE/l.txt --manifest FILE", 3),
    Input("datasets.pack", ".txt", "--data_path HERE --list FILE --output_dir HERE/packed", 3),
    Input("alignment.cli", ".yaml", "forward FILE", 2),
    Input("alignment.cli", ".pd", "forward ladder --weights FILE", 4),
    Input("alignment.cli", ".npy", "compare FILE FILE", 4),
    Input("alignment.cli", ".png", "data ladder --images FILE", 3),
    Input("alignment.cli", ".py", "forward CASE", 2),
    Input("alignment.weights", ".pd", "convert FILE HERE/o.pdparams --case ladder", 4),
    Input("alignment.weights", ".yaml", "convert HERE/x.pd HERE/o.pdparams --case FILE", 2),
]


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def _link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_suffix(".target"))
    path.symlink_to(path.with_suffix(".target"))


KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "link to a pipe": _link_to_a_pipe,
    "socket": _socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
}


def s5(cases: int, seed: int) -> dict:
    """Every input with every kind of special file, each in a process of its own: an error with its exit code."""
    combinations = list(product(INPUTS, KINDS))
    random.Random(seed).shuffle(combinations)  # so that a short form has all programs and kinds
    cases = min(cases, len(combinations))
    wrong = []
    for given, kind in combinations[:cases]:
        outcome = _outcome(given, kind)
        if outcome != str(given.exit_code):
            wrong.append(f"{given.program} {given.argv}, {kind}: {outcome}")
    for line in wrong:
        print(line, file=sys.stderr)
    return {"cases": cases, "broken": len(wrong), "inputs": len(INPUTS), "kinds": len(KINDS)}


def _outcome(given: Input, kind: str) -> str:
    """The exit code of the program, or what happened instead of an error."""
    folder = Path(tempfile.mkdtemp(prefix="faults-s5-"))
    (folder / "here").mkdir()
    fake_image(40, 30).save(folder / "here" / "a.png")
    (folder / "here" / "l.txt").write_text("a.png 0\n")
    (folder / "here" / "a.json").write_text("{}")
    file = folder / f"special{given.suffix if given.suffix.startswith('.') else ''}"
    if given.suffix == "card":
        file.mkdir()
        KINDS[kind](file / "card.yaml")
    else:
        KINDS[kind](file)
    (folder / "case.yaml").write_text(f"port: {file.name}:Net\nreference: {file.name}:Net\n")
    names = {"FILE": str(file), "HERE": str(folder / "here"), "CASE": str(folder / "case.yaml")}
    argv = given.argv
    for name, path in names.items():
        argv = argv.replace(name, path)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run(given.program, argv.split(), writer)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    return text or f"ended by signal {status & 0x7F}"


def _run(program: str, argv: list[str], report_to: int) -> None:
    signal.alarm(WALL_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            outcome = f"no error, {importlib.import_module(program).main(argv)}"
        except BaseException as error:
            outcome = str(getattr(error, "exit_code", f"{type(error).__name__}: {error}"))
    os.write(report_to, outcome.encode())
    os._exit(0)
