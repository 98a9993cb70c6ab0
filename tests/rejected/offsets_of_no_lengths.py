# code: ZL0406
# shows: sizes, elements, total
"""Offsets of no lengths are one element, [T], which does not begin at 0: whoever reads no segment leaves its rows unwritten."""

import zellige as zl
from zellige import f32, i32

S, T = zl.dims("S T")


@zl.kernel
def cut(lengths: zl.In[i32, S], rows: zl.In[f32, T], *, offsets: zl.Out[zl.Offsets[T], S + 1]):
    zl.grid(1)
    offsets[:] = zl.offsets(lengths[:], total=T)
