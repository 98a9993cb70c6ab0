# code: ZL0303
# shows:
"""A while that stores to one element after the other may end before the last."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def while_positive(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    j = 0
    while zl.bounded(j < N and x[m, j] > 0.0, limit=N):
        y[m, j] = x[m, j]
        j = j + 1
