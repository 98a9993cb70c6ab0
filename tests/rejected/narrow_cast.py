# code: ZL0403
# shows: sizes, program, value
"""A position does not fit 16 bits."""

import zellige as zl

M = zl.dims("M")


@zl.kernel
def positions(*, y: zl.Out[zl.i16, M]):
    i = zl.grid(M)
    y[i] = i.to(zl.i16)
