"""Exhibit 13. A split-K product accumulates into memory that nobody cleared.

What happened (a common one): each program adds the partial product of its slice of K to the output with atomics. The output
comes from an allocator, uninitialised; in tests it happens to be zero.

What Zellige says: three ways to write it, three answers. As ``Mut`` with an ordinary addition it is a race (ZL0301): two
slices meet in one element. As ``Acc`` the additions commute, and the proof goes through, but a launch with an output to
which nothing was written is refused (ZL0504): somebody has to clear it. ``zl.Acc(init=0)`` makes the launch do so, and is the
corrected kernel.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal, refusal_of, show

import zellige as zl
from zellige import f32

M, N, K = zl.dims("M N K")


@zl.kernel
def split_k(
    a: zl.In[f32, M, K], b: zl.In[f32, K, N], *, c: zl.Acc(init=0)[f32, M, N], BM: zl.Static = 16, BK: zl.Static = 32
):
    rows, cols, depth = zl.grid(M.tiles(BM), N.tiles(BM), K.tiles(BK))
    c.add((rows, cols), zl.dot(a[rows, depth], b[depth, cols]))


RNG = np.random.default_rng(13)
A, B = RNG.standard_normal((21, 70), np.float32), RNG.standard_normal((70, 18), np.float32)


def wrong() -> str:
    @zl.kernel
    def split_k_uncleared(
        a: zl.In[f32, M, K], b: zl.In[f32, K, N], *, c: zl.Acc[f32, M, N], BM: zl.Static = 16, BK: zl.Static = 32
    ):
        rows, cols, depth = zl.grid(M.tiles(BM), N.tiles(BM), K.tiles(BK))
        c.add((rows, cols), zl.dot(a[rows, depth], b[depth, cols]))

    return refusal(lambda: split_k_uncleared(A, B, c=zl.empty((21, 18), f32)))


def wrong_racing() -> str:
    @zl.kernel
    def split_k_racing(
        a: zl.In[f32, M, K], b: zl.In[f32, K, N], *, c: zl.Mut[f32, M, N], BM: zl.Static = 16, BK: zl.Static = 32
    ):
        rows, cols, depth = zl.grid(M.tiles(BM), N.tiles(BM), K.tiles(BK))
        c[rows, cols] = c[rows, cols] + zl.dot(a[rows, depth], b[depth, cols])

    return refusal_of(split_k_racing)


def right() -> None:
    c = zl.empty((21, 18), f32)
    split_k(A, B, c=c)
    np.testing.assert_allclose(c.numpy(), A @ B, atol=1e-4)


if __name__ == "__main__":
    show(wrong, right)
