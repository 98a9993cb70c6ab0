# code: ZL0303
# shows:
"""An Out array must be written."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def nothing(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    ignored = x[i]
