# code: ZL0201
# shows: sizes, program, lane, index
"""Hand-made tiles have no inactive lanes: the last one runs over."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def fill(*, y: zl.Out[f32, M], BM: zl.Static = 64):
    p = zl.grid(zl.ceildiv(M, BM))
    y[p * BM + zl.arange(BM)] = zl.zeros((BM,), f32)
