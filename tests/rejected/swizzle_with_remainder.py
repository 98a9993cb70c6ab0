# code: ZL0301
# shows: sizes, one program, another program, element
# exhibit: 16
"""Grouped order that forgets that the last group is smaller."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def tiles(*, c: zl.Mut[f32, M, N], GROUP: zl.Static = 4):
    zl.requires(N > 0)
    pid = zl.grid(M * N)
    group = pid // (GROUP * N)
    inside = pid % (GROUP * N)
    m = zl.minimum(group * GROUP + inside % GROUP, M - 1)
    n = inside // GROUP
    c[m, n] = 1.0
