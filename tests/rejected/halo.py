# code: ZL0201
# shows: sizes, program, lane, index
"""A stencil reads one beyond its tile on both sides."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def blur(x: zl.In[f32, M], *, y: zl.Out[f32, M], BM: zl.Static = 32):
    i = zl.grid(M.tiles(BM))
    left = zl.only(i - 1, i > 0)
    y[i] = x[left] + x[i] + x[i + 1]
