# code: ZL0303
# shows: sizes, element
"""M // BM tiles leave the rest of M out."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def fill(*, y: zl.Out[f32, M], BM: zl.Static = 8):
    p = zl.grid(M // BM)
    y[p * BM + zl.arange(BM)] = zl.zeros((BM,), f32)
