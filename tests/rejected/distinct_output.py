# code: ZL0406
# shows: contract
"""That all stores together keep a contract is not proved."""

import zellige as zl

N, T = zl.dims("N T")


@zl.kernel
def slots(x: zl.In[zl.Index[N, zl.distinct], T], *, y: zl.Out[zl.Index[N, zl.distinct], T]):
    t = zl.grid(T)
    y[t] = x[t]
