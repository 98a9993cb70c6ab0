"""The K largest of each row, in order, with their positions: by sorting the row, or by K rounds of argmax where K is small."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

M, N, K = zl.dims("M N K")


@zl.kernel
def top_k(x: zl.In[f32, M, N], *, value: zl.Out[f32, M, K], place: zl.Out[zl.Index[N], M, K]):
    zl.requires(K <= N)
    m = zl.grid(M)
    values, places = zl.sort(x[m, :], descending=True)
    value[m, :] = zl.gather(values, zl.arange(K))
    place[m, :] = zl.gather(places, zl.arange(K))


@zl.kernel
def top_k_by_rounds(x: zl.In[f32, M, N], *, value: zl.Out[f32, M, K], place: zl.Out[zl.Index[N], M, K]):
    zl.requires(K <= N)
    m = zl.grid(M)
    row, left = x[m, :], zl.full((N,), True, zl.bool_)
    for k in range(K):
        best = zl.argmax(zl.where(left, row, -zl.inf))
        value[m, k] = x[m, best]
        place[m, k] = best
        left = left & (zl.arange(N) != best)


def check() -> None:
    rng = np.random.default_rng(0)
    for m, n, k in ((1, 1, 1), (3, 7, 7), (2, 100, 5)):
        x = rng.permutation(m * n).reshape(m, n).astype(np.float32)
        order = np.argsort(-x, axis=1)[:, :k]
        for kernel in (top_k, top_k_by_rounds):
            value, place = zl.empty((m, k), f32), zl.empty((m, k), zl.i32)
            kernel(x, value=value, place=place)
            np.testing.assert_array_equal(place.numpy(), order)
            np.testing.assert_array_equal(value.numpy(), np.take_along_axis(x, order, 1))


if __name__ == "__main__":
    check()
