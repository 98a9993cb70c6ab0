"""Exhibit 10. Under programmatic dependent launch, a read is placed before the wait on the previous kernel.

What happened (NVIDIA/cccl#5297): with PDL a kernel starts while its predecessor still runs, and waits for it by an instruction in its
own text. A load stood above that instruction and read what the predecessor had not yet written.

What Zellige says: there is no such instruction in the language. A recorded graph means: its launches in order. Whether one starts
early is the compiler's choice, and the wait goes before the first access to anything that an earlier launch may still
write; only arrays that nothing in the graph writes are loaded above it. The nearest thing one can write is a wait by
hand, and it is refused (ZL0114): there is nothing to misplace.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal_of, show

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def row_sums(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = zl.sum(x[m, :])


@zl.kernel
def divide(x: zl.In[f32, M, N], total: zl.In[f32, M], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    y[m, :] = x[m, :] / total[m]


def wrong() -> str:
    @zl.kernel
    def divide_then_wait(x: zl.In[f32, M, N], total: zl.In[f32, M], *, y: zl.Out[f32, M, N]):
        m = zl.grid(M)
        divisor = total[m]
        zl.wait_for_previous()
        y[m, :] = x[m, :] / divisor

    return refusal_of(divide_then_wait)


def right() -> None:
    x = zl.tensor(np.random.default_rng(10).random((7, 33), np.float32))
    with zl.record() as graph:
        y = divide(x, row_sums(x))
    for _ in range(3):
        graph.replay()
        np.testing.assert_allclose(y.numpy(), x.numpy() / x.numpy().sum(1, keepdims=True), rtol=1e-5)
        x.write(np.random.default_rng(11).random((7, 33), np.float32))


if __name__ == "__main__":
    show(wrong, right)
