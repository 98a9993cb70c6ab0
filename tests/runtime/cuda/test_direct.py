"""Launches written out as straight-line code: what they check, what the driver reads, and what is known afterwards."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from threading import Event, Thread
from types import SimpleNamespace as Some
from typing import Any

import pytest

import zellige as zl
from zellige import bf16, f32
from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.cuda import driver
from zellige.runtime.cuda.executor import CudaExecutor, unaligned
from zellige.runtime.cuda.launch import Launch
from zellige.runtime.execution import enter
from zellige.runtime.tensor import Tensor

N = zl.dims("N")


@zl.kernel
def scaled(x: zl.In[bf16, N], eps: f32, *, y: zl.Out[bf16, N], BN: zl.Static = 16):
    i = zl.grid(N.tiles(BN))
    y[i] = (x[i].to(f32) * eps).to(bf16)


@zl.kernel
def looked_up(x: zl.In[f32, N], at: zl.In[zl.Index[N], N], count: zl.i32, *, y: zl.Out[f32, N], BN: zl.Static = 16):
    zl.requires(count > 0)
    i = zl.grid(N.tiles(BN))
    y[i] = x[at[i]]


class Driver:
    """Remembers what launches would read; ``code`` is its answer."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.compiled: list[frozenset[str]] = []
        """For each compilation, the arrays that may begin anywhere."""
        self.code = 0
        self.arguments: dict[int, tuple[Any, ...]] = {}
        """Of each compiled launch, by the address of the first."""

    def cuLaunchKernelEx(self, config: Any, kernel: Any, parameters: Any, extra: None) -> int:
        self.seen.append(tuple(a.value for a in self.arguments[parameters._obj[0]]))
        return self.code

    def cuGetErrorString(self, code: int, text: Any) -> int:
        text._obj.value = b"no"
        return 0


