# code: ZL0301
# shows: sizes, one program, another program, element
"""Add and max do not commute with each other."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def both(x: zl.In[f32, M], *, y: zl.Acc(init=0)[f32, 4]):
    i = zl.grid(M)
    y.add(0, x[i])
    y.max(0, x[i])
