# code: ZL0201
# shows: sizes, program, index
"""The loop has a limit, but nothing keeps the position inside."""

import zellige as zl
from zellige import f32

M, B = zl.dims("M B")


@zl.kernel
def scan(x: zl.In[f32, M], *, y: zl.Out[f32, B]):
    b = zl.grid(B)
    i = 0
    total = zl.zeros((), f32)
    while zl.bounded(total < 1.0, 100):
        total = total + x[i]
        i = i + 1
    y[b] = total
