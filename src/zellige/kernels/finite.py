"""Are the numbers of a weight numbers? Reads it once."""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f8e4m3, f16, f32, i32

N, PARTS = zl.dims("N PARTS")
W = zl.dtypes("W", bf16, f16, f8e4m3, f32)


@zl.kernel
def count_not_finite(x: zl.In[W, N], *, count: zl.Out[i32, PARTS], DEPTH: zl.Static = 65536, BLOCK: zl.Static = 2048):
    """How many elements of each stretch of DEPTH are NaN or infinite. x [N]; count i32 [PARTS]; PARTS·DEPTH ≥ N."""
    zl.requires(PARTS * DEPTH >= N)
    p = zl.grid(PARTS)
    found = zl.zeros((BLOCK,), i32)
    start = p * DEPTH
    for lane in zl.tiles(zl.minimum(zl.maximum(N - start, 0), DEPTH), BLOCK):
        v = x[lane + start].to(f32)
        found = found + (lane.active & ((v != v) | (zl.abs(v) == zl.inf))).to(i32)
    count[p] = zl.sum(found)
