"""The program `python -m deploy.serving EXPORTED`: serve exported folders over HTTP."""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml")

import argparse
import re

from common.cli import home_path, non_negative_float, positive_int, run
from common.errors import MissingDependencyError, UsageError

from ..card import exported_folder, read_card
from ..classifier import PRECISIONS, is_exported
from ..engines import ENGINES

PACKAGES = {"starlette", "uvicorn", "h11", "multipart", "python_multipart", "prometheus_client"}
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def create_parser() -> argparse.ArgumentParser:
    """The flags of the program."""
    parser = argparse.ArgumentParser(prog="python -m deploy.serving", description=__doc__.splitlines()[0])
    parser.add_argument(
        "exported", nargs="+", help="exported folder, or name=folder; the first is the default of several models"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine alone)")
    parser.add_argument("--port", type=_port, default=8000, help="0 for a free one (%(default)s)")
    parser.add_argument("--metrics_port", type=_port, help="of the same address: GET /metrics for Prometheus")
    parser.add_argument("--engine", choices=("auto", *ENGINES), default="auto", help="(%(default)s: the fastest)")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="(%(default)s)")
    parser.add_argument("--threads", type=positive_int, help="of each engine (one per usable processor)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="bf16: a CPU with bfloat16 (%(default)s)"
    )
    parser.add_argument("--max_batch_size", type=positive_int, default=8, help="images in a batch (%(default)s)")
    parser.add_argument(
        "--max_delay_ms",
        type=non_negative_float,
        default=2.0,
        help="how long an incomplete batch waits for images that are being decoded (%(default)s)",
    )
    parser.add_argument("--max_queue", type=positive_int, default=64, help="images that may wait (%(default)s)")
    parser.add_argument("--max_images", type=positive_int, default=32, help="in one request (%(default)s)")
    parser.add_argument("--max_body_mb", type=positive_int, default=16, help="of one request (%(default)s)")
    parser.add_argument("--request_seconds", type=positive_int, default=20, help="until an answer (%(default)s)")
    parser.add_argument("--token_file", type=home_path, help="file of tokens, one per line, one of which is needed")
    parser.add_argument(
        "--grace_seconds", type=positive_int, default=30, help="from SIGTERM to the end of the process (%(default)s)"
    )
    return parser


def main(argv: list[str]) -> None:
    """Parse the flags and serve.

    Raises:
        MissingDependencyError: a package of requirements-serving.txt is not installed.
        UsageError: flags that do not fit together.
    """
    flags = create_parser().parse_args(argv)
    if flags.max_queue < flags.max_images:
        raise UsageError(f"--max_queue {flags.max_queue}: a request may have --max_images {flags.max_images} images")
    if flags.grace_seconds <= flags.request_seconds:
        raise UsageError(
            f"--grace_seconds {flags.grace_seconds}: expected more than --request_seconds {flags.request_seconds}, so "
            "that accepted requests are answered"
        )
    folders = name_folders(flags.exported)
    try:
        from .limits import Limits
        from .server import ServerSettings, serve
        from .workers.worker import WorkerSettings
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES:
            raise
        raise MissingDependencyError(
            f"{package} is not installed: python -m pip install -r requirements-serving.txt"
        ) from None
    worker = {
        "engine": flags.engine,
        "device": flags.device,
        "num_threads": flags.threads,
        "precision": flags.precision,
        "max_batch_size": flags.max_batch_size,
        "max_delay_ms": flags.max_delay_ms,
    }
    limits = Limits(
        max_body_bytes=flags.max_body_mb << 20,
        max_buffered_bytes=3 * flags.max_body_mb << 20,
        max_images=flags.max_images,
        request_seconds=flags.request_seconds,
    )
    serve(
        ServerSettings(
            models={name: WorkerSettings(folder, **worker) for name, folder in folders.items()},
            host=flags.host,
            port=flags.port,
            metrics_port=flags.metrics_port,
            max_queue=flags.max_queue,
            token_file=str(flags.token_file or ""),
            grace_seconds=flags.grace_seconds,
            limits=limits,
        )
    )


def name_folders(arguments: list[str]) -> dict[str, str]:
    """Folders by the name of their model; without `name=` that of the card, such as peleenet.

    Raises:
        ExportedModelError: the card of a folder cannot be read.
        UsageError: no exported folder, a name that cannot be in a path of HTTP, or one name twice.
    """
    folders = {}
    for argument in arguments:
        name, is_named, folder = argument.partition("=")
        if not is_named or "/" in name:
            name, folder = "", argument
        folder = home_path(folder)
        if not is_exported(folder):
            raise UsageError(f"{folder}: a file of weights; export_model.py makes an exported folder of it")
        name = name or read_card(exported_folder(folder), verify=False).model
        if not MODEL_NAME.fullmatch(name):
            raise UsageError(f"{name!r}: expected a name of at most 64 letters, digits and . _ - before the folder")
        if name in folders:
            raise UsageError(f"{name}: the name of two models; write OTHER={folder}")
        folders[name] = str(folder)
    return folders


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, got {text!r}")
    return int(text)


if __name__ == "__main__":
    run(main)
