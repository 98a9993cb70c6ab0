# code: ZL0301
# shows: sizes, one program, another program, element
# exhibit: 15
"""Nothing says that slots differ."""

import zellige as zl
from zellige import f32

T, N, D = zl.dims("T N D")


@zl.kernel
def append(k: zl.In[f32, T, D], slot: zl.In[zl.Index[N], T], *, cache: zl.Mut[f32, N, D]):
    t = zl.grid(T)
    cache[slot[t], :] = k[t, :]
