"""Import the user's files in either process: with the files beside them, and with errors that name file and line."""

import ast
import importlib
import importlib.util
import sys
import sysconfig
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.cli import did_you_mean

from .exchange import constructor
from .trace import short_path

HERE = Path(__file__).parent
PACKAGES = "site-packages"
STANDARD_LIBRARY = sysconfig.get_path("stdlib")
RAISED = (
    "raised "  # before the place of an exception that code of the user raises itself, and no function that it calls
)
# What code of the user may raise. A file that calls exit() would otherwise end the tool with the exit code of a match.
USER_ERRORS = (Exception, SystemExit)
# {folder: ({name: module of the user}, {file: (size, time of the last change)})} of what was imported before.
_IMPORTED: dict[Path, tuple[dict[str, types.ModuleType], dict[str, tuple[int, int]]]] = {}


class UserCodeError(Exception):
    """A file of the user cannot be imported, or a constructor in it failed; the message has file and line."""


def load_callable(spec: str, package: str | None = None) -> Callable:
    """Import `package.module:name`, or `path/file.py:name`; with `package` it must be defined in that package.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the module cannot be imported, or the callable is of another package.
        UserCodeError: the file has an error, or the file or module has no such name, or there is no name.
    """
    place, separator, name = spec.rpartition(":")
    if not separator:
        raise UserCodeError(f"{spec}: expected path/file.py:name or package:name")
    if not place.endswith(".py"):
        try:
            module = importlib.import_module(place)
        except SystemExit as error:
            raise UserCodeError(describe_error(error, Path(place))) from None
        if not hasattr(module, name):
            raise UserCodeError(f"{place} has no {name}{did_you_mean(name, _public_callables(module)) or ''}")
        return constructor(module, name, package)
    path = Path(place).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with user_modules(path.parent):
        try:
            module = _import_file(path)
        except USER_ERRORS as error:
            raise UserCodeError(describe_error(error, path)) from None
    if not hasattr(module, name):
        raise UserCodeError(f"{path} has no {name}{did_you_mean(name, _public_callables(module)) or ''}")
    return getattr(module, name)


def _public_callables(module: types.ModuleType) -> list[str]:
    return [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]


def imported_files(path: Path, root: Path | None = None) -> list[Path]:
    """A file and the files beside it that it imports, directly or through others, in order of their paths.

    A name that is made when the code runs, as in `import_module(name)`, is not seen.

    Args:
        path: of the file.
        root: folder of absolute imports; by default that of the file, and that of the outermost package it is in.
    """
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    folders, found, rest = [root] if root else [path.parent, top], set(), [path]
    while rest:
        file = rest.pop().resolve()
        if file in found:
            continue
        found.add(file)
        package = file.parent / "__init__.py"
        rest += [package] if package.is_file() else []
        for level, name in _imported_names(file):
            places = [file.parents[level - 1]] if level else folders
            rest += [module for place in places for module in _module_files(place, name)]
    return sorted(found)


def _imported_names(file: Path) -> Iterator[tuple[int, str]]:
    """(number of leading dots, name of a module or of something in it) of every import of a file."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # its import will say it
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, f"{node.module or ''}.{one.name}".lstrip(".")) for one in node.names)


def _module_files(folder: Path, name: str) -> list[Path]:
    """The files of a module below a folder, and of the packages that it is in."""
    parts = name.split(".")
    places = [folder.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    files = [file for place in places for file in (place.parent / f"{place.name}.py", place / "__init__.py")]
    return [file for file in files if file.is_file()]


def construct(spec: str, make: Callable, arguments: dict):
    """Call a constructor with the files beside it on the path.

    Raises:
        UserCodeError: it failed; the message has file and line.
    """
    place = Path(spec.rsplit(":", 1)[0])
    if place.suffix != ".py":
        try:
            return make(**arguments)
        except (ImportError, UserCodeError):  # a package is missing, or a message that is complete
            raise
        except USER_ERRORS as error:
            raise UserCodeError(f"{spec}: {type(error).__name__}: {error}") from error
    with user_modules(place.resolve().parent):
        try:
            return make(**arguments)
        except USER_ERRORS as error:
            raise UserCodeError(describe_error(error, place)) from error


def describe_error(error: BaseException, path: Path) -> str:
    """`file:line: type: message` of an exception, at the last line that is not of a package or of Python itself."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_of_user(frame)]
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(path)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{place}: {type(error).__name__}: {lines[-1] if lines else ''}"
    if isinstance(error, SystemExit):
        text += "; this line ends the program: put what is not of the model below `if __name__ == '__main__':`"
    return text


