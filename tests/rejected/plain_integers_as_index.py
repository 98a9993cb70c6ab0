# code: ZL0201
# shows: sizes, program, index
"""Integers without a contract can be anything."""

import zellige as zl
from zellige import f32, i32

M, N = zl.dims("M N")


@zl.kernel
def pick(x: zl.In[f32, N], rows: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[rows[i]]
