# code: ZL0301
# shows: sizes, one program, another program, element
"""An in-place shift reads what the next program writes."""

import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def shift(*, x: zl.Mut[f32, M]):
    i = zl.grid(M)
    if i + 1 < M:
        x[i] = x[i + 1]
