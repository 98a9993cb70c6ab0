# code: ZL0302
# shows: lanes, element
"""All lanes store to one element."""

import zellige as zl
from zellige import f32

B = zl.dims("B")


@zl.kernel
def put(x: zl.In[f32, B, 8], *, y: zl.Out[f32, B]):
    b = zl.grid(B)
    y[b + 0 * zl.arange(8)] = x[b, :]
