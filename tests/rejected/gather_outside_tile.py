# code: ZL0202
# shows: lane, position
"""Zl.gather takes from the tile only."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def rotate(x: zl.In[f32, M, 8], *, y: zl.Out[f32, M, 8]):
    r = zl.grid(M)
    y[r, :] = zl.gather(x[r, :], zl.arange(8) + 1)
