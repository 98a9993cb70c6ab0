"""A GPU that is simulated: memory is the host's, and each stream's work is done late, in any order that its events allow.

What runs when is drawn. A program that relies on an order that nobody asked for gets other results for some draws.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace as Some
from typing import Any

import numpy as np
import pytest

from zellige.backends.reference import run
from zellige.runtime.cuda import executor as executor_module
from zellige.runtime.cuda.array import DeviceArray
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.memory import Allocator, Block
from zellige.runtime.cuda.order import Order
from zellige.runtime.cuda.prepared import PreparedLaunch

CURRENT = threading.local()
"""The calling thread's device."""


class Work:
    """One piece of work of a stream, and what must be done before."""

    def __init__(self, action: Callable[[], object], before: list[Work]) -> None:
        self.action, self.before, self.is_done = action, before, False


class Gpu:
    """The device, as ``runtime.cuda.device.Device``."""

    def __init__(self, seed: int) -> None:
        self.ordinal, self.name, self.target = 0, "a simulated GPU", "sm_90"
        self.multiprocessors, self.shared_bytes = 1, 1 << 20
        self.handle, self.order, self.random = self, Order(), Random(seed)
        self.allocator = Allocator(self)  # type: ignore[arg-type]
        self.waiting: list[Work] = []

    def use(self) -> None:
        CURRENT.gpu = self

    def check_in_use(self) -> None:
        """The driver takes memory, copies and events of the calling thread's device only; launches find theirs by the stream."""
        assert getattr(CURRENT, "gpu", None) is self, "another device is the thread's, or none"

    def stream(self) -> Stream:
        return Stream(self)

    def allocate(self, size: int, stream: Stream) -> Buffer:
        self.check_in_use()
        made = Buffer(size)
        made.fill(0x55, stream)  # there it is when the stream has come so far; what it holds looks like values
        return made

    def synchronise(self) -> None:
        self.until(lambda: not self.waiting)

    def until(self, reached: Callable[[], bool]) -> None:
        """Does work, whichever is drawn of what may be next, until a point is reached."""
        while not reached():
            ready = [work for work in self.waiting if all(earlier.is_done for earlier in work.before)]
            chosen = self.random.choice(ready)
            self.waiting.remove(chosen)
            chosen.action()
            chosen.is_done, chosen.action, chosen.before = True, int, []  # what is done holds nothing


class Buffer:
    """Memory as ``cuda.core.Buffer``."""

    def __init__(self, size: int) -> None:
        self.room = (ctypes.c_uint8 * size)()
        self.handle = ctypes.addressof(self.room)

    def fill(self, value: int, stream: Stream) -> None:
        stream.gpu.check_in_use()
        stream.give(lambda: ctypes.memset(self.handle, value, len(self.room)))

    def close(self, stream: Stream) -> None:
        room, address = self.room, self.handle
        stream.give(lambda: ctypes.memset(address, 0x77, len(room)))


