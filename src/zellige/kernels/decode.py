"""Fused kernels of a decode step in bf16 or f16: the norm goes into the product that reads it, the residual into the one that ends it.

Each streams its weights once per row of activations, so a step is bound by memory. The residual stream is f32. RUN: see ``runs``.
"""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f16, f32
from zellige.kernels.precision import X, rounded
from zellige.kernels.runs import columns, for_rows, sums

T, D, N, F, B, V, PARTS = zl.dims("T D N F B V PARTS")
Y = zl.dtypes("Y", bf16, f16, f32)


@zl.kernel
def norm_linear(
    h: zl.In[f32, T, D],
    g: zl.In[X, D],
    w: zl.In[X, N, D],
    eps: f32,
    *,
    y: zl.Out[Y, T, N],
    BN: zl.Static = 2,
    BK: zl.Static = 1024,
    RUN: zl.Static = 1,
):
    """y = rms_norm(h, g)·wᵀ. h f32 [T, D]; g [D]; w [N, D]; y [T, N].

    The norm's factor is the same for a whole row, so it is found on the way and multiplied in at the end."""
    cols, t = zl.grid(N.tiles(BN), T)
    acc, squares = zl.zeros((BN, BK // RUN), f32), zl.zeros((BK // RUN,), f32)
    for r in zl.ceildiv(D, RUN).tiles(BK // RUN):
        d = columns(r, RUN, D)
        x = h[t, d]
        squares = squares + sums(x * x, RUN)
        acc = acc + sums(w[cols, d].to(f32) * for_rows(x * g[d].to(f32), RUN), RUN)
    scale = zl.rsqrt(zl.sum(squares) / D + eps)
    y[t, cols] = rounded(zl.sum(acc, axis=1) * scale, y.dtype)


@zl.kernel
def norm_swiglu(
    h: zl.In[f32, T, D],
    g: zl.In[X, D],
    gate: zl.In[X, F, D],
    up: zl.In[X, F, D],
    eps: f32,
    *,
    y: zl.Out[X, T, F],
    BN: zl.Static = 2,
    BK: zl.Static = 1024,
    RUN: zl.Static = 1,
):
    """y = silu(x·gateᵀ) · (x·upᵀ) with x = rms_norm(h, g). h f32 [T, D]; gate, up [F, D]; y [T, F]."""
    cols, t = zl.grid(F.tiles(BN), T)
    a, b, squares = zl.zeros((BN, BK // RUN), f32), zl.zeros((BN, BK // RUN), f32), zl.zeros((BK // RUN,), f32)
    for r in zl.ceildiv(D, RUN).tiles(BK // RUN):
        d = columns(r, RUN, D)
        x = h[t, d]
        squares = squares + sums(x * x, RUN)
        x = for_rows(x * g[d].to(f32), RUN)
        a = a + sums(gate[cols, d].to(f32) * x, RUN)
        b = b + sums(up[cols, d].to(f32) * x, RUN)
    scale = zl.rsqrt(zl.sum(squares) / D + eps)
    gated, linear = zl.sum(a, axis=1) * scale, zl.sum(b, axis=1) * scale
    y[t, cols] = rounded(gated * zl.sigmoid(gated) * linear, y.dtype)


@zl.kernel
def linear_residual(
    x: zl.In[X, T, D],
    w: zl.In[X, N, D],
    *,
    h: zl.Mut[f32, T, N],
    BN: zl.Static = 1,
    BK: zl.Static = 2048,
    RUN: zl.Static = 1,
):
    """h += x·wᵀ. x [T, D]; w [N, D]; h f32 [T, N]."""
    cols, t = zl.grid(N.tiles(BN), T)
    before = h[t, cols]  # here, not at the end: else its latency would come after the products
    acc = zl.zeros((BN, BK // RUN), f32)
    for r in zl.ceildiv(D, RUN).tiles(BK // RUN):
        d = columns(r, RUN, D)
        acc = acc + sums(w[cols, d].to(f32) * for_rows(x[t, d].to(f32), RUN), RUN)
    h[t, cols] = before + zl.sum(acc, axis=1)


@zl.kernel
def argmax_parts(
    logits: zl.In[f32, B, V], *, best: zl.Out[f32, B, PARTS], at: zl.Out[zl.Index[V], B, PARTS], BLOCK: zl.Static = 2048
):
    """The maximum of each block of a row of logits, and where it is. PARTS·BLOCK ≥ V ≥ 1; empty blocks give −inf."""
    zl.requires(V >= 1)
    zl.requires(PARTS * BLOCK >= V)
    b, part = zl.grid(B, PARTS)
    ids = part * BLOCK + zl.arange(BLOCK)
    ids = zl.only(ids, ids < V)
    block = logits[b, ids]
    best[b, part] = zl.max(block, pad=-zl.inf)
    at[b, part] = zl.minimum(part * BLOCK + zl.argmax(block, pad=-zl.inf), V - 1)


@zl.kernel
def argmax_combine(best: zl.In[f32, B, PARTS], at: zl.In[zl.Index[V], B, PARTS], *, token: zl.Out[zl.Index[V], B]):
    """The id of the largest of the blocks' maxima, ties to the first block."""
    zl.requires(PARTS >= 1)
    b = zl.grid(B)
    token[b] = at[b, zl.argmax(best[b, :])]
