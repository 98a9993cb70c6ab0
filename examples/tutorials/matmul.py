"""Matrix multiplication in four schedules: grouped order, persistent, split-K, stream-K."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

M, N, K = zl.dims("M N K")
W = zl.dtypes("W", zl.f32, zl.f16, zl.bf16)


@zl.kernel
def matmul(
    a: zl.In[W, M, K],
    b: zl.In[W, K, N],
    *,
    c: zl.Out[f32, M, N],
    BM: zl.Static = 32,
    BN: zl.Static = 32,
    BK: zl.Static = 32,
):
    """One program a tile of c. Rows of tiles run in groups of 8, so that they share columns of b in cache."""
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN), order=zl.grouped(8))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(a[rows, depth], b[depth, cols], acc)
    c[rows, cols] = acc


@zl.kernel
def matmul_persistent(
    a: zl.In[W, M, K], b: zl.In[W, K, N], *, c: zl.Out[f32, M, N], B: zl.Static = 32, WORKERS: zl.Static = 3
):
    """A fixed number of programs; each takes every WORKERS-th tile."""
    worker, across = zl.grid(WORKERS), zl.ceildiv(N, B)
    for t in range(worker, zl.ceildiv(M, B) * across, WORKERS):
        rows, cols = M.tiles(B)[t // across], N.tiles(B)[t % across]
        acc = zl.zeros((B, B), f32)
        for depth in K.tiles(B):
            acc = zl.dot(a[rows, depth], b[depth, cols], acc)
        c[rows, cols] = acc


@zl.kernel
def matmul_split_k(
    a: zl.In[W, M, K], b: zl.In[W, K, N], *, c: zl.Acc(init=0)[f32, M, N], B: zl.Static = 32, BK: zl.Static = 64
):
    """One program a tile of c and slice of K; the slices add up in c."""
    rows, cols, depth = zl.grid(M.tiles(B), N.tiles(B), K.tiles(BK))
    c.add((rows, cols), zl.dot(a[rows, depth], b[depth, cols]))


@zl.kernel
def matmul_stream_k(
    a: zl.In[W, M, K], b: zl.In[W, K, N], *, c: zl.Acc(init=0)[f32, M, N], B: zl.Static = 32, WORKERS: zl.Static = 3
):
    """Every program does an equal share of all steps of all tiles, whatever the shape (Osama et al., 2023)."""
    zl.requires((M <= 2**24) & (N <= 2**24) & (K <= 2**24))  # or the number of steps could leave 64 bits
    worker = zl.grid(WORKERS)
    across, deep = zl.ceildiv(N, B), zl.ceildiv(K, B)
    steps = zl.ceildiv(M, B) * across * deep
    share = zl.ceildiv(steps, WORKERS)
    for step in range(worker * share, zl.minimum(worker * share + share, steps)):
        rows, cols = M.tiles(B)[step // deep // across], N.tiles(B)[step // deep % across]
        depth = K.tiles(B)[step % deep]
        c.add((rows, cols), zl.dot(a[rows, depth], b[depth, cols]))


def check() -> None:
    rng = np.random.default_rng(0)
    for m, n, k in ((1, 1, 1), (33, 70, 65), (64, 32, 0)):
        a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
        for kernel in (matmul, matmul_persistent, matmul_split_k, matmul_stream_k):
            c = zl.empty((m, n), f32)
            kernel(a, b, c=c)
            np.testing.assert_allclose(c.numpy(), a @ b, atol=1e-4)


if __name__ == "__main__":
    check()
