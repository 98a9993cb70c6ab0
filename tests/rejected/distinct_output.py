# code: ZL0406
# shows: sizes, value
"""Two elements of the input may be equal, so two of the output may be, too."""

import zellige as zl

N, T = zl.dims("N T")


@zl.kernel
def slots(x: zl.In[zl.Index[N], T], *, y: zl.Out[zl.Index[N, zl.distinct], T]):
    t = zl.grid(T)
    y[t] = x[t]
