# code: ZL0301
# shows: sizes, one program, another program, element
# exhibit: 11
"""The transposed coordinates are masked into bounds, so programs meet instead."""

import zellige as zl
from zellige import f32

M, H = zl.dims("M H")


@zl.kernel
def permute(x: zl.In[f32, M, H], *, y: zl.Mut[f32, M, H]):
    m, h = zl.grid(M, H)
    y[zl.minimum(h, M - 1), zl.minimum(m, H - 1)] = x[m, h]
