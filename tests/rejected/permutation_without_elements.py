# code: ZL0406
# shows: contract
"""Without an element nothing has to be written, and still it is no permutation of N > 0 numbers."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def none(x: zl.In[f32, N], *, order: zl.Out[zl.Permutation[N], M]):
    zl.requires(M == 0)
    zl.grid(1)
