"""Convert a Paddle program to ONNX with a dynamic batch size, and write preprocessing and labels as metadata."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

from common.errors import ExportedModelError, MissingDependencyError

from ..card import Card, Program

OPSET = 17
# The default optimize_tool of paddle2onnx, polygraphy, installs packages while it runs.
CONVERSION_SCRIPT = f"""
import sys, onnx, paddle2onnx
paddle2onnx.export(*sys.argv[1:], opset_version={OPSET}, optimize_tool="None")
onnx.checker.check_model(sys.argv[3], full_check=True)
"""
INPUT_NAME, OUTPUT_NAME, BATCH_NAME = "images", "logits", "batch"


def write_onnx(paddle_program: Path, path: Path, card: Card) -> Program:
    """Convert `paddle_program` (model.json, with its .pdiparams beside it) to the ONNX file `path`.

    Raises:
        ExportedModelError: paddle2onnx cannot convert the program.
        MissingDependencyError: paddle2onnx or onnx is not installed.
    """
    missing = [package for package in ("onnx", "paddle2onnx") if importlib.util.find_spec(package) is None]
    if missing:
        has_wheel = sys.version_info < (3, 13)  # of paddle2onnx 2.1.0
        advice = "pip install -r requirements-deploy.txt" if has_wheel else "export with Python 3.10, 3.11 or 3.12"
        raise MissingDependencyError(f"--format onnx: {missing[0]} is not installed; {advice}")
    import onnx

    converted = path.with_name("." + path.name)
    _convert(paddle_program, converted)
    model = onnx.load(converted)
    converted.unlink()
    _rename(model.graph)
    _remove_unused_constants(model.graph)
    metadata = {
        "model": card.model,
        "preprocess": json.dumps(card.preprocess.to_dict()),
        "class_names": json.dumps(card.class_names, ensure_ascii=False),
        "temperature": json.dumps(card.temperature),
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return Program((path.name,), INPUT_NAME, OUTPUT_NAME)


def _convert(program: Path, path: Path) -> None:
    """Run paddle2onnx in a process of its own: pooling to more than the size of the features divides by 0, fatally."""
    files = [file.resolve() for file in (program, program.with_suffix(".pdiparams"), path)]
    # In another folder, because Python would import a file onnx.py of the current one.
    done = subprocess.run(
        [sys.executable, "-c", CONVERSION_SCRIPT, *files], cwd=path.parent, capture_output=True, text=True
    )
    if done.returncode == 0 and path.exists():
        return
    reason = (done.stderr.strip() or "it wrote no file").splitlines()[-1]
    if reason.startswith(("ImportError", "ModuleNotFoundError")):
        raise MissingDependencyError(f"--format onnx: {reason}; pip install -r requirements-deploy.txt")
    if done.returncode < 0:
        reason = f"its process ended by {signal.Signals(-done.returncode).name}"
        if done.returncode == -signal.SIGFPE:  # measured with 2.1.0: the pool's input is 1, 3 or 5 high, its output 6
            reason += (
                ", as it does for an adaptive pooling whose input is smaller than its output: AlexNet below 223 "
                "pixels, which has an ONNX program for --input_size 224"
            )
    raise ExportedModelError(f"paddle2onnx cannot convert this model: {reason}; leave onnx out of --format")


def _rename(graph) -> None:
    """Rename the input, the output and the batch dimension of `graph`, in the graph and in its nodes."""
    [graph_input], [graph_output] = graph.input, graph.output
    names = {graph_input.name: INPUT_NAME, graph_output.name: OUTPUT_NAME}
    for node in graph.node:
        for values in (node.input, node.output):
            for index, value in enumerate(values):
                values[index] = names.get(value, value)
    graph_input.name, graph_output.name = INPUT_NAME, OUTPUT_NAME
    for value in (graph_input, graph_output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH_NAME
    del graph.value_info[:]  # paddle2onnx names a dimension for each value, which would contradict BATCH_NAME


def _remove_unused_constants(graph) -> None:
    """Remove constants that paddle2onnx folded into others; ONNX Runtime warns about each."""
    used = {value for node in graph.node for value in node.input}
    for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in used]:
        graph.node.remove(node)
