# code: ZL0303
# shows: sizes, element
"""Distinct slots need not hit every element."""

import zellige as zl
from zellige import f32

T, N = zl.dims("T N")


@zl.kernel
def put(x: zl.In[f32, T], slot: zl.In[zl.Index[N, zl.distinct], T], *, y: zl.Out[f32, N]):
    t = zl.grid(T)
    y[slot[t]] = x[t]
