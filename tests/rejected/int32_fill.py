# code: ZL0401
# shows: sizes, program, value
# exhibit: 1
"""Pid * BLOCK + lane wraps in 32 bits."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel(index_bits=32)
def fill(*, y: zl.Out[f32, M * N], BLOCK: zl.Static = 1024):
    i = zl.grid((M * N).tiles(BLOCK))
    y[i] = zl.zeros((BLOCK,), f32)
