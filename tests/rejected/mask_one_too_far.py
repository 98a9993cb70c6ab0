# code: ZL0201
# shows: sizes, program, lane, index
"""The mask uses <= where < is meant."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def fill(*, y: zl.Out[f32, M], BM: zl.Static = 64):
    p = zl.grid(zl.ceildiv(M, BM))
    i = p * BM + zl.arange(BM)
    y[zl.only(i, i <= M)] = zl.zeros((BM,), f32)
