# code: ZL0404
# shows: sizes, program, value
"""A row of extent 0 has no maximum: require V >= 1."""

import zellige as zl
from zellige import f32

B, V = zl.dims("B V")


@zl.kernel
def best(x: zl.In[f32, B, V], *, token: zl.Out[zl.Index[V], B]):
    b = zl.grid(B)
    token[b] = zl.argmax(x[b, :])
