# code: ZL0201
# shows: sizes, program, lane, index
"""A load is checked even if nothing uses its value."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def copy(x: zl.In[f32, M], *, y: zl.Out[f32, M], BM: zl.Static = 32):
    i = zl.grid(M.tiles(BM))
    ignored = x[i + 1]
    y[i] = x[i]
