# code: ZL0301
# shows: sizes, one program, another program, element
"""Distinct slots are not distinct modulo P."""

import zellige as zl
from zellige import f32

T, NB, P = zl.dims("T NB P")


@zl.kernel
def append(k: zl.In[f32, T], slot: zl.In[zl.Index[NB * P, zl.distinct], T], *, ring: zl.Mut[f32, P]):
    t = zl.grid(T)
    ring[slot[t] % P] = k[t]
