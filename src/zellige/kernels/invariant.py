"""Products whose sums have one order whatever the number of tokens: for runs in which a request's neighbours must not show."""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f32

T, N, K = zl.dims("T N K")


@zl.kernel
def linear_stretches_add(
    x: zl.In[bf16, T, K],
    w: zl.In[bf16, N, K],
    *,
    h: zl.Mut[f32, T, N],
    BM: zl.Static = 64,
    BN: zl.Static = 64,
    BK: zl.Static = 128,
    DEPTH: zl.Static = 1024,
):
    """h += x·wᵀ, summed as ``linear_parts`` and ``sum_parts_norm`` do: stretches of DEPTH of the inner axis one after the other.

    x bf16 [T, K]; w bf16 [N, K]; h f32 [T, N]."""
    cols, rows = zl.grid(N.tiles(BN), T.tiles(BM))
    total = h[rows, cols]
    for p in range(zl.ceildiv(K, DEPTH)):
        acc = zl.zeros((BN, BM), f32)
        start = p * DEPTH
        for lane in zl.tiles(zl.minimum(K - start, DEPTH), BK):
            depth = lane + start
            acc = zl.dot(w[cols, depth], x[rows, depth].T, acc)
        total = total + acc.T
    h[rows, cols] = total
