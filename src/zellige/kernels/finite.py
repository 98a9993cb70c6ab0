"""Are the numbers of a weight numbers? Reads it once."""

from __future__ import annotations

import zellige as zl
from zellige import bf16, i32, u16

N, PARTS = zl.dims("N PARTS")
EXPONENT = 0x7F80
"""The exponent bits of bf16: all set in infinities and NaN, and nowhere else."""


@zl.kernel
def count_not_finite(
    x: zl.In[bf16, N], *, count: zl.Out[i32, PARTS], DEPTH: zl.Static = 65536, BLOCK: zl.Static = 2048
):
    """How many elements of each stretch of DEPTH are NaN or infinite. x bf16 [N]; count i32 [PARTS]; PARTS·DEPTH ≥ N."""
    zl.requires(PARTS * DEPTH >= N)
    p = zl.grid(PARTS)
    found = zl.zeros((BLOCK,), i32)
    start = p * DEPTH
    for lane in zl.tiles(zl.minimum(zl.maximum(N - start, 0), DEPTH), BLOCK):
        bits = zl.bitcast(x[lane + start], u16)
        found = found + (lane.active & ((bits & EXPONENT) == EXPONENT)).to(i32)
    count[p] = zl.sum(found)
