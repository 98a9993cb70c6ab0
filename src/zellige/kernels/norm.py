"""Normalisation."""

from __future__ import annotations

import zellige as zl
from zellige import f32

T, D, H = zl.dims("T D H")


@zl.kernel
def rms_norm(x: zl.In[f32, T, D], w: zl.In[f32, D], eps: f32, *, y: zl.Out[f32, T, D]):
    """y = x / sqrt(mean(x²) + eps) · w, over the last axis (Zhang and Sennrich, 2019). x, y f32 [T, D]; w f32 [D]."""
    t = zl.grid(T)
    row = x[t, :]
    y[t, :] = row * zl.rsqrt(zl.mean(row * row) + eps) * w[:]


@zl.kernel
def head_norm(w: zl.In[f32, D], eps: f32, *, x: zl.Mut[f32, T, H, D]):
    """RMSNorm of each head, in place (the query and key norm of Qwen3). w f32 [D]; x f32 [T, H, D]."""
    t, h = zl.grid(T, H)
    row = x[t, h, :]
    x[t, h, :] = row * zl.rsqrt(zl.mean(row * row) + eps) * w[:]
