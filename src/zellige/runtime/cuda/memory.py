"""Device memory by blocks that are kept for reuse, and pinned host memory owned by the copy that uses it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from threading import Lock, RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.cuda.device import Device
from zellige.runtime.cuda.order import Queue, Users

GRANULE = 512


class Allocator:
    """Device memory in the order of one stream.

    A freed block may be handed out again at once: work given to the stream later runs after all work given before, so it
    cannot disturb the block's last user; for its users on other streams the stream waits then. Any thread may allocate and free.
    """

    def __init__(self, device: Device, queue: Queue) -> None:
        self.device = device
        self.queue = queue
        self._free: dict[int, list[tuple[Any, int, Users]]] = defaultdict(list)
        """By size: buffers with their addresses, which take long to ask for, and who used them last."""
        self._lock = RLock()  # a garbage collection while it is held may free blocks
        self.held_bytes = 0
        """Taken from the driver, in use or free."""

    def allocate(self, size: int) -> Block:
        """At least ``size`` bytes, 512-byte aligned. ZelligeError ZL0506 if memory is short."""
        size = _rounded(size)
        with self._lock:
            found = self._free[size].pop() if self._free[size] else None
        if found is not None:
            buffer, address, users = found
            self._outlast(users)
            return Block(self, buffer, address, size)
        try:
            return self._taken(size)
        except Exception as error:
            if "memory" not in str(error).lower():
                raise
        self.trim()
        try:
            return self._taken(size)
        except Exception as error:
            raise ZelligeError(
                "ZL0506", f"no memory for {size} bytes on {self.device.name}", facts={"bytes": size, "already held": self.held_bytes},
                help="use smaller batches or a shorter context",
            ) from error  # fmt: skip

    def _taken(self, size: int) -> Block:
        buffer = self.device.handle.allocate(size, stream=self.queue.stream)
        with self._lock:
            self.held_bytes += size
        return Block(self, buffer, int(buffer.handle), size)

    def _outlast(self, users: Users) -> None:
        """What is given to the stream from now on runs after the uses of a freed block."""
        if users.entered:
            with self.device.order.lock:  # taken before the allocator's own, if both are
                users.admit(self.queue, exclusive=True)

    def trim(self) -> None:
        """Gives free blocks back to the driver."""
        with self._lock:
            free, self._free = self._free, defaultdict(list)
        for size, buffers in free.items():
            for buffer, _, users in buffers:
                self._outlast(users)
                buffer.close(self.queue.stream)
                with self._lock:
                    self.held_bytes -= size

    def _release(self, buffer: Any, address: int, size: int, users: Users) -> None:
        with self._lock:
            self._free[size].append((buffer, address, users))


class Block:
    """Device memory; goes back to its allocator when closed or collected."""

    __slots__ = ("_allocator", "_buffer", "address", "size", "users")

    def __init__(self, allocator: Allocator, buffer: Any, address: int, size: int) -> None:
        self._allocator = allocator
        self._buffer = buffer
        self.address = address
        self.size = size
        self.users = Users()

    @property
    def buffer(self) -> Any:
        """The ``cuda.core.Buffer``."""
        return self._buffer

    def close(self) -> None:
        """Frees the block; again does nothing."""
        if self._buffer is not None:
            self._allocator._release(self._buffer, self.address, self.size, self.users)
            self._buffer = None

    def __del__(self) -> None:
        self.close()


class BorrowedBlock:
    """Device memory of somebody else, which ``keeper`` keeps alive."""

    __slots__ = ("address", "keeper", "size", "users")

    def __init__(self, keeper: Any, address: int, size: int, users: Users) -> None:
        self.keeper = keeper
        self.address = address
        self.size = size
        self.users = users


class Staging:
    """Copies between host arrays and device memory through pinned buffers.

    A buffer belongs to its copy until the copy is done, which an event says; then another copy may use it. Any thread may copy."""

    def __init__(self, device: Device, stream: Any) -> None:
        from cuda.core import LegacyPinnedMemoryResource

        self.device = device
        self.stream = stream
        # Memory of the pool-based PinnedMemoryResource makes a copy to the host wait for the stream (cuda-core 1.2).
        self._resource = LegacyPinnedMemoryResource()
        self._free: dict[int, list[Any]] = defaultdict(list)
        self._busy: list[tuple[Any, int, Any]] = []
        self._lock = Lock()

    def upload(self, source: NDArray[Any], target: Block | BorrowedBlock, offset: int = 0) -> None:
        """Starts a copy of an array to the device, ``offset`` bytes into a block; the array may change as soon as this returns."""
        data = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
        if not data.nbytes:
            return
        there = _part(target, offset, data.nbytes)
        pinned, size = self._buffer(data.nbytes)
        _host_view(pinned, size)[: data.nbytes] = data
        self._copy(there, _whole(pinned, data.nbytes))
        with self._lock:
            self._busy.append((pinned, size, self.stream.record()))

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
        event = self.stream.record()

        def wait() -> NDArray[Any]:
            event.sync()
            data[:] = _host_view(pinned, size)[: data.nbytes]
            self._give_back(pinned, size)
            return target

        return wait

    def move(self, source: Any, target: Any) -> None:
        """Starts a copy between device arrays without gaps, of equal size."""
        if source.nbytes:
            size = source.nbytes
            here = _part(source.memory, source.address - source.memory.address, size)
            self._copy(_part(target.memory, target.address - target.memory.address, size), here)

    def _copy(self, target: Any, source: Any) -> None:
        source.copy_to(target, stream=self.stream)

    def _buffer(self, size: int) -> tuple[Any, int]:
        size = _rounded(size)
        with self._lock:
            waiting = []
            for pinned, length, event in self._busy:
                if event.is_done:
                    self._free[length].append(pinned)
                else:
                    waiting.append((pinned, length, event))
            self._busy = waiting
            if self._free[size]:
                return self._free[size].pop(), size
        return self._resource.allocate(size), size

    def _give_back(self, pinned: Any, size: int) -> None:
        with self._lock:
            self._free[size].append(pinned)


def _rounded(size: int) -> int:
    """Sizes in steps of an eighth of their power of two, so that few different ones occur."""
    size = max(size, GRANULE)
    step = max(GRANULE, 1 << max(size.bit_length() - 4, 0))
    return -(-size // step) * step


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
