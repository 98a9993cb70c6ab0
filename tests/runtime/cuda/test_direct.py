"""Launches written out as straight-line code: what they check, what the driver reads, and what is known afterwards."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from types import SimpleNamespace as Some
from typing import Any

import pytest

import zellige as zl
from zellige import bf16, f32
from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.cuda import driver
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.launch import Launch
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
        self.code = 0
        self.arguments: tuple[Any, ...] = ()

    def cuLaunchKernelEx(self, *_: Any) -> int:
        self.seen.append(tuple(a.value for a in self.arguments))
        return self.code

    def cuGetErrorString(self, code: int, text: Any) -> int:
        text._obj.value = b"no"
        return 0


class Executor(CudaExecutor):
    """Launches go to ``Driver``; memory has made-up addresses."""

    def __init__(self, made: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(None, "sm_90")
        self.made = made
        self.stream = Some(handle=7)
        monkeypatch.setattr(driver, "library", lambda: made)

    def _ready(self, launch: Any, **_: Any) -> Launch:
        function = launch.instance.function
        places = [(a.name, "array", 16 if a.name == "x" else 1) for a in function.arrays]
        places += [(s.name, "scalar", 1) for s in function.scalars]
        self.made.arguments = tuple(
            ctypes.c_uint64(0) if kind == "array" else ctypes.c_float(0) for _, kind, _ in places
        )
        parameters = [Some(name=name, kind=kind, multiple=multiple) for name, kind, multiple in places]
        loaded: Any = Some(compiled=Some(name=function.name, parameters=parameters))
        call = driver.PreparedCall(64, 1, 32, 0, self.made.arguments, attribute=None)
        return Launch(loaded, 1, self.made.arguments, None, call)


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


def test_an_address_that_the_code_cannot_use_is_refused(gpu: Executor) -> None:
    x, y = written(gpu), written(gpu)
    scaled(x, 1.0, y=y, BN=16)
    with pytest.raises(ZelligeError) as caught:
        scaled(at(x, 1 << 30 | 8), 1.0, y=y, BN=16)
    assert caught.value.code == "ZL0515" and len(gpu.made.seen) == 1
    scaled(x, 1.0, y=at(y, 1 << 30 | 8), BN=16)  # y has no such promise
    assert gpu.made.seen[1:] == [(x.address, 1 << 30 | 8, 1.0)]


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