class Stream:
    """As ``cuda.core.Stream``; an event is the last work given."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.handle = gpu, id(self)
        self.last: list[Work] = []

    def give(self, action: Callable[[], object]) -> Work:
        work = Work(action, self.last)
        self.last = [work]
        self.gpu.waiting.append(work)
        return work

    def wait(self, other: Stream) -> None:
        self.gpu.check_in_use()
        self.last = [*self.last, *other.last]

    def record(self) -> Event:
        self.gpu.check_in_use()
        return Event(self.gpu, list(self.last))

    def sync(self) -> None:
        Event(self.gpu, list(self.last)).sync()


class Event:
    """As ``cuda.core.Event``."""

    def __init__(self, gpu: Gpu, last: list[Work]) -> None:
        self.gpu, self.last = gpu, last

    @property
    def is_done(self) -> bool:
        return all(work.is_done for work in self.last)

    def sync(self) -> None:
        self.gpu.until(lambda: self.is_done)


class Staging:
    """As ``runtime.cuda.staging.Staging``."""

    def __init__(self, device: Gpu, stream: Stream) -> None:
        self.stream = stream

    def upload(self, source: Any, target: Block, offset: int = 0) -> None:
        data, there = np.ascontiguousarray(source).tobytes(), target.address + offset  # a copy keeps no block
        assert 0 <= offset <= offset + len(data) <= target.size
        self.stream.gpu.check_in_use()
        self.stream.give(lambda: ctypes.memmove(there, data, len(data)))

    def gather(self, sources: Any, target: Block, offset: int = 0) -> None:
        for source in sources:
            self.upload(source, target, offset)
            offset += source.nbytes

    def fetch(self, source: Block, target: Any, offset: int = 0) -> Callable[[], Any]:
        assert 0 <= offset <= offset + target.nbytes <= source.size
        self.stream.gpu.check_in_use()
        there, here = target.__array_interface__["data"][0], source.address + offset
        work = self.stream.give(lambda: ctypes.memmove(there, here, target.nbytes))

        def wait() -> Any:
            self.stream.gpu.until(lambda: work.is_done)
            return target

        return wait

    def download(self, source: Block, target: Any, offset: int = 0) -> None:
        self.fetch(source, target, offset)()

    def duplicate(self, source: Block, offset: int, target: Block, size: int) -> None:
        there, here = target.address, source.address + offset
        assert 0 <= offset <= offset + size <= source.size and size <= target.size
        self.stream.gpu.check_in_use()
        self.stream.give(lambda: ctypes.memmove(there, here, size))

    def move(self, source: DeviceArray, target: DeviceArray) -> None:
        self.stream.gpu.check_in_use()
        there, here, size = target.address, source.address, source.nbytes
        self.stream.give(lambda: ctypes.memmove(there, here, size))


class Launch:
    """A launch that the interpreter carries out; as ``Launch`` of ``runtime.cuda.launch``. It reads its arguments when it is called."""

    def __init__(self, launch: PreparedLaunch) -> None:
        binding, function = launch.binding, launch.instance.function
        self.function, self.dims, self.tensors = function, binding.dims, binding.tensors
        values = {name: held.address for name, held in binding.tensors.items()} | binding.scalars
        kinds = dict.fromkeys(binding.tensors, "array") | dict.fromkeys(binding.scalars, "scalar")
        parameters = [Some(name=name, kind=kind, multiple=1) for name, kind in kinds.items()]
        self.kernel = Some(compiled=Some(parameters=parameters))
        self.arguments = tuple(Some(value=values[name]) for name in kinds)
        self.call = self

    def __call__(self, stream: Stream) -> None:
        values = {p.name: a.value for p, a in zip(self.kernel.compiled.parameters, self.arguments, strict=True)}
        arrays = {name: on_host(held.storage, values.pop(name)) for name, held in self.tensors.items()}
        stream.give(lambda: run(self.function, self.dims, arrays, values))

    def foreign(self, stream: Stream) -> tuple[Callable[[], int]]:
        """As ``PreparedCall.foreign``."""

        def call() -> int:
            self(stream)
            return 0

        return (call,)


def filled(address: int, pattern: bytes, count: int, stream: Stream) -> None:
    """As ``runtime.cuda.driver.fill``."""
    stream.gpu.check_in_use()
    stream.give(lambda: ctypes.memmove(address, pattern * count, len(pattern) * count))


class Graph:
    """As ``runtime.cuda.graph.LaunchGraph``."""

    def __init__(self, device: Gpu, launches: Any) -> None:
        self.launches = launches

    def __call__(self, stream: Stream) -> None:
        stream.gpu.check_in_use()
        for launch in self.launches:
            launch(stream)


class _Address:
    def __init__(self, array: DeviceArray, address: int) -> None:
        self.__array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "data": (address, False), "strides": array.strides, "version": 3,
        }  # fmt: skip


def on_host(array: DeviceArray, address: int | None = None) -> Any:
    """The elements, which are in the host's memory; ``address``: of another array that lies as this one does."""
    return np.asarray(_Address(array, array.address if address is None else address))


@contextmanager
def simulated(seed: int) -> Iterator[CudaExecutor]:
    """The first stream of a simulated GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor_module, "Staging", Staging)
        patch.setattr(executor_module, "LaunchGraph", Graph)
        patch.setattr(CudaExecutor, "_ready", lambda self, launch, earlier: Launch(launch))
        gpu: Any = Gpu(seed)
        yield CudaExecutor(gpu)
