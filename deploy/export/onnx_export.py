"""A Paddle program as ONNX: dynamic batch, names that say what they are, and the card's facts in its metadata."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

from common.errors import ExportedModelError, MissingDependencyError

from ..card import Card, Program

OPSET = 17
# its default optimize_tool, polygraphy, installs packages while it runs
CONVERT = f"""
import sys, onnx, paddle2onnx
paddle2onnx.export(*sys.argv[1:], opset_version={OPSET}, optimize_tool="None")
onnx.checker.check_model(sys.argv[3], full_check=True)
"""
INPUT_NAME, OUTPUT_NAME, BATCH_NAME = "images", "logits", "batch"


def write_onnx(paddle_program: Path, path: Path, card: Card) -> Program:
    """Convert `paddle_program` (model.json with its .pdiparams beside it) to the ONNX file `path`.

    Raises:
        MissingDependencyError: paddle2onnx or onnx is not installed.
        ExportedModelError: the program cannot be written as ONNX.
    """
    missing = [package for package in ("onnx", "paddle2onnx") if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingDependencyError(f"--format onnx: no {missing[0]}; pip install -r requirements-deploy.txt")
    import onnx

    converted = path.with_name("." + path.name)
    _convert(paddle_program, converted)
    model = onnx.load(converted)
    converted.unlink()
    _rename(model.graph)
    _drop_unused(model.graph)
    metadata = {
        "model": card.model,
        "preprocess": json.dumps(card.preprocess.to_dict()),
        "class_names": json.dumps(card.class_names, ensure_ascii=False),
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return Program((path.name,), INPUT_NAME, OUTPUT_NAME)


def _convert(program: Path, path: Path) -> None:
    """By paddle2onnx, in a process of its own: pooling to more than there is, for one, divides by 0 and ends it."""
    files = [file.resolve() for file in (program, program.with_suffix(".pdiparams"), path)]
    # Python would import what happens to be called onnx.py in the current folder.
    done = subprocess.run([sys.executable, "-c", CONVERT, *files], cwd=path.parent, capture_output=True, text=True)
    if done.returncode == 0 and path.exists():
        return
    reason = (done.stderr.strip() or "it wrote nothing").splitlines()[-1]
    if reason.startswith(("ImportError", "ModuleNotFoundError")):
        raise MissingDependencyError(f"--format onnx: {reason}; pip install -r requirements-deploy.txt")
    if done.returncode < 0:
        reason = f"its process ended by {signal.Signals(-done.returncode).name}"
    raise ExportedModelError(f"paddle2onnx cannot convert this model: {reason}; export without onnx in --format")


def _rename(graph) -> None:
    """Give the input, the output and the batch dimension of `graph` their names, in the graph and in its nodes."""
    [image_port], [logit_port] = graph.input, graph.output
    names = {image_port.name: INPUT_NAME, logit_port.name: OUTPUT_NAME}
    for node in graph.node:
        for values in (node.input, node.output):
            for index, value in enumerate(values):
                values[index] = names.get(value, value)
    image_port.name, logit_port.name = INPUT_NAME, OUTPUT_NAME
    for port in (image_port, logit_port):
        port.type.tensor_type.shape.dim[0].dim_param = BATCH_NAME
    del graph.value_info[:]  # paddle2onnx writes one dimension name for each value, which would contradict BATCH_NAME


def _drop_unused(graph) -> None:
    """Leave out constants that paddle2onnx folded into others and forgot; ONNX Runtime warns of each."""
    used = {value for node in graph.node for value in node.input}
    for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in used]:
        graph.node.remove(node)
