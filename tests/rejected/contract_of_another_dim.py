# code: ZL0201
# shows: sizes, program, index
"""The contract bounds the index by K, the axis has N."""

import zellige as zl
from zellige import f32

M, N, K = zl.dims("M N K")


@zl.kernel
def pick(x: zl.In[f32, N], rows: zl.In[zl.Index[K], M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[rows[i]]
