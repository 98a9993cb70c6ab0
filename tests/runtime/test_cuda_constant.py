"""Which inputs of a recorded launch may be read before the wait for the launches in flight."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from zellige import f32
from zellige.runtime.cuda.array import DeviceArray
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.prepared import constant_inputs, written_before
from zellige.runtime.cuda.sequence import SequenceExecutor
from zellige.runtime.tensor import Tensor

M = zl.dims("M")


@zl.kernel
def add(x: zl.In[f32, M], w: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i] + w[i]


def at(address: int) -> Tensor:
    """Four floats of device memory that starts at ``address``."""
    executor = CudaExecutor(None, "sm_90")
    return Tensor(DeviceArray(executor, None, address, (4,), np.dtype(np.float32)), f32, (4,))


@pytest.mark.parametrize(
    ("written", "constant"),
    [
        ((), {"x", "w"}),
        (((1000, 1016),), {"w"}),
        (((1012, 1020),), {"w"}),  # the last element of x, from inside
        (((990, 1001),), {"w"}),
        (((900, 1000), (1016, 2000)), {"x"}),  # both sides of x and not x itself; all of w
    ],
)
def test_an_input_that_overlaps_what_is_written_is_not_constant(written, constant):
    tensors = {"x": at(1000), "w": at(1500), "y": at(5000)}
    assert constant_inputs(add.lower({}, {}), tensors, written) == constant


class Recorder(SequenceExecutor):
    """Records launches; compiles nothing."""

    def finish(self, recording):
        pass


def test_what_an_earlier_launch_writes_is_not_constant_and_what_a_later_one_writes_is():
    executor = CudaExecutor(None, "sm_90")
    x, w, held, y = (executor.tensor(np.ones(4, np.float32), f32) for _ in range(4))
    with zl.using(Recorder(executor)), zl.record() as graph:
        add(x, w, y=y)
        add(y, held, y=x)  # reads y, which was written; held is written by the next one only
        add(w, x, y=held)
        add(held, w, y=y)
    launches = graph._recording.launches
    found = [
        constant_inputs(launch.instance.function, launch.binding.tensors, ranges)
        for launch, ranges in zip(launches, written_before(launches), strict=True)
    ]
    assert found == [{"x", "w"}, {"w"}, {"x"}, {"w"}]
