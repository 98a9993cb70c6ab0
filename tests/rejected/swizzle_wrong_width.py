# code: ZL0301
# shows: sizes, one program, another program, element
"""The group width is taken from the wrong dim."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def tiles(*, c: zl.Mut[f32, M, N]):
    zl.requires((M > 0) & (N > 0))
    pid = zl.grid(M * N)
    c[pid % M, pid % N] = 1.0
