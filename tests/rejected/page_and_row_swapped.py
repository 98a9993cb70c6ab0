# code: ZL0201
# shows: sizes, program, index
"""Page and row of a slot are exchanged."""

import zellige as zl
from zellige import f32

T, NB, P = zl.dims("T NB P")


@zl.kernel
def append(k: zl.In[f32, T], slot: zl.In[zl.Index[NB * P, zl.distinct], T], *, pages: zl.Mut[f32, NB, P]):
    t = zl.grid(T)
    s = slot[t]
    pages[s % P, s // P] = k[t]
