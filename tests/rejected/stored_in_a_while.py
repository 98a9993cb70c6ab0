# code: ZL0303
# shows:
"""A store in a while may never be reached, so that it covers nothing: here the value is the same element's, in every iteration."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def last_positive(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    value = 0.0
    j = 0
    while zl.bounded(j < N and x[m, j] > 0.0, limit=N):
        y[m] = x[m, j]
        j = j + 1
