# code: ZL0201
# shows: sizes, program, index
# exhibit: 11
"""The output partitions are swapped: (m, h) is stored at (h, m)."""

import zellige as zl
from zellige import f32

M, H, D = zl.dims("M H D")


@zl.kernel
def permute(x: zl.In[f32, M, H, D], *, y: zl.Out[f32, M, H, D]):
    m, h = zl.grid(M, H)
    y[h, m, :] = x[m, h, :]
