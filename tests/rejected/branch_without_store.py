# code: ZL0303
# shows: sizes, element
"""Absent rows are never written."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def pick(x: zl.In[f32, N], rows: zl.In[zl.Index[N, zl.optional], M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    r = rows[i]
    if r.present:
        y[i] = x[r]
