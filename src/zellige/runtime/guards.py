"""A ``zl.guard`` that failed."""

from __future__ import annotations

from zellige.diagnostics.errors import ZelligeError


class GuardError(ZelligeError):
    """A ``zl.guard`` failed on the device: an index was out of bounds, and the lanes that used it were inactive."""


def guard_error(kernel: str, message: str) -> GuardError:
    """The error ZL0522 of a guard with this message in a kernel of this name."""
    return GuardError("ZL0522", f"{kernel}: {message}", help="correct the indices that the call was given")
