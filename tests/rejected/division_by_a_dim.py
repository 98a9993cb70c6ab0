# code: ZL0402
# shows: sizes, divisor
"""P may be 0."""

import zellige as zl
from zellige import f32

N, P = zl.dims("N P")


@zl.kernel
def pages(x: zl.In[f32, N], pool: zl.In[f32, P], *, y: zl.Out[f32, N], BN: zl.Static = 16):
    i = zl.grid(N.tiles(BN))
    page = i // P
    y[i] = x[i] + page.to(f32)
