"""Products of 8-bit numbers with scales, scheduled for GPUs, and what quantises their operands.

Scales are f32. By rows: one scale a row of x (token) and one a row of w (output feature), applied once to the finished sum. By
blocks (DeepSeek-V3, 2024): one scale for 128 elements of a row of x and one for 128 × 128 of w, applied every 128 products.
"""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f8e4m3, f32, i8, i32

M, N, K = zl.dims("M N K")
BLOCK = 128
"""Elements along each blocked axis that share a scale."""
LARGEST = 448.0
"""The largest finite e4m3 number."""


@zl.kernel
def scaled_linear(
    x: zl.In[f8e4m3, M, K],
    w: zl.In[f8e4m3, N, K],
    x_scale: zl.In[f32, M],
    w_scale: zl.In[f32, N],
    *,
    y: zl.Out[bf16, M, N],
    BM: zl.Static = 128,
    BH: zl.Static = 128,
    BK: zl.Static = 128,
):
    """y[m, n] = x_scale[m] · w_scale[n] · Σ x[m, k] · w[n, k]. x f8e4m3 [M, K]; w f8e4m3 [N, K]; y bf16 [M, N].

    In tiles of BM × 2·BH, each half a product of its own: sums that leave the matrix units need registers for half a tile
    only, so that a tile can be large enough to read little for what it computes."""
    rows, block = zl.grid(M.tiles(BM), zl.ceildiv(N, 2 * BH), order=zl.grouped(8))
    left = block * (2 * BH) + zl.arange(BH)
    right = block * (2 * BH) + BH + zl.arange(BH)
    left, right = zl.only(left, left < N), zl.only(right, right < N)
    a, b = zl.zeros((BM, BH), f32), zl.zeros((BM, BH), f32)
    for depth in K.tiles(BK):
        tile = x[rows, depth]
        a = zl.dot(tile, w[left, depth].T, a)
        b = zl.dot(tile, w[right, depth].T, b)
    scale = x_scale[rows][:, None]
    y[rows, left] = (a * scale * w_scale[left][None, :]).to(bf16)
    y[rows, right] = (b * scale * w_scale[right][None, :]).to(bf16)


@zl.kernel
def scaled_linear_int8(
    x: zl.In[i8, M, K],
    w: zl.In[i8, N, K],
    x_scale: zl.In[f32, M],
    w_scale: zl.In[f32, N],
    *,
    y: zl.Out[bf16, M, N],
    BM: zl.Static = 128,
    BN: zl.Static = 256,
    BK: zl.Static = 128,
):
    """``scaled_linear`` of i8 numbers: sums are exact (i32). x i8 [M, K]; w i8 [N, K]; y bf16 [M, N]."""
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN), order=zl.grouped(8))
    acc = zl.zeros((BM, BN), i32)
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    y[rows, cols] = (acc.to(f32) * x_scale[rows][:, None] * w_scale[cols][None, :]).to(bf16)


@zl.kernel
def block_scaled_linear(
    x: zl.In[f8e4m3, M, K],
    w: zl.In[f8e4m3, N, K],
    x_scale: zl.In[f32, M, zl.ceildiv(K, 128)],
    w_scale: zl.In[f32, zl.ceildiv(N, 128), zl.ceildiv(K, 128)],
    *,
    y: zl.Out[bf16, M, N],
    BM: zl.Static = 128,
):
    """y[m, n] = Σₖ x_scale[m, k / 128] · w_scale[n / 128, k / 128] · x[m, k] · w[n, k]. x f8e4m3 [M, K]; w f8e4m3 [N, K]; y bf16."""
    rows, block = zl.grid(M.tiles(BM), zl.ceildiv(N, 128), order=zl.grouped(8))
    cols = N.tiles(128)[block]
    acc = zl.zeros((BM, 128), f32)
    for k in range(zl.ceildiv(K, 128)):
        depth = K.tiles(128)[k]
        part = zl.dot(x[rows, depth], w[cols, depth].T)
        acc = acc + part * (x_scale[rows, k] * w_scale[block, k])[:, None]
    y[rows, cols] = acc.to(bf16)


@zl.kernel
def quantise_rows(x: zl.In[bf16, M, K], *, q: zl.Out[f8e4m3, M, K], scale: zl.Out[f32, M]):
    """x ≈ scale[m] · q[m]: each row's largest magnitude becomes 448. x bf16 [M, K]; q f8e4m3 [M, K]; scale f32 [M]."""
    m = zl.grid(M)
    row = x[m, :].to(f32)
    factor = zl.maximum(zl.max(zl.abs(row), pad=0.0), 1e-12) / LARGEST
    q[m, :] = (row / factor).to(f8e4m3)
    scale[m] = factor
