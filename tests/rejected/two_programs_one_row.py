# code: ZL0301
# shows: sizes, one program, another program, element
"""The grid has an axis that the store does not use."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def rows(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M]):
    m, n = zl.grid(M, N)
    y[m] = x[m, n]
