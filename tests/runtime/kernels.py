"""Small kernels and a gate that tests of ownership share."""

from __future__ import annotations

import threading

import numpy as np

import zellige as zl
from zellige import f32, i32

M, N = zl.dims("M N")


@zl.kernel
def scale_add(x: zl.In[i32, M], a: i32, *, y: zl.Mut[i32, M], B: zl.Static = 16):
    """y ← 3·y + a·x (mod 2³²)."""
    i = zl.grid(M.tiles(B))
    y[i] = y[i] * 3 + x[i] * a


@zl.kernel
def double(x: zl.In[i32, M], *, y: zl.Out[i32, M], B: zl.Static = 16):
    i = zl.grid(M.tiles(B))
    y[i] = x[i] * 2


@zl.kernel
def add_one(*, y: zl.Mut[i32, M], B: zl.Static = 16):
    i = zl.grid(M.tiles(B))
    y[i] = y[i] + 1


@zl.kernel
def take(x: zl.In[i32, M], at: zl.In[zl.Index[M], N], *, y: zl.Out[i32, N]):
    i = zl.grid(N)
    y[i] = x[at[i]]


@zl.kernel
def scatter(x: zl.In[i32, N], at: zl.In[zl.Permutation[N], N], *, y: zl.Out[i32, N]):
    i = zl.grid(N)
    y[at[i]] = x[i]


@zl.kernel
def guarded(x: zl.In[i32, M], at: zl.In[i32, N], *, y: zl.Out[i32, N]):
    i = zl.grid(N)
    y[i] = x[zl.guard(at[i], below=M)]


@zl.kernel
def plus(x: zl.In[i32, M], start: zl.UpTo[N - M], like: zl.In[i32, N], *, y: zl.Out[i32, M]):
    i = zl.grid(M)
    y[i] = x[i] + like[start + i]


@zl.kernel
def best(x: zl.In[f32, N, M], *, at: zl.Out[zl.Index[M], N]):
    zl.requires(M >= 1)
    n = zl.grid(N)
    at[n] = zl.argmax(x[n, :])


@zl.kernel
def total(x: zl.In[i32, M], *, s: zl.Acc(init=0)[i32, 1], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    s.add(0, zl.sum(x[i]))


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def vector(n: int, start: int = 0) -> zl.Tensor:
    return zl.tensor(np.arange(start, start + n, dtype=np.int32))


class Gate:
    """Holds a stream up until ``open``: what the host then sees cannot be luck."""

    def __init__(self, stream: zl.Stream) -> None:
        self._event = threading.Event()
        stream.submit("gate", lambda _: (), self._wait, lambda: None)

    def _wait(self) -> None:
        if not self._event.wait(20):
            raise TimeoutError("the test did not open its gate")

    def open(self) -> None:
        self._event.set()
