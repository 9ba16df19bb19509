"""Answer questions of the port's process, one JSON line each; started by its path with any Python that has torch."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    """Answer the questions on standard input until it closes; what the reference prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr
    with suppress(OSError):  # where memory is short the kernel shall end this process: the port can say so
        Path("/proc/self/oom_score_adj").write_text("1000")
    operations = import_operations()
    from alignment.memory import free_recorded_models
    from alignment.user_code import place_of_error

    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": operations[request["operation"]](**request["arguments"])}
        except (Exception, SystemExit) as error:  # a file of the user may call exit()
            traceback.print_exc()
            kind = type(error).__name__
            place = "" if isinstance(error, ImportError) else place_of_error(error)
            answer = {"error": f"{error}" if kind == "UserCodeError" else f"{kind}: {error}{place}", "kind": kind}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        del answer
        free_recorded_models()


def import_operations() -> dict[str, Callable[..., dict]]:
    """Import the table of operations.

    Afterwards neither this folder nor the root of the project is on the path, so that the project of a reference may
    have folders called `models` or `datasets` of its own.
    """
    sys.path[0] = str(ROOT)
    import torch

    torch.set_num_threads(1)  # the same order of additions in every run
    torch.use_deterministic_algorithms(True)

    from alignment.torch_side import shim  # noqa: F401 (before anything imports torchvision)
    from alignment.torch_side.operations import OPERATIONS

    sys.path.pop(0)
    return OPERATIONS


if __name__ == "__main__":
    main()
