"""Normalisation."""

from __future__ import annotations

import zellige as zl
from zellige import f32

T, D = zl.dims("T D")


@zl.kernel
def rms_norm(x: zl.In[f32, T, D], w: zl.In[f32, D], eps: f32, *, y: zl.Out[f32, T, D]):
    """y = x / sqrt(mean(x²) + eps) · w, over the last axis (Zhang and Sennrich, 2019). x, y f32 [T, D]; w f32 [D]."""
    t = zl.grid(T)
    row = x[t, :]
    y[t, :] = row * zl.rsqrt(zl.mean(row * row) + eps) * w[:]
