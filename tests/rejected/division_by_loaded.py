# code: ZL0402
# shows: sizes, program, divisor
"""A loaded length may be 0."""

import zellige as zl
from zellige import f32

N, B = zl.dims("N B")


@zl.kernel
def mean(x: zl.In[f32, B], length: zl.In[zl.UpTo[N], B], *, y: zl.Out[f32, B]):
    b = zl.grid(B)
    y[b] = x[b] + (100 // length[b]).to(f32)
