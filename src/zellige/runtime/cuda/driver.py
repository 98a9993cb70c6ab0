"""The two driver calls that ``cuda-core`` lacks or makes slowly: a kernel's shared-memory limit, and a prepared launch.

A launch through here costs one foreign call with everything laid out beforehand; checking and conversion happen once, when
the launch is prepared.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from zellige.diagnostics.errors import ZelligeError

MAX_DYNAMIC_SHARED = 8
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES."""
ATTRIBUTES = {"cooperative": 2, "dependent": 6}
"""CU_LAUNCH_ATTRIBUTE_COOPERATIVE (all blocks run at once, or the launch fails) and …_PROGRAMMATIC_STREAM_SERIALIZATION."""


class _Attribute(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int), ("pad", ctypes.c_char * 4), ("value", ctypes.c_int), ("rest", ctypes.c_char * 60))


class _Config(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared", ctypes.c_uint), ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)), ("attribute_count", ctypes.c_uint),
    )  # fmt: skip


@cache
def library() -> Any:
    """The driver's library, which ``open_device`` has found already."""
    made = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    made.cuKernelSetAttribute.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    made.cuOccupancyMaxActiveBlocksPerMultiprocessor.argtypes = (
        ctypes.POINTER(ctypes.c_int), ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t,
    )  # fmt: skip
    for width in (8, 16, 32):
        setting = getattr(made, f"cuMemsetD{width}Async")
        setting.argtypes = (ctypes.c_uint64, getattr(ctypes, f"c_uint{width}"), ctypes.c_size_t, ctypes.c_void_p)
    made.cuMemsetD2D32Async.argtypes = (
        ctypes.c_uint64, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p,
    )  # fmt: skip
    made.cuMemGetInfo_v2.argtypes = (ctypes.POINTER(ctypes.c_size_t),) * 2
    made.cuGetErrorString.argtypes = (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))
    return made


def checked(code: int, what: str) -> None:
    """ZelligeError ZL0517 if a driver call failed."""
    if code:
        text = ctypes.c_char_p()
        library().cuGetErrorString(code, ctypes.byref(text))
        said = text.value.decode() if text.value else "an unknown error"
        raise ZelligeError("ZL0517", f"the driver refuses {what}: {said}", facts={"code": code})


def fill(address: int, pattern: bytes, count: int, stream: Any) -> None:
    """Writes a pattern of 1, 2, 4 or 8 bytes ``count`` times, in stream order (also of a stream that is being captured)."""
    what, handle = "to fill memory", int(stream.handle)
    if len(pattern) == 8:
        for part in (0, 4):
            word = int.from_bytes(pattern[part : part + 4], sys.byteorder)
            checked(library().cuMemsetD2D32Async(address + part, 8, word, 1, count, handle), what)
    else:
        setting = getattr(library(), f"cuMemsetD{8 * len(pattern)}Async")
        checked(setting(address, int.from_bytes(pattern, sys.byteorder), count, handle), what)


def free_memory() -> int:
    """Bytes of the current device's memory that nobody has taken."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    checked(library().cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)), "to say how much memory is free")
    return free.value


def allow_shared(kernel: int, device: int, size: int) -> None:
    """Raises a kernel's limit of dynamic shared memory."""
    checked(library().cuKernelSetAttribute(MAX_DYNAMIC_SHARED, size, kernel, device), f"{size} bytes of shared memory")


def resident_blocks(kernel: int, threads: int, shared: int) -> int:
    """How many blocks of a kernel one multiprocessor of the current device holds at once."""
    found = ctypes.c_int()
    code = library().cuOccupancyMaxActiveBlocksPerMultiprocessor(ctypes.byref(found), kernel, threads, shared)
    checked(code, "to say how many blocks fit")
    return found.value


class PreparedCall:
    """``cuLaunchKernelEx`` with its arguments laid out."""

    __slots__ = (
        "_arguments",
        "_attribute",
        "_call",
        "_config",
        "_handle",
        "_keep",
        "_last",
        "_parameters",
        "_stream",
    )

    def __init__(
        self, kernel: int, grid: int, block: int, shared: int, arguments: Sequence[Any], *, attribute: str | None
    ) -> None:
        """``attribute``: a key of ``ATTRIBUTES``, if the launch has one."""
        self._keep = tuple(arguments)
        self._parameters = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        self._config = _Config(grid=(grid, 1, 1), block=(block, 1, 1), shared=shared)
        if attribute is not None:
            self._attribute = _Attribute(id=ATTRIBUTES[attribute], value=1)
            self._config.attributes = ctypes.pointer(self._attribute)
            self._config.attribute_count = 1
        # References are handed over twice as fast as numbers; that to a handle is never followed here.
        handle = ctypes.c_char.from_address(kernel)
        self._arguments = (*map(ctypes.byref, (self._config, handle, self._parameters)), None)
        self._call = library().cuLaunchKernelEx
        self._stream: int | None = None
        self._last: Any = None
        self._handle = 0

    def on(self, stream: Any) -> None:
        """Launches on a stream of ``cuda.core``, whose handle takes longer to ask for than a launch should wait."""
        if stream is not self._last:
            self._handle, self._last = int(stream.handle), stream
        self.run(self._handle)

    def run(self, stream: int) -> None:
        """Launches on a stream, by its handle; one thread at a time."""
        if stream != self._stream:
            self._config.stream = self._stream = stream
        code = self._call(*self._arguments)
        if code:
            checked(code, "a launch")

    def foreign(self, stream: Any) -> tuple[Any, ...]:
        """The driver's function and its arguments, for who launches on this stream only and makes the call by itself."""
        self._config.stream = self._stream = int(stream.handle)
        return self._call, *self._arguments
