"""Uploads through pinned buffers, on a GPU that is simulated and copies late."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import numpy as np
import pytest
from tests.runtime.cuda.simulated import Gpu, Stream

from zellige.diagnostics import ZelligeError
from zellige.runtime.cuda import staging
from zellige.runtime.cuda.memory import Block
from zellige.runtime.cuda.order import Queue
from zellige.runtime.cuda.staging import Staging
from zellige.runtime.mapped import MappedFile

CHUNK = 4096


class Bytes:
    """As ``cuda.core.Buffer`` of memory that somebody holds."""

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size = address, size

    @classmethod
    def from_handle(cls, address: int, size: int, owner: Any) -> Bytes:
        return cls(address, size)

    def copy_to(self, target: Bytes, stream: Stream) -> None:
        assert self.size == target.size
        there, here, size = target.address, self.address, self.size
        stream.give(lambda: ctypes.memmove(there, here, size))


class Pinned:
    """As ``cuda.core.LegacyPinnedMemoryResource``; it counts."""

    made: list[Any] = []

    def allocate(self, size: int) -> Any:
        room = (ctypes.c_uint8 * size)()
        self.made.append(Some(room=room, handle=ctypes.addressof(room)))
        return self.made[-1]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> tuple[Staging, Block, Gpu]:
    """What uploads to a block of 100,000 bytes."""
    monkeypatch.setitem(sys.modules, "cuda.core", Some(Buffer=Bytes, LegacyPinnedMemoryResource=Pinned))
    monkeypatch.setattr(staging, "CHUNK", CHUNK)
    monkeypatch.setattr(staging, "CHUNKS", 8)
    monkeypatch.setattr(staging, "READERS", 6)
    Pinned.made = []
    gpu = Gpu(3)
    gpu.use()
    stream = gpu.stream()
    pretended: Any = gpu
    return Staging(pretended, stream), gpu.allocator.allocate(100_000, Queue(stream)), gpu


def held(block: Block, count: int) -> bytes:
    return ctypes.string_at(block.address, count)


def test_arrays_arrive_one_after_the_other(device: tuple[Staging, Block, Gpu], tmp_path: Path) -> None:
    """Whole and in pieces of chunks, of memory that changes afterwards and of a file, more than there are buffers for."""
    upload, block, gpu = device
    rng = np.random.default_rng(2)
    path = tmp_path / "file"
    path.write_bytes(rng.integers(0, 256, 30_000, np.uint8).tobytes())
    with open(path, "rb") as file:
        mapped = MappedFile(file)
    for sizes in ([5], [CHUNK], [CHUNK + 1], [3, 9000, 1, 40_000], [CHUNK] * 12, [7] * 40):
        arrays = [rng.integers(0, 256, size, np.uint8) for size in sizes]
        arrays += [np.frombuffer(mapped, "<u2", 5000, 11), rng.integers(0, 256, (30, 50), np.uint8).T]
        expected = b"".join(array.tobytes() for array in arrays)
        upload.gather(arrays, block, 100)
        for array in arrays[: len(sizes)]:
            array[...] = 0
        gpu.synchronise()
        assert held(block, 100 + len(expected))[100:] == expected
    assert len([each for each in Pinned.made if len(each.room) == CHUNK]) <= 8


def test_an_upload_that_does_not_fit_is_refused(device: tuple[Staging, Block, Gpu]) -> None:
    upload, block, gpu = device
    gpu.synchronise()
    before = held(block, 100_000)
    with pytest.raises(ZelligeError) as found:
        upload.gather([np.zeros(60_000, np.uint8), np.zeros(60_000, np.uint8)], block)
    gpu.synchronise()
    assert found.value.code == "ZL0502"
    assert held(block, 100_000) == before


def test_after_a_file_that_became_shorter_all_buffers_are_there(
    device: tuple[Staging, Block, Gpu], tmp_path: Path
) -> None:
    upload, block, gpu = device
    path = tmp_path / "file"
    path.write_bytes(bytes(80_000))
    with open(path, "rb") as file:
        view = np.frombuffer(MappedFile(file), np.uint8)
    os.truncate(path, 20_000)
    for _ in range(5):
        with pytest.raises(ZelligeError) as found:
            upload.gather([view], block)
        assert found.value.code == "ZL0603"
    data = np.random.default_rng(1).integers(0, 256, 90_000, np.uint8)
    upload.upload(data, block)
    gpu.synchronise()
    assert held(block, 90_000) == data.tobytes()
    assert len(Pinned.made) <= 8


def test_a_buffer_that_could_not_be_made_does_not_count(
    device: tuple[Staging, Block, Gpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, block, gpu = device

    def full(self: Any, size: int) -> Any:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Pinned, "allocate", full)
        for _ in range(5):
            with pytest.raises(MemoryError):
                upload.gather([np.zeros(9000, np.uint8)], block)
    assert upload._chunks == 0
    data = np.random.default_rng(1).integers(0, 256, 90_000, np.uint8)
    upload.upload(data, block)
    gpu.synchronise()
    assert held(block, 90_000) == data.tobytes()


def test_an_interrupted_upload_leaves_no_buffer_that_somebody_still_fills(
    device: tuple[Staging, Block, Gpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, block, gpu = device
    copy, begun, ended = staging.copy_bytes, [], []

    def slow(target: Any, source: Any) -> None:
        begun.append(source)
        if len(begun) == 1:
            time.sleep(0.1)  # until the upload waits for this
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            time.sleep(0.3)
        copy(target, source)
        ended.append(source)

    monkeypatch.setattr(staging, "copy_bytes", slow)
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)  # SIGINT itself may be ignored where tests run
    try:
        with pytest.raises(KeyboardInterrupt):
            upload.gather([np.ones(90_000, np.uint8)], block)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(begun) == len(ended) > 0
    monkeypatch.setattr(staging, "copy_bytes", copy)
    data = np.random.default_rng(1).integers(0, 256, 90_000, np.uint8)
    upload.gather([data], block)
    gpu.synchronise()
    assert held(block, 90_000) == data.tobytes()
    assert len(Pinned.made) <= 8
