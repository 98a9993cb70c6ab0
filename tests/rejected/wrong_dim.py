# code: ZL0201
# shows: sizes, program, index
"""An index of M is used on an axis of extent N."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def copy(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i]
