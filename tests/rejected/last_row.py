# code: ZL0201
# shows: sizes, program, index
"""The last row as NumPy counts it."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def last_row(x: zl.In[f32, M, N], *, y: zl.Out[f32, N]):
    zl.requires(M > 0)
    j = zl.grid(N)
    y[j] = x[-1, j]
