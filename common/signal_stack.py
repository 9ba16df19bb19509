"""The stack on which the handlers of signals run, which OpenVINO replaces by one of its own."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Give this thread its alternate signal stack back at the end of the context.

    OpenVINO sets one when it loads its plugin for a CPU with AMX, and puts back the one before when the plugin ends.
    Where two plugins live at once, that may be the stack of the other, whose memory is gone: the next signal, as Ctrl-C
    or SIGTERM, then ends the process or damages its memory. A plugin that finds another stack than its own leaves it.
    Python's handlers do not need the larger stack: faulthandler sizes its own by what the processor needs.
    """
    if sys.platform != "linux":
        yield
        return
    sigaltstack, before = ctypes.CDLL(None).sigaltstack, _Stack()
    sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        sigaltstack(ctypes.byref(before), None)
