"""Pinned host memory, owned by the copy that uses it: what goes to a GPU, and what comes back."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.cuda.memory import Block, BorrowedBlock, rounded
from zellige.runtime.mapped import copy_bytes

if TYPE_CHECKING:
    from zellige.runtime.cuda.device import Device

CHUNK = 8 << 20
"""Bytes of a large upload that go to the device together, in one pinned buffer. What ``rounded`` makes of it is the same."""
READERS = 12
"""Threads that fill them."""
CHUNKS = 2 * READERS
"""Most buffers of that size that uploads keep: while some are filled, others are on their way."""


class Staging:
    """Copies between host arrays and device memory through pinned buffers.

    A buffer belongs to its copy until the copy is done, which an event says; then another copy may use it. Any thread may copy. Large
    uploads go in chunks, which several threads fill while others are on their way."""

    def __init__(self, device: Device, stream: Any) -> None:
        from cuda.core import LegacyPinnedMemoryResource

        self.device = device
        self.stream = stream
        # Memory of the pool-based PinnedMemoryResource makes a copy to the host wait for the stream (cuda-core 1.2).
        self._resource = LegacyPinnedMemoryResource()
        self._free: dict[int, list[Any]] = defaultdict(list)
        self._busy: list[tuple[Any, int, Any]] = []
        self._given_up: deque[tuple[Any, int, Any]] = deque()
        """Of downloads that nobody waits for any more."""
        self._lock = Lock()
        self._chunks = 0
        """Buffers of CHUNK bytes for uploads."""
        self._readers = ThreadPoolExecutor(READERS, "zellige-upload")

    def __del__(self) -> None:
        for _, _, event in (*getattr(self, "_busy", ()), *getattr(self, "_given_up", ())):
            event.sync()  # the copies end before their memory goes

    def upload(self, source: NDArray[Any], target: Block | BorrowedBlock, offset: int = 0) -> None:
        """Starts a copy of an array to the device, ``offset`` bytes into a block; the array may change as soon as this returns."""
        data = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
        if data.nbytes > CHUNK:
            self.gather([data], target, offset)
        elif data.nbytes:
            there = _part(target, offset, data.nbytes)
            pinned, room = self._buffer(data.nbytes)
            _host_view(pinned, room)[: data.nbytes] = data
            self._send(pinned, room, data.nbytes, there)

    def gather(self, sources: Sequence[NDArray[Any]], target: Block | BorrowedBlock, offset: int = 0) -> None:
        """Starts copies of arrays to the device, one after the other from ``offset`` bytes into a block; they may change as soon as this
        returns. What lies in mapped files is read from them. ZelligeError ZL0603 if such a file has become shorter."""
        flat = [np.ascontiguousarray(source).reshape(-1).view(np.uint8) for source in sources]
        _part(target, offset, sum(data.nbytes for data in flat))  # refused before anything is copied
        filling: deque[tuple[Future[None], Any, int, Any]] = deque()

        def send_first() -> None:
            filling[0][0].result()  # until then it is among those that are waited for below
            _, pinned, size, there = filling.popleft()
            self._send(pinned, CHUNK, size, there)

        try:
            for data in flat:
                for first in range(0, data.nbytes, CHUNK):
                    chunk, pinned = data[first : first + CHUNK], self._chunk()
                    filled = self._readers.submit(_fill, pinned, chunk)
                    filling.append((filled, pinned, chunk.nbytes, _part(target, offset, chunk.nbytes)))
                    offset += chunk.nbytes
                    if len(filling) == READERS:
                        send_first()
            while filling:
                send_first()
        finally:  # of an error, or Ctrl-C: what is still being filled goes nowhere, and nobody else gets its buffer before it is
            for filled, pinned, _, _ in filling:
                wait([filled])
                self._give_back(pinned, CHUNK)

    def _send(self, pinned: Any, room: int, size: int, there: Any) -> None:
        self._copy(there, _whole(pinned, size))
        with self._lock:
            self._busy.append((pinned, room, self.stream.record()))

    def _chunk(self) -> Any:
        """A pinned buffer of CHUNK bytes; when there are CHUNKS of them, waits for the copy of one."""
        with self._lock:
            self._collect()
            if self._free[CHUNK]:
                return self._free[CHUNK].pop()
            oldest = next((each for each in self._busy if each[1] == CHUNK), None)
            if self._chunks < CHUNKS or oldest is None:  # None: others are filling them
                self._chunks += 1
                oldest = None
            else:
                self._busy.remove(oldest)
        if oldest is None:
            try:
                return self._resource.allocate(CHUNK)
            except BaseException:
                with self._lock:
                    self._chunks -= 1
                raise
        oldest[2].sync()
        return oldest[0]

    def download(self, source: Block | BorrowedBlock, target: NDArray[Any], offset: int = 0) -> None:
        """Copies device memory, from ``offset`` bytes into a block, to a C-contiguous array and waits for it."""
        self.fetch(source, target, offset)()

    def fetch(self, source: Block | BorrowedBlock, target: NDArray[Any], offset: int = 0) -> Callable[[], NDArray[Any]]:
        """Starts a copy of device memory to a C-contiguous array; the function given back waits for it and gives the array.

        Work given to the stream afterwards does not hold it up."""
        data = target.reshape(-1).view(np.uint8)
        if not data.nbytes:
            return lambda: target
        there = _part(source, offset, data.nbytes)
        pinned, size = self._buffer(data.nbytes)
        self._copy(_whole(pinned, data.nbytes), there)
        return _Download(self, pinned, size, self.stream.record(), target, data)

    def move(self, source: Any, target: Any) -> None:
        """Starts a copy between device arrays without gaps, of equal size."""
        if source.nbytes:
            size = source.nbytes
            here = _part(source.memory, source.address - source.memory.address, size)
            self._copy(_part(target.memory, target.address - target.memory.address, size), here)

    def duplicate(self, source: Block | BorrowedBlock, offset: int, target: Block, size: int) -> None:
        """Starts a copy of some bytes to the beginning of another block."""
        self._copy(_part(target, 0, size), _part(source, offset, size))

    def _copy(self, target: Any, source: Any) -> None:
        source.copy_to(target, stream=self.stream)

    def _buffer(self, size: int) -> tuple[Any, int]:
        size = rounded(size)
        with self._lock:
            self._collect()
            if self._free[size]:
                return self._free[size].pop(), size
        return self._resource.allocate(size), size

    def _collect(self) -> None:
        """Frees the buffers whose copies are done; under the lock."""
        waiting = []
        while self._given_up:
            self._busy.append(self._given_up.popleft())
        for pinned, length, event in self._busy:
            if event.is_done:
                self._free[length].append(pinned)
            else:
                waiting.append((pinned, length, event))
        self._busy = waiting

    def _give_back(self, pinned: Any, size: int) -> None:
        with self._lock:
            self._free[size].append(pinned)


class _Download:
    """Waits for a copy to pinned memory, and for nothing given to the stream later; gives the array that it is for."""

    def __init__(
        self, staging: Staging, pinned: Any, size: int, event: Any, target: NDArray[Any], data: NDArray[np.uint8]
    ) -> None:
        self._staging, self._target, self._data = staging, target, data
        self._copy: tuple[Any, int, Any] | None = (pinned, size, event)

    def __call__(self) -> NDArray[Any]:
        if self._copy is not None:
            pinned, size, event = self._copy
            event.sync()
            self._data[:] = _host_view(pinned, size)[: self._data.nbytes]
            self._copy = None
            self._staging._give_back(pinned, size)
        return self._target

    def __del__(self) -> None:  # may run anywhere, so it takes no lock
        if self._copy is not None:
            self._staging._given_up.append(self._copy)


def _fill(pinned: Any, data: NDArray[np.uint8]) -> None:
    """Copies bytes to the beginning of a pinned buffer of CHUNK bytes, and keeps it meanwhile, whatever becomes of the upload."""
    copy_bytes(_host_view(pinned, CHUNK)[: data.nbytes], data)


def _host_view(pinned: Any, size: int) -> NDArray[np.uint8]:
    import ctypes

    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(pinned.handle)))


def _part(block: Block | BorrowedBlock, offset: int, size: int) -> Any:
    """Some bytes of a block, as a buffer that owns nothing. ZelligeError ZL0502 beyond its end."""
    if offset < 0 or offset + size > block.size:
        raise ZelligeError("ZL0502", f"a copy of {size} bytes does not fit device memory of {block.size - offset}")
    return _buffer_at(block.address + offset, size, block)


def _whole(buffer: Any, size: int) -> Any:
    """The first ``size`` bytes of a buffer, as a buffer that owns nothing."""
    return _buffer_at(int(buffer.handle), size, buffer)


def _buffer_at(address: int, size: int, owner: Any) -> Any:
    from cuda.core import Buffer

    return Buffer.from_handle(address, size, owner=owner)
