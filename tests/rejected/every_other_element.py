# code: ZL0303
# shows: sizes, element
"""Only even elements are written."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def even(x: zl.In[f32, M], *, y: zl.Out[f32, 2 * M]):
    i = zl.grid(M)
    y[2 * i] = x[i]
