"""Products with weight matrices, whose rows are output features: y = x·Wᵀ.

Two schedules of each: ``*_vector`` streams the weights once per token (decode; bound by memory), ``*_matrix`` unpacks a
panel of weights once for a tile of tokens and multiplies in bf16 with f32 sums (prefill; bound by arithmetic).
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
"""Tiles of the ``*_matrix`` schedules: large ones for many tokens, thin ones where a few tokens share the weights.

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
def linear_vector(x: zl.In[f32, T, K], w: zl.In[W, N, K], *, y: zl.Out[f32, T, N], BN: zl.Static = 32):
    """y = x·wᵀ. x f32 [T, K]; w [N, K]; y f32 [T, N]."""
    t, cols = zl.grid(T, N.tiles(BN))
    y[t, cols] = zl.sum(w[cols, :].to(f32) * x[t, :], axis=1)


@zl.kernel
def linear_vector_add(x: zl.In[f32, T, K], w: zl.In[W, N, K], *, h: zl.Mut[f32, T, N], BN: zl.Static = 32):
    """h += x·wᵀ. x f32 [T, K]; w [N, K]; h f32 [T, N]."""
    t, cols = zl.grid(T, N.tiles(BN))
    h[t, cols] = h[t, cols] + zl.sum(w[cols, :].to(f32) * x[t, :], axis=1)


@zl.kernel
def swiglu_vector(
    x: zl.In[f32, T, K], gate: zl.In[W, N, K], up: zl.In[W, N, K], *, y: zl.Out[f32, T, N], BN: zl.Static = 32
):
    """y = silu(x·gateᵀ) · (x·upᵀ) (Shazeer, 2020). x f32 [T, K]; gate, up [N, K]; y f32 [T, N]."""
    t, cols = zl.grid(T, N.tiles(BN))
    row = x[t, :]
    a = zl.sum(gate[cols, :].to(f32) * row, axis=1)
    b = zl.sum(up[cols, :].to(f32) * row, axis=1)
    y[t, cols] = silu(a) * b


@zl.kernel(configs=TILES)
def linear_matrix(
    x: zl.In[f32, T, K], w: zl.In[W, N, K], *, y: zl.Out[f32, T, N], BM: zl.Static = 64, BN: zl.Static = 64
):
    """y = x·wᵀ in bf16 with f32 sums. x f32 [T, K]; w [N, K]; y f32 [T, N]."""
    rows, cols = zl.grid(T.tiles(BM), N.tiles(BN))
    y[rows, cols] = zl.dot(x[rows, :].to(bf16), w[cols, :].to(bf16).T)


@zl.kernel(configs=TILES)
def linear_matrix_add(
    x: zl.In[f32, T, K], w: zl.In[W, N, K], *, h: zl.Mut[f32, T, N], BM: zl.Static = 64, BN: zl.Static = 64
):
    """h += x·wᵀ in bf16 with f32 sums. x f32 [T, K]; w [N, K]; h f32 [T, N]."""
    rows, cols = zl.grid(T.tiles(BM), N.tiles(BN))
    h[rows, cols] = zl.dot(x[rows, :].to(bf16), w[cols, :].to(bf16).T, h[rows, cols])


@zl.kernel(configs=TILES)
def swiglu_matrix(
    x: zl.In[f32, T, K],
    gate: zl.In[W, N, K],
    up: zl.In[W, N, K],
    *,
    y: zl.Out[f32, T, N],
    BM: zl.Static = 64,
    BN: zl.Static = 32,
):
    """y = silu(x·gateᵀ) · (x·upᵀ) in bf16 with f32 sums. x f32 [T, K]; gate, up [N, K]; y f32 [T, N]."""
    rows, cols = zl.grid(T.tiles(BM), N.tiles(BN))
    tile = x[rows, :].to(bf16)
    a = zl.dot(tile, gate[cols, :].to(bf16).T)
    b = zl.dot(tile, up[cols, :].to(bf16).T)
    y[rows, cols] = silu(a) * b
