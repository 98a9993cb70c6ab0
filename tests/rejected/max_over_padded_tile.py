# code: ZL0107
# shows:
# exhibit: 12
"""Inactive lanes would be 0 and win over negative values."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def rows(x: zl.In[f32, M, N], *, y: zl.Out[f32, M], BN: zl.Static = 32):
    m = zl.grid(M)
    best = zl.full((), -zl.inf, f32)
    for n in N.tiles(BN):
        best = zl.maximum(best, zl.max(x[m, n]))
    y[m] = best
