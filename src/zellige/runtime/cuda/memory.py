"""Device memory by blocks that are kept for reuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        return self._free.setdefault(rounded(size), [])

    def allocate(self, size: int, queue: Queue) -> Block:
        """At least ``size`` bytes, 512-byte aligned, for what ``queue`` is given next. ZelligeError ZL0506 if memory is short."""
        return Block(_one_of(self.free(size)) or self.taken(size, queue))

    def taken(self, size: int, queue: Queue) -> Piece:
        """Memory from the driver, which others than ``queue`` have when its stream has come so far. ZelligeError ZL0506 if it is short."""
        size, order = rounded(size), self.device.order
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


def rounded(size: int) -> int:
    """Sizes in steps of an eighth of their power of two, so that few different ones occur."""
    size = max(size, GRANULE)
    step = max(GRANULE, 1 << max(size.bit_length() - 4, 0))
    return -(-size // step) * step
