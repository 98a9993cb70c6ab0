"""Device memory that is kept for reuse, on a device that only counts."""

from __future__ import annotations

import threading
import time
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.cuda.memory import Allocator
from zellige.runtime.cuda.order import Order, Queue

QUEUE = Queue(None)


class Counting:
    """A device with room for so many buffers."""

    name = "a device that counts"

    def __init__(self, room: int = 1 << 30) -> None:
        self.handle, self.room, self.addresses, self.order = self, room, count(512, 512), Order()

    def use(self) -> None:
        pass

    def allocate(self, size: int, stream: Any) -> Any:
        if self.room == 0:
            raise RuntimeError("out of memory")
        self.room -= 1
        return SimpleNamespace(handle=next(self.addresses), close=self.closed)

    def closed(self, stream: Any) -> None:
        self.room += 1


class Hesitant(list[Any]):
    """A list at whose length, and before each change, another thread gets its turn."""

    def __len__(self) -> int:
        length = super().__len__()
        time.sleep(1e-4)
        return length

    def pop(self, *at: Any) -> Any:
        time.sleep(1e-4)
        return super().pop(*at)

    def append(self, piece: Any) -> None:
        time.sleep(1e-4)
        super().append(piece)


def test_threads_never_get_one_block_twice() -> None:
    allocator = Allocator(Counting())  # type: ignore[arg-type]
    allocator._free[512] = Hesitant()
    allocator.allocate(512, QUEUE)
    used: set[int] = set()
    wrong: list[object] = []

    def work() -> None:
        try:
            for _ in range(50):
                block = allocator.allocate(512, QUEUE)
                if block.address in used:
                    wrong.append(block.address)
                used.add(block.address)
                time.sleep(1e-4)
                used.discard(block.address)
                del block
        except IndexError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    allocator.trim(QUEUE)
    assert allocator.held_bytes == 0


def test_free_blocks_of_other_sizes_go_back_before_memory_is_short() -> None:
    allocator = Allocator(Counting(room=1))  # type: ignore[arg-type]
    allocator.allocate(512, QUEUE)
    block = allocator.allocate(4096, QUEUE)
    with pytest.raises(ZelligeError) as caught:
        allocator.allocate(512, QUEUE)
    assert caught.value.code == "ZL0506" and block.size == allocator.held_bytes
