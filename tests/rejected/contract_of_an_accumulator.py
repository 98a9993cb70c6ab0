# code: ZL0405
# shows:
"""What an update leaves depends on other programs' updates, so it keeps no contract."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def count(x: zl.In[f32, M], *, y: zl.Acc[zl.Index[N], M]):
    t = zl.grid(M)
    y.add(t, 1)
