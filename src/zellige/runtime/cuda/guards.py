"""What guards of kernels on a GPU found: words of host memory that kernels write to, and whoever waits for the GPU reads."""

from __future__ import annotations

import ctypes
from threading import Lock
from typing import Any

from zellige.backends.cuda.compiler import CompiledKernel
from zellige.runtime.guards import guard_error

_PAGE, _WORD = 4096, 16
"""Bytes of host memory that are asked for at once, and of one kernel's word with what aligns the next."""


class Guards:
    """The words of all kernels of one stream that have guards. A word is 0, or 1 + the number of a guard that failed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lock = Lock()
        self._words: dict[int, tuple[CompiledKernel, Any]] = {}
        self._pages: list[Any] = []

    def __del__(self) -> None:
        if self._pages:
            self._stream.sync()  # kernels that may write the words end before their memory goes

    def flag(self, kernel: CompiledKernel) -> int:
        """The address of a kernel's word, for the host and the GPU."""
        with self._lock:
            known = self._words.get(id(kernel))
            if known is None:
                place = len(self._words) * _WORD % _PAGE
                if not place:
                    self._pages.append(_page())
                word = ctypes.c_int32.from_address(int(self._pages[-1].handle) + place)
                word.value = 0
                known = self._words[id(kernel)] = kernel, word
            return ctypes.addressof(known[1])

    def check(self) -> None:
        """GuardError ZL0522 if a guard failed in a launch that has ended. It says so once."""
        for kernel, word in list(self._words.values()):  # other threads may add some
            if word.value:
                failed, word.value = word.value, 0
                raise guard_error(kernel.name, kernel.guards[failed - 1])


def _page() -> Any:
    from cuda.core import LegacyPinnedMemoryResource

    return LegacyPinnedMemoryResource().allocate(_PAGE)
