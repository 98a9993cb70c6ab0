# code: ZL0201
# shows: sizes, program, lane, index
"""The first element has no left neighbour, and -1 does not count from the end."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def left(x: zl.In[f32, M], *, y: zl.Out[f32, M], BM: zl.Static = 64):
    i = zl.grid(M.tiles(BM))
    y[i] = x[i - 1]
