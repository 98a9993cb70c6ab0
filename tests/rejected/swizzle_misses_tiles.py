# code: ZL0303
# shows: sizes, element
# exhibit: 16
"""Grouped order without the smaller last group misses tiles when masked."""

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def tiles(*, c: zl.Out[f32, M, N], GROUP: zl.Static = 4):
    zl.requires(N > 0)
    pid = zl.grid(M * N)
    group = pid // (GROUP * N)
    inside = pid % (GROUP * N)
    m = group * GROUP + inside % GROUP
    c[zl.only(m, m < M), inside // GROUP] = 1.0
