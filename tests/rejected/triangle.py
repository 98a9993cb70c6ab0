# code: ZL0303
# shows: sizes, element
"""Elements above the diagonal are never written."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def lower(x: zl.In[f32, M, M], *, y: zl.Out[f32, M, M]):
    m, n = zl.grid(M, M)
    if n <= m:
        y[m, n] = x[m, n]
