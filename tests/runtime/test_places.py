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
from zellige.runtime.cuda import executor
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
        lambda t: zl.stream().copy(t, zl.empty((3,), i32)),
        lambda t: zl.stream().copy(ints(4, 5, 6), t),
    ],
    ids=["copied from", "copied to"],
)
def test_the_host_does_not_take_a_gpus_address_for_its_own(use: Callable[..., Any]) -> None:
    with pytest.raises(ZelligeError) as caught:
        use(GPU.tensor(ints(1, 2, 3), i32))
    assert caught.value.code == "ZL0527"


def test_what_numpy_cannot_read_is_not_exported_to_it() -> None:
    with pytest.raises((BufferError, RuntimeError)):
        np.from_dlpack(GPU.tensor(ints(1, 2, 3), i32))


def test_parts_of_a_gpus_tensor_are_on_the_gpu() -> None:
    whole = GPU.tensor(ints(*range(12)), i32).reshape(3, 4)
    part, turned = whole[1:, 1:3], whole.T
    assert (part.shape, part.address - whole.address, part.storage.strides) == ((2, 2), 20, (16, 4))
    assert (turned.shape, turned.storage.strides, turned.place) == ((4, 3), (4, 16), GPU.place)
    assert part.layout.strides == (4, 1) and whole[1:].layout.strides is None
    with pytest.raises(ZelligeError, match="ZL0502"):
        turned.reshape(12)
    with pytest.raises(IndexError):
        whole[3]


def test_parts_that_share_no_element_may_go_together() -> None:
    whole = GPU.tensor(ints(*range(6)), i32)
    with pytest.raises(ZelligeError, match="ZL0503"), zl.using(GPU):
        double(whole[:3], y=whole[2:5])


def test_blocks_that_say_cuda_have_one_stream_in_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default stream of a GPU is one, whoever asks first."""
    started = threading.Barrier(4)

    def slowly(cls: type[CudaExecutor], ordinal: int) -> CudaExecutor:
        time.sleep(0.01)
        return cls(None, "sm_90")

    def block() -> None:
        started.wait()
        with zl.using("cuda") as chosen:
            found.append(chosen)

    monkeypatch.setattr(CudaExecutor, "open", classmethod(slowly))
    monkeypatch.setattr(executor, "_defaults", {})
    found: list[Any] = []
    threads = [threading.Thread(target=block) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(map(id, found))) == 1


def test_tensors_are_made_where_launches_run() -> None:
    with zl.using(GPU):
        made = zl.tensor(ints(1, 2, 3)), zl.index([0, 2], below=3), zl.empty((4,), i32), zl.tensor(double(ints(1, 2)))
        assert {t.place for t in made} == {GPU.place} and "Index[3]" in repr(made[1])
        with zl.record():
            assert zl.tensor(ints(1)).place == GPU.place
        with pytest.raises(ZelligeError, match="ZL0502"):
            zl.empty((-1,), i32)
    assert zl.tensor(made[0]).place == "host memory"


def test_a_stream_beside_makes_up_other_addresses() -> None:
    x = GPU.tensor(ints(1, 2), i32)
    with zl.using(GPU), zl.stream():
        y = double(x)
        assert y.span[0] >= x.span[1]
