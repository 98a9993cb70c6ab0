# code: ZL0401
# shows: sizes, program, value
# exhibit: 2
"""The flattened index is computed in 32 bits."""

import zellige as zl
from zellige import f32

ROWS, COLUMNS = zl.dims("ROWS COLUMNS")


@zl.kernel(index_bits=32)
def copy(x: zl.In[f32, ROWS * COLUMNS], *, y: zl.Out[f32, ROWS, COLUMNS]):
    r, c = zl.grid(ROWS, COLUMNS)
    y[r, c] = x[r * COLUMNS + c]
