# code: ZL0201
# shows: sizes, program, index
"""Pages hold P rows, but the slot is divided by Q."""

import zellige as zl
from zellige import f32

T, NB, P, Q = zl.dims("T NB P Q")


@zl.kernel
def append(
    k: zl.In[f32, T], slot: zl.In[zl.Index[NB * P, zl.distinct], T], q: zl.In[f32, Q], *, pages: zl.Mut[f32, NB, P]
):
    zl.requires(Q > 0)
    t = zl.grid(T)
    s = slot[t]
    pages[s // Q, s % Q] = k[t]
