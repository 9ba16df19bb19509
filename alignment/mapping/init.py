"""`python -m alignment init PORT REFERENCE`: pair the weights of two models and write the case to keep."""

import argparse
import sys
from pathlib import Path

from common.errors import CaseError
from common.files import disk_errors, write_atomically
from common.printable import print_safely

from ..case import TRUST_CASE, Case, checked_case
from ..reference import Reference
from ..session import Session
from .names import content_of_names, relative_to
from .sequence import Mapping
from .write import text_of_case

MAX_LINES = 6  # of units without a match
EPILOG = """
A model is `file.py:callable`, `package.module:callable`, or with arguments "file.py:callable(depth=2)". The reference
may also be timm:NAME, torchvision:NAME or transformers:CLASS, and the port paddle.vision:NAME. The file is the case for
`python -m alignment all`. Exit codes: 0 all weights are paired, 2 usage, 6 some have no match, 7 PyTorch or the package
of the reference is missing.
"""


def main(argv: list[str]) -> int:
    """Pair the weights, print how, and write the case; returns the exit code.

    Raises:
        ProjectError: a model cannot be built, or the file cannot be written.
    """
    parser = argparse.ArgumentParser(
        "python -m alignment init", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("port", help="the Paddle model")
    parser.add_argument("reference", help="the PyTorch model")
    parser.add_argument("--shape", default="", help="of the input, by default 1,3,224,224")
    parser.add_argument(
        "--output", type=Path, help="file to write; by default the name of the port's class, in this folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if there is one")
    parser.add_argument("--trust_case", action="store_true", help=TRUST_CASE)
    parser.add_argument("--python", default=sys.executable, help="Python interpreter that has PyTorch")
    options = parser.parse_args(argv)
    content = content_of_names(options.port, options.reference, options.shape)
    output = options.output or Path(f"{content['port'].rpartition(':')[2]}.yaml")
    if output.exists() and not options.overwrite:
        raise CaseError(f"{output} exists; give another file with --output, or --overwrite")
    content |= {key: relative_to(content[key], output.parent) for key in ("port", "reference")}
    folder = output.parent.resolve()
    typed = content["port"], content["reference"]
    case = checked_case(
        content, str(output), name=output.stem, folder=folder, is_trusted=options.trust_case, typed=typed
    )
    with Reference(options.python) as reference:
        session = Session(case, reference)
        text, mapping = write_case(session, content), session.mapping
    with disk_errors(output):
        write_atomically(output, text)
    for line in mapping_lines(session.case, mapping):
        print_safely(line)
    # A case may name files outside of its folder only with this flag, since somebody else may have written it.
    trust = " --trust_case" if any(place.startswith("..") for place in typed) else ""
    print_safely(f"wrote {output}; next: python -m alignment all {output}{trust}")
    return 0 if mapping is None or mapping.is_complete else 6


def write_case(session: Session, content: dict) -> str:
    """The YAML text of the completed case of a session.

    Args:
        session: of the case.
        content: the keys that the user gave.
    """
    names = [entry["name"] for entry in session.inventory["entries"]]
    text = text_of_case(session.case, content, names, session.port_shapes)
    how = session.mapping.paired_by if session.mapping else "the case"
    return f"# {len(names)} weights of the reference, paired by {how}\n{text}"


def mapping_lines(case: Case, mapping: Mapping | None) -> list[str]:
    """How the weights were paired, and which have no match."""
    if mapping is None:
        return ["the case accounts for all weights"]
    lines = [f"{len(mapping.pairs)} layers and single parameters paired by {mapping.paired_by}"]
    for word, count in (("split", len(case.split)), ("joined", len(case.concat)), ("reshaped", len(case.reshape))):
        lines += [f"{count} entries {word}"] if count else []
    for units, side in ((mapping.only_reference, "reference"), (mapping.only_port, "port")):
        open_units = [unit for unit in units if any(entry.is_parameter for entry in unit.entries)]
        for unit in open_units[:MAX_LINES]:
            shapes = ", ".join(f"{entry.role} {list(entry.shape)}" for entry in unit.entries)
            use = "" if unit.is_called else "; the forward does not use it"
            lines.append(f"without a match: {unit.path} ({unit.kind}) of the {side}: {shapes}{use}")
        if len(open_units) > MAX_LINES:
            lines.append(f"and {len(open_units) - MAX_LINES} more of the {side}")
    return lines
