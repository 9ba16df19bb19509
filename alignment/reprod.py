"""The former import path of alignment.compat.reprod_log, kept for scripts that use it."""

from .compat.reprod_log import compare_dictionaries, read_dictionary, write_dictionary

__all__ = ["compare_dictionaries", "read_dictionary", "write_dictionary"]
