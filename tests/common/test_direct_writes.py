"""Every file that a program leaves is written by common/files.py; other places that write are listed with a reason."""

import ast
from collections import Counter

from tests.source import files, part_of, tree_of

WORKING = "inside a temporary folder, or one that is exchanged when it is whole"
APPENDS = "appends lines or holds a lock: a reader takes the lines that are whole"
GENERATED = "pictures that are drawn again at will; the lists that name them are written last"
# file: (number of direct writes, reason)
ALLOWED = {
    "alignment/exchange.py": (2, WORKING),
    "alignment/reference.py": (1, WORKING),
    "alignment/stages/data.py": (1, WORKING),
    "alignment/torch_side/operations.py": (1, "into the temporary file that alignment/weights.py renames"),
    "alignment/torch_side/run.py": (2, "a pipe, and a setting of the kernel"),
    "alignment/train_full/paddle_run.py": (1, "a log"),
    "alignment/weights.py": (1, "into the temporary file of atomic_write, by its name"),
    "benchmarks/backend_accuracy.py": (1, WORKING),
    "benchmarks/evaluation.py": (1, GENERATED),
    "benchmarks/fashion.py": (1, "a log"),
    "benchmarks/finetune.py": (2, "a log, and a list in a temporary folder"),
    "benchmarks/flags.py": (1, "tries whether a file can be written"),
    "benchmarks/gpu_check/__main__.py": (3, "a log, and results of one run in a folder of its own"),
    "benchmarks/gpu_check/checks.py": (1, WORKING),
    "benchmarks/gpu_check/workplace.py": (1, GENERATED),
    "benchmarks/pictures.py": (1, GENERATED),
    "benchmarks/record.py": (1, APPENDS),
    "benchmarks/small_sets.py": (1, GENERATED),
    "datasets/digits.py": (1, GENERATED),
    "datasets/idx.py": (1, GENERATED),
    "demo/run.py": (1, "a log"),
    "demo/textures.py": (2, GENERATED),
    "deploy/export/onnx_export.py": (1, WORKING),
    "deploy/export/paddlex.py": (3, WORKING),
    "deploy/export/triton.py": (2, WORKING),
    "deploy/self_check.py": (2, WORKING),
    "engine/export.py": (2, WORKING),
    "engine/output_dir.py": (1, APPENDS),
    "engine/progress/json_lines.py": (1, APPENDS),
    "models/weights_cache.py": (1, APPENDS),
}
METHODS = {"write_text", "write_bytes", "savefig", "savez", "savez_compressed", "dump", "tofile", "to_csv", "save"}
OPENED = {"file", "stream"}  # names of what atomic_write gives, or of a buffer in memory


def direct_writes(tree: ast.AST) -> int:
    """Count the calls that write to a path: `open` for writing, and methods of libraries that take a path."""
    return sum(_is_direct_write(node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def _is_direct_write(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    if any(isinstance(a, ast.Name) and a.id in OPENED for a in arguments):
        return False
    if name in ("open", "fdopen"):
        modes = [a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        return any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)
    if name not in METHODS or not isinstance(call.func, ast.Attribute) or not arguments:
        return False
    is_saver = isinstance(call.func.value, ast.Name) and call.func.value.id == "saver"
    return not is_saver


def test_files_are_written_by_one_function():
    found = Counter({path: direct_writes(tree_of(path)) for path in files("*.py") if part_of(path) != "tests"})
    del found["common/files.py"], found["common/download.py"]  # the second continues a file that it verifies at the end
    assert {path: number for path, number in found.items() if number} == {p: n for p, (n, _) in ALLOWED.items()}, (
        "use common.files.atomic_write or write_atomically; list an exception with its reason"
    )


def test_what_counts_as_a_direct_write():
    texts = ['open(path, "w")', 'path.open(mode="ab")', "path.write_text(text)", "np.save(path, array)",
             "figure.savefig(path, dpi=120)", "json.dump(value, open(path, 'w'))", "image.save(path)"]  # fmt: skip
    for text in texts:
        assert direct_writes(ast.parse(text)) >= 1, text
    for text in ("open(path)", 'open(path, "rb")', "np.save(file, array)", "saver.save(LATEST)", "json.dumps(value)"):
        assert direct_writes(ast.parse(text)) == 0, text