class Executor(CudaExecutor):
    """Launches go to ``Driver``; memory has made-up addresses."""

    def __init__(self, made: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(None, "sm_90")
        self.made = made
        self.stream: Any = Some(handle=7)
        self.queue = self.order.join(self.stream)
        monkeypatch.setattr(driver, "library", lambda: made)

    def _ready(self, launch: Any, earlier: Any) -> Launch:
        function, loose = launch.instance.function, unaligned(launch.binding)
        places = [(a.name, "array", 1 if a.name in loose else 16) for a in function.arrays]
        self.made.compiled.append(loose)
        places += [(s.name, "scalar", 1) for s in function.scalars]
        arguments = tuple(ctypes.c_uint64(0) if kind == "array" else ctypes.c_float(0) for _, kind, _ in places)
        self.made.arguments[ctypes.addressof(arguments[0])] = arguments
        parameters = [Some(name=name, kind=kind, multiple=multiple) for name, kind, multiple in places]
        loaded: Any = Some(compiled=Some(name=function.name, parameters=parameters))
        call = driver.PreparedCall(64, 1, 32, 0, arguments, attribute=None)
        return Launch(loaded, 1, arguments, None, call)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    executor = Executor(Driver(), monkeypatch)
    with zl.using(executor):
        yield executor


def written(executor: Executor, dtype: Any = bf16, size: int = 64) -> Tensor:
    made = executor.empty((size,), dtype)
    made.initialised = True
    return made


def at(tensor: Tensor, address: int) -> Tensor:
    """A tensor of that layout elsewhere."""
    return Tensor.over(tensor.memory, tensor.storage, tensor.dtype, tensor.shape, address=address)


def test_each_launch_has_its_own_arguments(gpu: Executor) -> None:
    x, y, z = (written(gpu) for _ in range(3))
    for source, target, eps in ((x, y, 0.5), (y, z, 2.0), (z, x, 0.25)):
        scaled(source, eps, y=target, BN=16)
    assert gpu.made.seen == [
        (x.address, y.address, 0.5), (y.address, z.address, 2.0), (z.address, x.address, 0.25),
    ]  # fmt: skip


def test_later_calls_are_the_written_out_ones(gpu: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = written(gpu), gpu.empty((64,), bf16)
    scaled(x, 1.0, y=y, BN=16)
    monkeypatch.setattr(Executor, "launch", None)
    scaled(x, 3.0, y=y, BN=16)
    assert gpu.made.seen[1:] == [(x.address, y.address, 3.0)]


def test_what_is_written_counts_as_written_and_as_newer(gpu: Executor) -> None:
    x, y, z = written(gpu), gpu.empty((64,), bf16), gpu.empty((64,), bf16)
    for target in (y, z):
        before = target.memory.version
        assert not target.initialised
        scaled(x, 1.0, y=target, BN=16)
        assert target.initialised and target.memory.version > before
        assert x.memory.version == 0


def test_what_was_never_written_is_not_read(gpu: Executor) -> None:
    x, y = written(gpu), written(gpu)
    scaled(x, 1.0, y=y, BN=16)
    empty = gpu.empty((64,), bf16)
    with pytest.raises(ZelligeError) as caught:
        scaled(empty, 1.0, y=y, BN=16)
    assert caught.value.code == "ZL0504" and len(gpu.made.seen) == 1


def test_exclusive_memory_is_shared_with_nothing(gpu: Executor) -> None:
    x, y = written(gpu), written(gpu)
    scaled(x, 1.0, y=y, BN=16)
    for other in (x, at(x, x.address + 16), at(x, x.address - 16)):
        with pytest.raises(zl.AliasError):
            scaled(x, 1.0, y=other, BN=16)
    assert len(gpu.made.seen) == 1


def test_arrays_that_begin_elsewhere_get_code_of_their_own(gpu: Executor) -> None:
    x, y = written(gpu), written(gpu)
    odd_x, odd_y = at(x, 1 << 30 | 8), at(y, 1 << 31 | 8)
    for source, target in ((x, y), (odd_x, y), (x, odd_y), (odd_x, odd_y), (odd_x, y), (x, y)):
        scaled(source, 1.0, y=target, BN=16)
        assert gpu.made.seen[-1] == (source.address, target.address, 1.0)
    assert gpu.made.compiled == [frozenset(), frozenset("x"), frozenset("y"), frozenset("xy")]
    assert len(gpu.made.seen) == 6


def test_code_that_takes_any_address_of_one_array_still_needs_those_of_others(gpu: Executor) -> None:
    x, y = written(gpu), written(gpu)
    scaled(at(x, 1 << 30 | 8), 1.0, y=y, BN=16)
    scaled(x, 1.0, y=at(y, 1 << 31 | 8), BN=16)
    assert gpu.made.compiled == [frozenset("x"), frozenset("y")]


def test_uses_are_entered_when_others_use_the_device_and_only_then(
    gpu: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, Any]] = []
    monkeypatch.setattr(gpu.order, "before", lambda queue, uses: given.append(("before", uses)))
    monkeypatch.setattr(gpu.order, "after", lambda queue, uses: given.append(("after", uses)))
    x, y = written(gpu), written(gpu)
    for tensor in (x, y):
        monkeypatch.setattr(tensor.storage, "memory", Some(users=f"users of {tensor.address}"), raising=False)
    scaled(x, 1.0, y=y, BN=16)
    assert not given
    gpu.order.alone = False
    gpu.made.code = 1  # whatever the driver says, some of it may have been given
    with pytest.raises(ZelligeError):
        scaled(x, 1.0, y=y, BN=16)
    uses = ((x.storage.memory.users, False), (y.storage.memory.users, True))
    assert given == [("before", uses), ("after", uses)]


def test_a_launch_waits_for_the_devices_turn(gpu: Executor) -> None:
    x, y = written(gpu), written(gpu)
    scaled(x, 1.0, y=y, BN=16)
    with gpu.order.lock:
        other = Thread(target=lambda: (enter(gpu), scaled(x, 2.0, y=y, BN=16)))
        other.start()
        other.join(0.05)
        assert other.is_alive() and len(gpu.made.seen) == 1
    other.join()
    assert len(gpu.made.seen) == 2


def test_a_launch_that_the_driver_refuses_has_written_nothing(gpu: Executor) -> None:
    x, y = written(gpu), written(gpu)
    scaled(x, 1.0, y=y, BN=16)
    empty = gpu.empty((64,), bf16)
    gpu.made.code = 1
    with pytest.raises(ZelligeError) as caught:
        scaled(x, 1.0, y=empty, BN=16)
    assert caught.value.code == "ZL0517" and not empty.initialised
    gpu.made.code = 0
    scaled(x, 1.0, y=empty, BN=16)  # no lock is held
    assert empty.initialised


def test_threads_that_need_one_kernel_at_once_compile_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @zl.kernel
    def halved(x: zl.In[f32, N], *, y: zl.Out[f32, N], BN: zl.Static = 16):
        i = zl.grid(N.tiles(BN))
        y[i] = x[i] * 0.5

    compilations: list[str] = []
    first, others = Event(), Event()

    def slow(self: CudaExecutor, function: Any, dims: Any, options: Any) -> Any:
        compilations.append(function.name)
        first.set()
        others.wait(0.1)  # the other thread may compile now, if nothing keeps it from that
        return Some(guards=())

    monkeypatch.setattr(CudaExecutor, "_compiled", slow)
    executor = CudaExecutor(None, "sm_90")
    x = executor.zeros((64,), f32)
    halved.instance({"BN": 16}, {})

    def work() -> None:
        with zl.using(executor):
            halved(x, BN=16)

    threads = [Thread(target=work) for _ in range(2)]
    threads[0].start()
    first.wait(20)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert compilations == ["halved"]


def test_contracts_preconditions_and_scalars_are_checked_each_time(
    gpu: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    x, y, places = written(gpu, f32), written(gpu, f32), written(gpu, zl.i32)
    contents = np.zeros(64, np.int32)
    monkeypatch.setattr(type(places.storage), "download", lambda _: contents)
    looked_up(x, places, 1, y=y, BN=16)
    for values, count, code in ((64, 1, "ZL0505"), (0, 0, "ZL0507"), (0, 1 << 40, "ZL0505"), (0, "1", "ZL0501")):
        contents[:] = values
        other = written(gpu, zl.i32)
        with pytest.raises(ZelligeError) as caught:
            looked_up(x, other, count, y=y, BN=16)
        assert caught.value.code == code and len(gpu.made.seen) == 1
