# code: ZL0201
# shows: sizes, program, index
"""UpTo[N] includes N itself."""

import zellige as zl
from zellige import f32

N, B = zl.dims("N B")


@zl.kernel
def last(x: zl.In[f32, N], length: zl.In[zl.UpTo[N], B], *, y: zl.Out[f32, B]):
    b = zl.grid(B)
    y[b] = x[length[b]]
