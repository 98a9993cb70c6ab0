# code: ZL0301
# shows: sizes, one program, another program, element
# exhibit: 9
"""Query tiles are BM apart but BM + 1 rows long."""

import zellige as zl
from zellige import f32

T, D = zl.dims("T D")


@zl.kernel
def attend(q: zl.In[f32, T, D], *, out: zl.Mut[f32, T, D], BM: zl.Static = 16):
    p = zl.grid(zl.ceildiv(T, BM))
    rows = p * BM + zl.arange(BM + 1)
    rows = zl.only(rows, rows < T)
    out[rows, :] = q[rows, :]
