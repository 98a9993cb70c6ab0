"""Products with weight matrices, whose rows are output features: y = x·Wᵀ.

Two schedules: ``linear_vector`` streams the weights once per token (decode; bound by memory), ``linear_matrix`` unpacks a panel of
weights once for a tile of tokens and multiplies in bf16 with f32 sums (prefill; bound by arithmetic). What is done to their results
one by one (``add``, ``add_bias``, ``silu_mul``) becomes a part of them in a recorded step (``Graph.fused``).
"""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f32
from zellige.kernels.weights import W

T, N, K = zl.dims("T N K")

TILES = [
    {"BM": 128, "BN": 64}, {"BM": 128, "BN": 32}, {"BM": 64, "BN": 64}, {"BM": 64, "BN": 32}, {"BM": 16, "BN": 64},
    {"BM": 16, "BN": 32}, {"BM": 8, "BN": 64}, {"BM": 8, "BN": 32},
]  # fmt: skip
"""Tiles of ``linear_matrix``: large ones for many tokens, thin ones where a few tokens share the weights.

Which one runs is looked up by size (``runtime/cpu_tuned.py``); `zellige tune` measures them."""


@zl.inline
def silu(x):
    """x · sigmoid(x)."""
    return x * zl.sigmoid(x)


@zl.kernel
def add_bias(bias: zl.In[f32, N], *, y: zl.Mut[f32, T, N]):
    """y += bias. bias f32 [N]; y f32 [T, N]."""
    t = zl.grid(T)
    y[t, :] = y[t, :] + bias[:]


@zl.kernel
def add(x: zl.In[f32, T, N], *, h: zl.Mut[f32, T, N], BN: zl.Static = 64):
    """h += x. x, h f32 [T, N]."""
    t, cols = zl.grid(T, N.tiles(BN))
    h[t, cols] = h[t, cols] + x[t, cols]


@zl.kernel
def silu_mul(gate: zl.In[f32, T, N], up: zl.In[f32, T, N], *, y: zl.Out[f32, T, N], BN: zl.Static = 64):
    """y = silu(gate) · up (Shazeer, 2020). gate, up, y f32 [T, N]."""
    t, cols = zl.grid(T, N.tiles(BN))
    y[t, cols] = silu(gate[t, cols]) * up[t, cols]


@zl.kernel
def linear_vector(x: zl.In[f32, T, K], w: zl.In[W, N, K], *, y: zl.Out[f32, T, N], BN: zl.Static = 32):
    """y = x·wᵀ. x f32 [T, K]; w [N, K]; y f32 [T, N]."""
    t, cols = zl.grid(T, N.tiles(BN))
    y[t, cols] = zl.sum(w[cols, :].to(f32) * x[t, :], axis=1)


@zl.kernel(configs=TILES)
def linear_matrix(
    x: zl.In[f32, T, K], w: zl.In[W, N, K], *, y: zl.Out[f32, T, N], BM: zl.Static = 64, BN: zl.Static = 64
):
    """y = x·wᵀ in bf16 with f32 sums. x f32 [T, K]; w [N, K]; y f32 [T, N]."""
    rows, cols = zl.grid(T.tiles(BM), N.tiles(BN))
    y[rows, cols] = zl.dot(x[rows, :].to(bf16), w[cols, :].to(bf16).T)
