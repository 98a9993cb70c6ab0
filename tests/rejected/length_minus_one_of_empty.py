# code: ZL0201
# shows: sizes, program, index
"""An empty sequence has no last position."""

import zellige as zl
from zellige import f32

N, B = zl.dims("N B")


@zl.kernel
def last(x: zl.In[f32, B, N], length: zl.In[zl.UpTo[N], B], *, y: zl.Out[f32, B]):
    b = zl.grid(B)
    y[b] = x[b, length[b] - 1]
