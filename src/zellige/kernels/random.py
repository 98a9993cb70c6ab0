"""Random contents, for measuring a model without its weights."""

from __future__ import annotations

import zellige as zl
from zellige import bf16, u64

N = zl.dims("N")


@zl.kernel
def fill_uniform(seed: u64, scale: zl.f32, *, y: zl.Out[bf16, N], BN: zl.Static = 1024):
    """y uniform in (−scale, scale), from Philox words of (seed, position). y bf16 [N]."""
    i = zl.grid(N.tiles(BN))
    y[i] = ((zl.random_uniform(seed, i.to(u64)) * 2.0 - 1.0) * scale).to(bf16)
