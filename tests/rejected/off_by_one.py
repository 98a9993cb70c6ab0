# code: ZL0201
# shows: sizes, program, lane, index
"""A shift by one reads past the last element."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def shift(x: zl.In[f32, M], *, y: zl.Out[f32, M], BM: zl.Static = 64):
    i = zl.grid(M.tiles(BM))
    y[i] = x[i + 1]
