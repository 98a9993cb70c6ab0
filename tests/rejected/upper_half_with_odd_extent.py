# code: ZL0201
# shows: sizes, program, lane, index
"""Halves of ceildiv(D, 2) cover one element too many when D is odd."""

import zellige as zl
from zellige import f32

T, D = zl.dims("T D")


@zl.kernel
def swap(x: zl.In[f32, T, D], *, y: zl.Mut[f32, T, D]):
    t = zl.grid(T)
    half = zl.ceildiv(D, 2)
    i = zl.arange(half)
    y[t, i] = x[t, i + half]
