"""Replace functions of a framework for a while."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def functions_replaced(owner: object, functions: Mapping[str, Callable]) -> Iterator[None]:
    """Inside the context `owner` has these functions under their names; names that it does not have are left out."""
    originals = {name: getattr(owner, name) for name in functions if hasattr(owner, name)}
    for name in originals:
        setattr(owner, name, functions[name])
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(owner, name, function)
