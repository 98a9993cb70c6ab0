# code: ZL0301
# shows: sizes, one program, another program, element
"""Tiles of BM lanes start every BM/2 elements."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def fill(*, y: zl.Out[f32, M], BM: zl.Static = 64):
    p = zl.grid(zl.ceildiv(M, BM // 2))
    i = p * (BM // 2) + zl.arange(BM)
    y[zl.only(i, i < M)] = zl.zeros((BM,), f32)
