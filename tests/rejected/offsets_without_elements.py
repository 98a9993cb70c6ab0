# code: ZL0406
# shows: contract
"""Without an element, offsets neither begin nor end: nothing has to be written, and still the contract is broken."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def none(x: zl.In[f32, N], *, offsets: zl.Out[zl.Offsets[N], M]):
    zl.requires(M == 0)
    zl.grid(1)
