"""Dense products in bf16 with f32 sums, scheduled for GPUs: tiles of a matrix product, streamed matrix × vector."""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f32

M, N, K, PARTS = zl.dims("M N K PARTS")


@zl.kernel
def matmul(
    a: zl.In[bf16, M, K],
    b: zl.In[bf16, K, N],
    *,
    c: zl.Out[bf16, M, N],
    BM: zl.Static = 128,
    BN: zl.Static = 256,
    BK: zl.Static = 64,
):
    """c = a·b. a bf16 [M, K]; b bf16 [K, N]; c bf16 [M, N]."""
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN), order=zl.grouped(8))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(a[rows, depth], b[depth, cols], acc)
    c[rows, cols] = acc.to(bf16)


@zl.kernel
def linear_two_widths(
    x: zl.In[bf16, M, K],
    w: zl.In[bf16, N, K],
    *,
    y: zl.Out[bf16, M, N],
    BM: zl.Static = 128,
    BN: zl.Static = 128,
    BX: zl.Static = 32,
    BK: zl.Static = 64,
):
    """``batch.linear_rows`` in tiles of BN + BX columns: widths between powers of two, where those leave multiprocessors without work."""
    rows, block = zl.grid(M.tiles(BM), zl.ceildiv(N, BN + BX), order=zl.grouped(8))
    wide = block * (BN + BX) + zl.arange(BN)
    more = block * (BN + BX) + BN + zl.arange(BX)
    wide, more = zl.only(wide, wide < N), zl.only(more, more < N)
    a, b = zl.zeros((BM, BN), f32), zl.zeros((BM, BX), f32)
    for depth in K.tiles(BK):
        tile = x[rows, depth]
        a = zl.dot(tile, w[wide, depth].T, a)
        b = zl.dot(tile, w[more, depth].T, b)
    y[rows, wide] = a.to(bf16)
    y[rows, more] = b.to(bf16)


@zl.kernel
def linear_split(
    x: zl.In[bf16, M, K],
    w: zl.In[bf16, N, K],
    *,
    part: zl.Out[f32, PARTS, M, N],
    BM: zl.Static = 128,
    BN: zl.Static = 256,
    BK: zl.Static = 64,
    DEPTH: zl.Static = 1024,
):
    """``batch.linear_rows`` with its inner axis cut into PARTS stretches of DEPTH, whose sums ``batch.sum_parts`` adds: more
    programs, where tiles of the result alone are too few for all multiprocessors. part f32 [PARTS, M, N]; K = PARTS·DEPTH."""
    zl.requires(PARTS * DEPTH == K)
    p, rows, cols = zl.grid(PARTS, M.tiles(BM), N.tiles(BN), order=zl.grouped(8))
    acc = zl.zeros((BM, BN), f32)
    for lane in zl.tiles(DEPTH, BK):
        depth = lane + p * DEPTH
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    part[p, rows, cols] = acc


@zl.kernel
def linear_split_two_widths(
    x: zl.In[bf16, M, K],
    w: zl.In[bf16, N, K],
    *,
    part: zl.Out[f32, PARTS, M, N],
    BM: zl.Static = 128,
    BN: zl.Static = 128,
    BX: zl.Static = 32,
    BK: zl.Static = 64,
    DEPTH: zl.Static = 1024,
):
    """``linear_split`` in tiles of BN + BX columns, as ``linear_two_widths`` has them."""
    zl.requires(PARTS * DEPTH == K)
    p, rows, block = zl.grid(PARTS, M.tiles(BM), zl.ceildiv(N, BN + BX), order=zl.grouped(8))
    wide = block * (BN + BX) + zl.arange(BN)
    more = block * (BN + BX) + BN + zl.arange(BX)
    wide, more = zl.only(wide, wide < N), zl.only(more, more < N)
    a, b = zl.zeros((BM, BN), f32), zl.zeros((BM, BX), f32)
    for lane in zl.tiles(DEPTH, BK):
        depth = lane + p * DEPTH
        tile = x[rows, depth]
        a = zl.dot(tile, w[wide, depth].T, a)
        b = zl.dot(tile, w[more, depth].T, b)
    part[p, rows, wide] = a
    part[p, rows, more] = b


@zl.kernel
def matvec(
    x: zl.In[bf16, K],
    w: zl.In[bf16, N, K],
    *,
    y: zl.Out[bf16, N],
    BN: zl.Static = 2,
    BK: zl.Static = 2048,
):
    """y = w·x, read once at memory speed. x bf16 [K]; w bf16 [N, K]; y bf16 [N]."""
    cols = zl.grid(N.tiles(BN))
    acc = zl.zeros((BN, BK), f32)
    for depth in K.tiles(BK):
        acc = acc + w[cols, depth].to(f32) * x[depth].to(f32)[None, :]
    y[cols] = zl.sum(acc, axis=1).to(bf16)
