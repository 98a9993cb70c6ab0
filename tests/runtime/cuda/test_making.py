"""Calls that make their outputs: whose memory they get, when it comes back, and what is known of it."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import pytest
from tests.runtime.cuda.simulated import filled, simulated
from tests.runtime.kernels import best, double, ints, take, total

import zellige as zl
from zellige import bf16, f16, f32, i32
from zellige.diagnostics.errors import ZelligeError
from zellige.ir import dtypes
from zellige.runtime.cuda import launch as launch_module
from zellige.runtime.cuda.array import DeviceArray
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.memory import Block
from zellige.runtime.memory import Memory
from zellige.runtime.tensor import Tensor

N = zl.dims("N")


@zl.kernel
def halves(x: zl.In[f32, N], scale: f32, *, low: zl.Out[f16, N], high: zl.Out[f32, N], BN: zl.Static = 16):
    i = zl.grid(N.tiles(BN))
    low[i] = (x[i] * scale).to(f16)
    high[i] = x[i] + scale


@pytest.mark.parametrize(
    "shape,dtype", [((), f32), ((3, 4), bf16), ((0, 2), i32), ((2, 64), dtypes.Q8_0), ((np.int64(5),), f32)]
)
def test_a_tensor_that_is_made_fast_is_what_the_constructors_make(shape: Any, dtype: Any) -> None:
    with simulated(0) as first:
        made = first.empty(shape, dtype)
        storage: DeviceArray = made.storage
        block = storage.memory
        assert isinstance(block, Block)
        constructed = DeviceArray(first, block, made.address, storage.shape, storage.dtype)
        memory = Memory(constructed, made.address, constructed.nbytes, initialised=False, borrowed=False)
        other = Tensor.over(memory, constructed, dtype, tuple(map(int, shape)), address=made.address)
        assert made._layout is other.layout
        for one, two in (
            (made, other),
            (made.storage, constructed),
            (made.memory, memory),
            (block, Block(block.piece)),
        ):
            slots = [
                name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ()) if name != "__weakref__"
            ]
            for name in slots:
                if name not in ("storage", "memory", "room"):
                    assert getattr(one, name) == getattr(two, name), name
                    assert type(getattr(one, name)) is type(getattr(two, name)), name
        assert made.memory.room is storage and set(map(type, made.shape)) <= {int}
        assert not (made.initialised and made.storage.size)


def test_memory_is_given_back_with_the_last_name_and_given_out_again() -> None:
    with simulated(0) as first, zl.using(first):
        x = first.tensor(ints(1, 2, 3), i32)
        double(x)  # a simulated plan keeps the arguments of its first launch
        y = double(x)
        view, address, allocator = y[1:], y.address, first.device.allocator  # type: ignore[union-attr]
        del y
        z = double(x)
        assert z.address != address  # a view keeps it
        np.testing.assert_array_equal(view.numpy(), [4, 6])
        del view
        again = double(z)
        assert again.address == address
        np.testing.assert_array_equal(again.numpy(), [4, 8, 12])
        held = allocator.held_bytes
        for _ in range(50):
            again = double(again)
        assert allocator.held_bytes <= held + 512  # the new one is made before the old one's name goes


def test_what_is_known_of_a_made_output() -> None:
    with simulated(0) as first, zl.using(first):
        x = first.tensor(np.float32([[1, 5, 3], [9, 2, 4]]), f32)
        for _ in range(3):  # the first call is bound, later ones are straight-line code
            at = best(x)
            assert at.initialised and str(at.facts[0]) == "Index[3]"
            y = take(first.tensor(ints(7, 8, 9), i32), at)
            assert y.initialised and not y.facts
            np.testing.assert_array_equal(y.numpy(), [8, 7])
            at.write(ints(2, 2))
            with pytest.raises(ZelligeError, match="ZL0505"):
                at.write(ints(3, 0))


def test_several_outputs_are_returned_in_order_and_share_nothing() -> None:
    with simulated(0) as first, zl.using(first):
        x = first.tensor(np.float32([1, 2, 3]), f32)
        for scale in (2.0, 4.0, 8.0):
            low, high = halves(x, scale)
            assert (low.dtype, high.dtype) == (f16, f32)
            np.testing.assert_array_equal(low.numpy().astype(np.float32), np.float32([1, 2, 3]) * scale)
            np.testing.assert_array_equal(high.numpy(), np.float32([1, 2, 3]) + scale)


def test_a_call_that_is_refused_keeps_no_memory() -> None:
    with simulated(0) as first, zl.using(first):
        x, at = first.tensor(ints(5, 6, 7), i32), first.tensor(ints(0, 1, 2), i32)
        bad, unwritten = first.tensor(ints(0, 1, 3), i32), first.empty((3,), i32)
        take(x, at)  # a simulated plan keeps the arguments of its first launch
        y = take(x, at)
        address, allocator = y.address, first.device.allocator  # type: ignore[union-attr]
        del y
        held = allocator.held_bytes
        for arguments, code in (((x, bad), "ZL0505"), ((unwritten, at), "ZL0504")):
            for _ in range(3):
                with pytest.raises(ZelligeError) as caught:
                    take(*arguments)
                assert caught.value.code == code
                caught.value.__traceback__ = None  # whose frames name the output
                del caught
        assert allocator.held_bytes <= held + 512
        assert address in [piece.address for piece in allocator.free(12)]


def test_outputs_of_many_threads_are_each_ones_own() -> None:
    wrong: list[object] = []
    with simulated(0) as first, zl.using(first):
        tensors = [first.tensor(np.full(4, i, np.int32), i32) for i in range(4)]
        double(tensors[0])

        def work(i: int) -> None:
            with zl.using(first):
                for _ in range(60):
                    one, two = double(tensors[i]), double(tensors[i])
                    with first.order.lock:  # the simulated GPU is not for several threads
                        got = one.numpy().tolist(), two.numpy().tolist()
                    if got != ([2 * i] * 4,) * 2:
                        wrong.append(got)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_makers_keep_no_stream_alive_once_its_plans_are_gone() -> None:
    import gc

    with simulated(0) as first:
        stream = first.beside()
        stream.empty((3,), i32)
        stream.synchronize()
        gone = weakref.ref(stream)
        del stream
        gc.collect()
        assert gone() is None


def test_what_accumulates_is_cleared_even_if_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch of no programs clears what it accumulates in: it counts as written."""
    monkeypatch.setattr(launch_module, "fill", filled)
    with simulated(0) as first, zl.using(first):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CudaExecutor, "_ready", lambda *_, **__: None)
            for _ in range(2):
                assert total(first.empty((0,), i32)).numpy().tolist() == [0]
        assert total(first.tensor(ints(3, 4), i32)).numpy().tolist() == [7]
