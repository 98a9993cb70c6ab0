"""Row and element operations in bf16 with f32 arithmetic, scheduled for GPUs."""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f32

T, D, N = zl.dims("T D N")


@zl.kernel
def copy(x: zl.In[bf16, N], *, y: zl.Out[bf16, N], BN: zl.Static = 4096):
    """y = x. bf16 [N]."""
    i = zl.grid(N.tiles(BN))
    y[i] = x[i]


@zl.kernel
def rms_norm(x: zl.In[bf16, T, D], w: zl.In[bf16, D], eps: f32, *, y: zl.Out[bf16, T, D]):
    """y = x / sqrt(mean(x²) + eps) · w over the last axis (Zhang and Sennrich, 2019). x, y bf16 [T, D]; w bf16 [D]."""
    t = zl.grid(T)
    row = x[t, :].to(f32)
    y[t, :] = (row * zl.rsqrt(zl.mean(row * row) + eps) * w[:].to(f32)).to(bf16)


@zl.kernel
def add_rms_norm(x: zl.In[bf16, T, D], w: zl.In[bf16, D], eps: f32, *, h: zl.Mut[bf16, T, D], y: zl.Out[bf16, T, D]):
    """h += x; y = h / sqrt(mean(h²) + eps) · w. x, h, y bf16 [T, D]; w bf16 [D]."""
    t = zl.grid(T)
    row = h[t, :].to(f32) + x[t, :].to(f32)
    h[t, :] = row.to(bf16)
    y[t, :] = (row * zl.rsqrt(zl.mean(row * row) + eps) * w[:].to(f32)).to(bf16)


@zl.kernel
def swiglu(gate: zl.In[bf16, N], up: zl.In[bf16, N], *, y: zl.Out[bf16, N], BN: zl.Static = 2048):
    """y = silu(gate) · up (Shazeer, 2020). bf16 [N]."""
    i = zl.grid(N.tiles(BN))
    a = gate[i].to(f32)
    y[i] = (a * zl.sigmoid(a) * up[i].to(f32)).to(bf16)


@zl.kernel
def softmax(x: zl.In[bf16, T, D], *, y: zl.Out[bf16, T, D]):
    """y = softmax(x) over the last axis. bf16 [T, D]."""
    t = zl.grid(T)
    row = x[t, :].to(f32)
    weight = zl.exp(row - zl.max(row))
    y[t, :] = (weight / zl.sum(weight)).to(bf16)
