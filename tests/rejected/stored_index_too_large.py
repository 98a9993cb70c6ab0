# code: ZL0404
# shows: sizes, program, value
"""The sum of two indices below V is not below V."""

import zellige as zl

V, B = zl.dims("V B")


@zl.kernel
def shift(token: zl.In[zl.Index[V], B], *, following: zl.Out[zl.Index[V], B]):
    b = zl.grid(B)
    following[b] = token[b] + 1
