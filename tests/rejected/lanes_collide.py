# code: ZL0302
# shows: sizes, program, lanes, element
"""Two lanes of one store go to i // 2."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def halve(x: zl.In[f32, M], *, y: zl.Mut[f32, M], BM: zl.Static = 32):
    i = zl.grid(M.tiles(BM))
    y[i // 2] = x[i]
