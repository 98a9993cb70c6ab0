"""Checks of what came from elsewhere."""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f8e4m3, f32, i32

N = zl.dims("N")
W = zl.dtypes("W", bf16, f8e4m3, f32)


@zl.kernel
def count_not_finite(x: zl.In[W, N], *, found: zl.Out[i32, zl.ceildiv(N, 65536)], BN: zl.Static = 4096):
    """How many of each 65536 elements are NaN or infinite. x [N]; found i32 [⌈N / 65536⌉]."""
    assert 65536 % BN == 0
    part = zl.grid(zl.ceildiv(N, 65536))
    bad = zl.zeros((BN,), i32)
    for k in range(65536 // BN):
        i = part * 65536 + k * BN + zl.arange(BN)
        v = x[zl.only(i, i < N)].to(f32)
        bad = bad + zl.where(i < N, ((v != v) | (zl.abs(v) == zl.inf)).to(i32), 0)
    found[part] = zl.sum(bad)
