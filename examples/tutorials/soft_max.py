"""Fused soft-max: a row is read once, held as one tile, and written once. The online form takes rows of any length in pieces."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def soft_max(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    zl.requires(N >= 1)
    m = zl.grid(M)
    e = zl.exp(x[m, :] - zl.max(x[m, :]))
    y[m, :] = e / zl.sum(e)


@zl.kernel
def soft_max_online(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 64):
    """In tiles of BN, with a running maximum and sum (Milakov and Gimelshein, 2018)."""
    m = zl.grid(M)
    best, total = zl.full((), -zl.inf, f32), zl.zeros((), f32)
    for cols in N.tiles(BN):
        part = x[m, cols]
        top = zl.maximum(best, zl.max(part, pad=-zl.inf))
        total = total * zl.exp(best - top) + zl.sum(zl.exp(part - top))
        best = top
    for cols in N.tiles(BN):
        y[m, cols] = zl.exp(x[m, cols] - best) / total


def check() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 7), (5, 65), (2, 200)):
        x = 5 * rng.standard_normal(shape, np.float32)
        e = np.exp(x - x.max(1, keepdims=True))
        for kernel in (soft_max, soft_max_online):
            np.testing.assert_allclose(kernel(x).numpy(), e / e.sum(1, keepdims=True), rtol=1e-5, atol=1e-7)


if __name__ == "__main__":
    check()
