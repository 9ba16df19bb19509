"""Start the command line of the alignment tool: `python -m alignment --help`."""

from common.cli import run

from .cli import main

if __name__ == "__main__":
    run(main)
