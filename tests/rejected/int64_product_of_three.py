# code: ZL0401
# shows: sizes, value
"""The product of three dims need not fit 64 bits."""

import zellige as zl
from zellige import f32

M, N, K = zl.dims("M N K")


@zl.kernel
def odd(x: zl.In[f32, M], z: zl.In[f32, N, K], *, y: zl.Out[f32, 1]):
    p = zl.grid(1)
    big = M * N * K * 1
    i = zl.minimum(zl.arange(1) + big, M - 1)
    y[zl.arange(1)] = zl.where(i >= 0, 1.0, 0.0)
