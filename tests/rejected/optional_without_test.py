# code: ZL0201
# shows: sizes, program, index
"""An absent entry is -1."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def pick(x: zl.In[f32, N], rows: zl.In[zl.Index[N, zl.optional], M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[rows[i]]
