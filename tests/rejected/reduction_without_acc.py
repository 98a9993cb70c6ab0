# code: ZL0301
# shows: sizes, one program, another program, element
"""Split-K programs add into one Mut element."""

import zellige as zl
from zellige import f32

K = zl.dims("K")


@zl.kernel
def total(x: zl.In[f32, K], *, y: zl.Mut[f32, 1], BK: zl.Static = 32):
    k = zl.grid(K.tiles(BK))
    y[0] = y[0] + zl.sum(x[k])
