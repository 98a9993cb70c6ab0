"""Transposition, tile by tile: each program reads a tile and writes it turned."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def transpose(x: zl.In[f32, M, N], *, y: zl.Out[f32, N, M], B: zl.Static = 16):
    rows, cols = zl.grid(M.tiles(B), N.tiles(B))
    y[cols, rows] = x[rows, cols].T


def check() -> None:
    for shape in ((1, 1), (16, 16), (17, 5), (3, 50)):
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        np.testing.assert_array_equal(transpose(x).numpy(), x.T)


if __name__ == "__main__":
    check()
