# code: ZL0303
# shows: sizes, element
"""One column is never written."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def copy(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    m, n = zl.grid(M, N - 1)
    y[m, n] = x[m, n]
