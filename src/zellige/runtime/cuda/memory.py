"""Device memory by blocks that are kept for reuse, and pinned host memory owned by the copy that uses it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.cuda.order import Queue, Users

if TYPE_CHECKING:
    from zellige.runtime.cuda.device import Device

GRANULE = 512


class Piece:
    """Device memory as the driver gave it, which one block after the other has."""

    __slots__ = ("address", "buffer", "free", "size", "users")

    def __init__(self, buffer: Any, size: int, free: list[Piece]) -> None:
        self.buffer = buffer
        """The ``cuda.core.Buffer``; it takes long to ask for its address."""
        self.address = int(buffer.handle)
        self.size = size
        self.users = Users()
        """Of this block and of those before."""
        self.free = free
        """Where it is while no block has it."""


class Allocator:
    """Device memory for all streams of a device.

    A freed piece may be handed out again at once: it keeps its uses, after which the next ones run, on whatever stream. Any thread may
    allocate and free; a piece is taken from the free ones of its size, and put there, in one step and without a lock, as a garbage
    collection may do it anywhere."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._free: dict[int, list[Piece]] = {}
        self.held_bytes = 0
        """Taken from the driver, in use or free."""

    def free(self, size: int) -> list[Piece]:
        """The free pieces of at least ``size`` bytes."""
        return self._free.setdefault(_rounded(size), [])

    def allocate(self, size: int, queue: Queue) -> Block:
        """At least ``size`` bytes, 512-byte aligned, for what ``queue`` is given next. ZelligeError ZL0506 if memory is short."""
        return Block(_one_of(self.free(size)) or self.taken(size, queue))

    def taken(self, size: int, queue: Queue) -> Piece:
        """Memory from the driver, which others than ``queue`` have when its stream has come so far. ZelligeError ZL0506 if it is short."""
        size, order = _rounded(size), self.device.order
        self.device.use()
        with order.lock:
            for last in (False, True):
                try:
                    buffer = self.device.handle.allocate(size, stream=queue.stream)
                    break
                except Exception as error:
                    if "memory" not in str(error).lower():
                        raise
                    if last:
                        raise ZelligeError(
                            "ZL0506", f"no memory for {size} bytes on {self.device.name}",
                            facts={"bytes": size, "already held": self.held_bytes},
                            help="use smaller batches or a shorter context",
                        ) from error  # fmt: skip
                self.trim(queue)
            self.held_bytes += size
            piece = Piece(buffer, size, self.free(size))
            order.after(queue, ((piece.users, True),))
        return piece

    def trim(self, queue: Queue) -> None:
        """Gives free pieces back to the driver, when their users have ended."""
        with self.device.order.lock:
            for free in list(self._free.values()):
                while (piece := _one_of(free)) is not None:
                    piece.users.admit(queue, exclusive=True)
                    piece.buffer.close(queue.stream)
                    self.held_bytes -= piece.size


def _one_of(free: list[Piece]) -> Piece | None:
    try:
        return free.pop()
    except IndexError:
        return None


class Block:
    """Device memory; goes back to its allocator when collected."""

    __slots__ = ("address", "piece", "size", "users")

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.address = piece.address
        self.size = piece.size
        self.users = piece.users

    @property
    def buffer(self) -> Any:
        """The ``cuda.core.Buffer``."""
        return self.piece.buffer

    def __del__(self) -> None:
        self.piece.free.append(self.piece)


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
        self._given_up: deque[tuple[Any, int, Any]] = deque()
        """Of downloads that nobody waits for any more."""
        self._lock = Lock()

    def __del__(self) -> None:
        for _, _, event in (*getattr(self, "_busy", ()), *getattr(self, "_given_up", ())):
            event.sync()  # the copies end before their memory goes

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
        size = _rounded(size)
        with self._lock:
            waiting = []
            while self._given_up:
                self._busy.append(self._given_up.popleft())
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
