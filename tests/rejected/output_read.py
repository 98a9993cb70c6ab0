# code: ZL0109
# shows:
"""An Out array is write-only."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def twice(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i]
    y[i] = y[i] * 2.0
