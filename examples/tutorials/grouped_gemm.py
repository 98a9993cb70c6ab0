"""Grouped GEMM: rows come in segments, each multiplied by its own matrix. ``Offsets`` says where the segments start."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

T, E, K, N = zl.dims("T E K N")


@zl.kernel
def grouped_gemm(
    x: zl.In[f32, T, K], w: zl.In[f32, E, K, N], start: zl.In[zl.Offsets[T], E + 1],
    *, y: zl.Out[f32, T, N], B: zl.Static = 16, BK: zl.Static = 16,
):  # fmt: skip
    """y[t] = x[t]·w[e] for rows start[e] ≤ t < start[e + 1]: one program a tile of one segment."""
    e, rows, cols = zl.grid(start.tiles(B), N.tiles(B))
    acc = zl.zeros((B, B), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[e, depth, cols], acc)
    y[rows, cols] = acc


def check() -> None:
    rng = np.random.default_rng(0)
    for counts in ([1], [0, 17, 3, 0, 30]):
        start = np.cumsum([0, *counts]).astype(np.int32)
        x, w = rng.standard_normal((start[-1], 20), np.float32), rng.standard_normal((len(counts), 20, 9), np.float32)
        expert = np.repeat(np.arange(len(counts)), counts)
        np.testing.assert_allclose(grouped_gemm(x, w, start).numpy(), np.einsum("tk,tkn->tn", x, w[expert]), atol=1e-4)


if __name__ == "__main__":
    check()
