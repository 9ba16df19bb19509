"""The former import path of alignment.compat.padiff, kept for scripts that use it."""

from .compat.padiff import auto_diff

__all__ = ["auto_diff"]
