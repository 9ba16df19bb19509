"""Find out whether the names of this project's packages lead to it: another library is called `datasets`, too."""

import importlib.util
import os
import sys
from pathlib import Path

from .errors import ShadowedPackageError

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("configs", "datasets", "models", "engine", "deploy", "factory")


def check_own_packages() -> None:
    """Check that each package of the project is imported from the folder of the project.

    Hugging Face's library is called `datasets`, and many projects have a folder `models`. Python takes the first one on
    `sys.path`: an installed package comes before an editable installation of this project.

    Raises:
        ShadowedPackageError: another package, or none, has the name; the message says where it is and what to do.
    """
    for name in PACKAGES:
        if not (ROOT / name).is_dir():  # a part of the project was copied
            continue
        place = _place_of(name)
        if place is None or not place.is_relative_to(ROOT):
            raise ShadowedPackageError(_message(name, place))


def _place_of(name: str) -> Path | None:
    """The folder of a package as Python would import it, or has imported it; None if there is none."""
    module = sys.modules.get(name)
    if module is not None:
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    else:
        spec = importlib.util.find_spec(name)
        places = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
    known = [place for place in places if place]
    return Path(os.path.dirname(known[0]) if known[0].endswith(".py") else known[0]).resolve() if known else None


def _message(name: str, place: Path | None) -> str:
    if place is None:
        found = "finds no such package"
    elif "site-packages" in place.parts or "dist-packages" in place.parts:
        whose = " of Hugging Face" if name == "datasets" and (place / "arrow_dataset.py").exists() else ""
        found = f"finds an installed package{whose}, {place}"
    else:
        found = f"finds {place}"
    begin = f"cd {ROOT}, or set PYTHONPATH={ROOT}, or begin with import sys; sys.path.insert(0, {str(ROOT)!r})"
    late = "; this process has imported the other one already, so start a new one" if name in sys.modules else ""
    remove = f". If nothing needs that package: python -m pip uninstall {name}" if "an installed" in found else ""
    return f"import {name} {found}, and not the package {name} of this project in {ROOT}{late}. {begin}{remove}"
