"""Random contents, for measuring a model without its weights."""

from __future__ import annotations

import zellige as zl
from zellige import u64
from zellige.kernels.precision import X

N = zl.dims("N")


@zl.kernel
def fill_uniform(seed: u64, scale: zl.f32, *, y: zl.Out[X, N], BN: zl.Static = 1024):
    """y uniform in (−scale, scale), from Philox words of (seed, position). y [N]."""
    i = zl.grid(N.tiles(BN))
    y[i] = ((zl.random_uniform(seed, i.to(u64)) * 2.0 - 1.0) * scale).to(y.dtype)