def place_of_error(error: BaseException) -> str:
    """` (at file:line)` of the code of the user, or ` (raised at file:line)`; an empty text if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    found = [frame for frame in frames if _is_of_user(frame)]
    if not found:
        return ""
    is_raised = found[-1] is frames[-1] and (found[-1].line or "").startswith("raise")
    return f" ({RAISED * is_raised}at {short_path(found[-1].filename)}:{found[-1].lineno})"


def _is_of_user(frame: traceback.FrameSummary) -> bool:
    return PACKAGES not in frame.filename and not frame.filename.startswith((str(HERE), STANDARD_LIBRARY, "<"))


def build_undrawn(build: Callable, without_draws: Callable):
    """Build a model whose weights are set afterwards; its fresh weights are drawn only if it cannot be built without.

    Args:
        build: makes the model.
        without_draws: makes a context in which random initializers write zeros.
    """
    try:
        with without_draws():
            return build()
    except USER_ERRORS:
        return build()  # zeros may be no fit weights


@contextmanager
def user_modules(folder: Path) -> Iterator[None]:
    """Inside the context the files of a folder are imported before modules of the same name of this project."""
    names = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
    hidden = {name: module for name, module in sys.modules.items() if name.split(".")[0] in names}
    hidden = {name: module for name, module in hidden.items() if not _is_of_package(module)}
    for name in hidden:
        del sys.modules[name]
    known, states = _IMPORTED.get(folder, ({}, {}))
    if all(_state(file) == state for file, state in states.items()):
        sys.modules.update(known)
    before = set(sys.modules) - set(known)
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    writes_no_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # bytecode has the second of its source: an edit within that second would not count
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_no_bytecode
        sys.path.remove(str(folder))
        found = {
            name: module
            for name, module in list(sys.modules.items())
            if name not in before and (file := getattr(module, "__file__", None)) and Path(file).is_relative_to(folder)
        }
        _IMPORTED[folder] = found, {module.__file__: _state(module.__file__) for module in found.values()}
        for name in found:
            if name.split(".")[0] in names:
                del sys.modules[name]
        sys.modules.update(hidden)
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # for an import inside a function, which runs later


def _is_of_package(module: types.ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is None or PACKAGES in file or not Path(file).is_relative_to(HERE.parent)


def _state(file: str) -> tuple[int, int]:
    try:
        status = Path(file).stat()
    except OSError:
        return (0, 0)
    return status.st_size, status.st_mtime_ns


def _import_file(path: Path) -> types.ModuleType:
    """The module of a file. It is in a package named by its folder, so that it may use relative imports."""
    top = path.parent
    if (top / "__init__.py").is_file():
        parts = [path.stem]
        while (top / "__init__.py").is_file():
            parts.insert(0, top.name)
            top = top.parent
        sys.path.insert(0, str(top))
        try:
            return importlib.import_module(".".join(parts))
        finally:
            sys.path.remove(str(top))
    outer = f"alignment_user_{abs(hash(str(path.parent)))}"
    inner = f"{outer}.{path.parent.name}"
    for name, folder in ((outer, path.parent.parent), (inner, path.parent)):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules.setdefault(name, package)
    name = f"{inner}.{path.stem}"
    states = _IMPORTED.get(path.parent, ({}, {}))[1]
    if name in sys.modules and states.get(str(path)) == _state(str(path)):
        return sys.modules[name]
    module_spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    module_spec.loader.exec_module(module)
    return module
