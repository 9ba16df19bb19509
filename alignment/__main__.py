"""Start the command line of the alignment tool: `python -m alignment --help`."""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "yaml")

from common.cli import run

from .cli import main

if __name__ == "__main__":
    run(main)
