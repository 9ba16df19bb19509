"""Answer requests of the port's process, one JSON line each; started by path with any Python that has torch."""

import json
import os
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main() -> None:
    """Read requests from standard input until it closes; what the reference prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr
    operations = import_operations()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": operations[request["operation"]](**request["arguments"])}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}", "kind": type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def import_operations() -> dict:
    """The table of operations. Afterwards neither this folder nor the project's root is on the path, so that a
    reference repository may have folders called `models` or `datasets` of its own."""
    sys.path[0] = str(ROOT)
    import torch

    torch.set_num_threads(1)  # the same order of additions every time
    torch.use_deterministic_algorithms(True)

    from alignment.torch_side import shim  # noqa: F401 (before anything imports torchvision)
    from alignment.torch_side.operations import OPERATIONS

    sys.path.pop(0)
    return OPERATIONS


if __name__ == "__main__":
    main()
