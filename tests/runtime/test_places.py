"""Tensors are used where they are: a launch elsewhere is refused before an address of one device is read on another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

import zellige as zl
from tests.runtime.kernels import double, ints
from zellige import i32
from zellige.diagnostics.errors import ZelligeError
from zellige.runtime import execution
from zellige.runtime.cuda.executor import CudaExecutor

GPU = CudaExecutor(None, "sm_90")  # compiles only; its tensors have a GPU's addresses


@pytest.mark.parametrize(
    ("contexts", "made_by"),
    [
        ([], GPU.tensor),
        ([lambda: zl.using("reference")], GPU.tensor),
        ([lambda: zl.record()], GPU.tensor),
        ([lambda: zl.using(GPU)], lambda values, dtype: zl.tensor(values, dtype)),
    ],
    ids=["a GPU's on the CPU", "a GPU's in the interpreter", "a GPU's in a recording", "the host's on a GPU"],
)
@pytest.mark.parametrize("name", ["x", "y"])
def test_a_tensor_elsewhere_is_refused(
    contexts: list[Callable[[], Any]], made_by: Callable[..., Any], name: str
) -> None:
    elsewhere = made_by(ints(1, 2, 3), i32)
    with ExitStack() as stack, pytest.raises(ZelligeError) as caught:
        for context in contexts:
            stack.enter_context(context())
        double(elsewhere) if name == "x" else double(np.zeros(3, np.int32), y=elsewhere)
    assert caught.value.code == "ZL0527" and f"'{name}'" in str(caught.value)


def test_the_same_call_on_its_own_device_is_not_mistaken_for_it() -> None:
    """Plans are remembered by layout; where the arrays are is part of it."""
    double(zl.tensor(ints(1, 2, 3)))
    with pytest.raises(ZelligeError, match="ZL0527"):
        double(GPU.tensor(ints(1, 2, 3), i32))


@pytest.mark.parametrize(
    "use",
    [
        lambda t: np.from_dlpack(t),
        lambda t: t[1:],
        lambda t: t.T,
        lambda t: zl.stream().copy(t, zl.empty((3,), i32)),
        lambda t: zl.stream().copy(ints(4, 5, 6), t),
    ],
    ids=["export", "part", "transposed", "copied from", "copied to"],
)
def test_the_host_does_not_take_a_gpus_address_for_its_own(use: Callable[..., Any]) -> None:
    with pytest.raises(ZelligeError) as caught:
        use(GPU.tensor(ints(1, 2, 3), i32))
    assert caught.value.code == "ZL0527"


def test_blocks_that_say_cuda_have_one_stream_in_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing orders two streams: what one block launches, the next one may read."""
    started = threading.Barrier(4)

    def slowly(cls: type[CudaExecutor]) -> CudaExecutor:
        time.sleep(0.01)
        return cls(None, "sm_90")

    def block() -> None:
        started.wait()
        with zl.using("cuda") as chosen:
            found.append(chosen)

    monkeypatch.setattr(CudaExecutor, "open", classmethod(slowly))
    execution._opened_gpu.cache_clear()
    found: list[Any] = []
    threads = [threading.Thread(target=block) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        execution._opened_gpu.cache_clear()
    assert len(found) == 4 and len(set(map(id, found))) == 1
