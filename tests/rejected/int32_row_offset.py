# code: ZL0401
# shows: sizes, program, value
# exhibit: 2
"""Row * COLUMNS wraps for enough rows; the bound is a dim, not a constant."""

import zellige as zl
from zellige import f32

ROWS = zl.dims("ROWS")


@zl.kernel(index_bits=32)
def copy(x: zl.In[f32, ROWS, 4096], *, y: zl.Out[f32, ROWS, 4096]):
    row = zl.grid(ROWS)
    y[row, :] = x[row, :]
