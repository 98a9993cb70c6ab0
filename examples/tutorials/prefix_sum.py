"""Prefix sum: within a row by one program; over a long vector in three launches, block by block."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

M, N, BLOCKS = zl.dims("M N BLOCKS")


@zl.kernel
def prefix_sum_rows(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BLOCK: zl.Static = 64):
    """One program a row; the sum so far is carried from tile to tile."""
    m = zl.grid(M)
    before = zl.zeros((), f32)
    for cols in N.tiles(BLOCK):
        y[m, cols] = before + zl.cumsum(x[m, cols])
        before = before + zl.sum(x[m, cols])


@zl.kernel
def block_sums(x: zl.In[f32, N], *, total: zl.Out[f32, BLOCKS], BLOCK: zl.Static = 64):
    """total[b] is the sum of block b."""
    zl.requires(BLOCKS * BLOCK >= N)
    b = zl.grid(BLOCKS)
    i = b * BLOCK + zl.arange(BLOCK)
    total[b] = zl.sum(x[zl.only(i, i < N)])


@zl.kernel
def add_block_prefixes(x: zl.In[f32, N], before: zl.In[f32, BLOCKS], *, y: zl.Out[f32, N], BLOCK: zl.Static = 64):
    """y = prefix sum within each block, plus the sum of all blocks before it. before is inclusive."""
    zl.requires(BLOCKS * BLOCK >= N)
    i = zl.grid(N.tiles(BLOCK))
    block = zl.max(zl.where(i.active, i, 0)) // BLOCK
    start = zl.zeros((), f32)
    if block > 0:
        start = before[block - 1]
    y[i] = start + zl.cumsum(x[i])


def check() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 64, 65, 1000):
        x = rng.integers(-9, 9, (3, n)).astype(np.float32)
        np.testing.assert_array_equal(prefix_sum_rows(x).numpy(), x.cumsum(1))
        total = zl.empty((-(-n // 64),), f32)
        block_sums(x[0], total=total)
        before = prefix_sum_rows(total.reshape(1, *total.shape))
        np.testing.assert_array_equal(add_block_prefixes(x[0], before.reshape(*total.shape)).numpy(), x[0].cumsum())


if __name__ == "__main__":
    check()
