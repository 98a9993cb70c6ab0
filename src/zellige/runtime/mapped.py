"""Files that are mapped into memory, and can be read as well.

Touching one page after the other brings a file at a fraction of the rate of its disk, and of that of memory where it is in the page
cache; whoever copies whole stretches of it has them read instead (``copy_bytes``).
"""

from __future__ import annotations

import mmap
import os
import weakref
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError


class MappedFile(mmap.mmap):
    """A file mapped for reading. OSError or ValueError if it cannot be."""

    path: str
    address: int
    descriptor: int

    def __new__(cls, file: BinaryIO) -> MappedFile:
        made = super().__new__(cls, file.fileno(), 0, access=mmap.ACCESS_READ)
        made.path, made.descriptor = file.name, os.dup(file.fileno())
        weakref.finalize(made, os.close, made.descriptor)
        made.address = np.frombuffer(made, np.uint8).__array_interface__["data"][0]
        return made


def copy_bytes(target: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
    """``target[...] = source``, both contiguous. ZelligeError ZL0603 if source lies in a mapped file that has become shorter."""
    file = _file_behind(source)
    if file is None or not hasattr(os, "preadv"):
        target[...] = source
        return
    at, rest = source.__array_interface__["data"][0] - file.address, target.data
    while rest:
        count = os.preadv(file.descriptor, [rest], at)
        if not count:
            raise ZelligeError(
                "ZL0603", f"{file.path} ended at byte {at:,} while it was read",
                facts={"file": file.path, "bytes wanted": len(rest)}, help="leave a model file alone while it is loaded",
            )  # fmt: skip
        at, rest = at + count, rest[count:]


def _file_behind(array: NDArray[Any]) -> MappedFile | None:
    """The file that an array is a view of."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, MappedFile) else None
