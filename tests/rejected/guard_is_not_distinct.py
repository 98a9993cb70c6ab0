# code: ZL0301
# shows: sizes, one program, another program, element
"""A guard bounds an index, it does not make it unique."""

import zellige as zl
from zellige import f32, i32

T, N = zl.dims("T N")


@zl.kernel
def put(x: zl.In[f32, T], slot: zl.In[i32, T], *, y: zl.Mut[f32, N]):
    t = zl.grid(T)
    y[zl.guard(slot[t], below=N)] = x[t]
