# code: ZL0302
# shows: sizes, lanes, element
"""A tile of slots may repeat one."""

import zellige as zl
from zellige import f32

B, N = zl.dims("B N")


@zl.kernel
def put(x: zl.In[f32, B, 16], slot: zl.In[zl.Index[N], B, 16], *, y: zl.Mut[f32, B, N]):
    b = zl.grid(B)
    y[b, slot[b, :]] = x[b, :]
