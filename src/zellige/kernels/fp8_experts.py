"""A mixture of experts with fp8 weights, one f32 scale for each output feature of each expert: `moe` and `gpu_moe` with 8 bits to read.

Weights are e4m3 [E, N, K] times scale [E, N, 1]; each becomes f32 or bf16 in registers, which is exact, and the scale multiplies the sum.
"""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f8e4m3, f32, i32
from zellige.kernels.moe import for_rows_of_each, shared
from zellige.kernels.runs import columns, sums

T, D, F, N, E, C, K, PAIRS = zl.dims("T D F N E C K PAIRS")


@zl.kernel
def expert_norm_swiglu_fp8(
    h: zl.In[f32, T, D],
    g: zl.In[bf16, D],
    gate: zl.In[f8e4m3, E, F, D],
    gate_scale: zl.In[f32, E, F, 1],
    up: zl.In[f8e4m3, E, F, D],
    up_scale: zl.In[f32, E, F, 1],
    expert: zl.In[zl.Index[E], T, C],
    eps: f32,
    *,
    y: zl.Out[bf16, T, C, F],
    BN: zl.Static = 4,
    BK: zl.Static = 512,
    RUN: zl.Static = 16,
):
    """``moe.expert_norm_swiglu``. h f32 [T, D]; gate, up f8e4m3 [E, F, D]; y bf16 [T, C, F]."""
    assert RUN > 1
    cols, c, t = zl.grid(F.tiles(BN), C, T)
    e = expert[t, c]
    gate_factor, up_factor = gate_scale[e, cols, 0], up_scale[e, cols, 0]
    a, b, squares = zl.zeros((BN, BK // RUN), f32), zl.zeros((BN, BK // RUN), f32), zl.zeros((BK // RUN, RUN), f32)
    for r in zl.ceildiv(D, RUN).tiles(BK // RUN):
        d = columns(r, RUN, D)
        x = h[t, d]
        squares = squares + x * x
        x = (x * g[d].to(f32))[None, :, :]
        a = a + zl.sum(gate[e, cols, d].to(f32) * x, axis=2)
        b = b + zl.sum(up[e, cols, d].to(f32) * x, axis=2)
    norm = zl.rsqrt(zl.sum(squares) / D + eps)
    gated, linear = zl.sum(a, axis=1) * gate_factor * norm, zl.sum(b, axis=1) * up_factor * norm
    y[t, c, cols] = (gated * zl.sigmoid(gated) * linear).to(bf16)


@zl.kernel
def expert_residual_fp8(
    x: zl.In[bf16, T, C, F],
    down: zl.In[f8e4m3, E, N, F],
    scale: zl.In[f32, E, N, 1],
    expert: zl.In[zl.Index[E], T, C],
    weight: zl.In[f32, T, C],
    *,
    h: zl.Mut[f32, T, N],
    BN: zl.Static = 2,
    BK: zl.Static = 256,
    RUN: zl.Static = 1,
):
    """``moe.expert_residual``. x bf16 [T, C, F]; down f8e4m3 [E, N, F]; h f32 [T, N]."""
    cols, t = zl.grid(N.tiles(BN), T)
    e, share, before = expert[t, :], weight[t, :], h[t, cols]
    factor = scale[e, cols, 0]
    acc = zl.zeros((C, BN, BK // RUN), f32)
    for r in zl.ceildiv(F, RUN).tiles(BK // RUN):
        d = columns(r, RUN, F)
        scaled = shared(x[t, :, d].to(f32), share, RUN)
        acc = acc + sums(down[e, cols, d].to(f32) * for_rows_of_each(scaled, RUN), RUN)
    h[t, cols] = before + zl.sum(zl.sum(acc, axis=2) * factor, axis=0)


@zl.kernel
def expert_swiglu_fp8(
    x: zl.In[bf16, T, K],
    gate: zl.In[f8e4m3, E, F, K],
    gate_scale: zl.In[f32, E, F, 1],
    up: zl.In[f8e4m3, E, F, K],
    up_scale: zl.In[f32, E, F, 1],
    order: zl.In[i32, T * C],
    start: zl.In[zl.Offsets[T * C], E + 1],
    *,
    y: zl.Out[bf16, T * C, F],
    BM: zl.Static = 64,
    BN: zl.Static = 64,
    BK: zl.Static = 64,
):
    """``gpu_moe.expert_swiglu``. x bf16 [T, K]; gate, up f8e4m3 [E, F, K]; y bf16 [T·C, F]."""
    e, rows, cols = zl.grid(start.tiles(BM), F.tiles(BN))
    token = zl.clamp(order[rows], 0, T * C - 1) // C
    a, b = zl.zeros((BM, BN), f32), zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        tile = x[token, depth]
        a = zl.dot(tile, gate[e, cols, depth].to(bf16).T, a)
        b = zl.dot(tile, up[e, cols, depth].to(bf16).T, b)
    a, b = a * gate_scale[e, cols, 0][None, :], b * up_scale[e, cols, 0][None, :]
    y[rows, cols] = (a * zl.sigmoid(a) * b).to(bf16)


@zl.kernel
def expert_down_fp8(
    x: zl.In[bf16, PAIRS, K],
    w: zl.In[f8e4m3, E, N, K],
    scale: zl.In[f32, E, N, 1],
    start: zl.In[zl.Offsets[PAIRS], E + 1],
    *,
    y: zl.Out[f32, PAIRS, N],
    BM: zl.Static = 64,
    BN: zl.Static = 128,
    BK: zl.Static = 64,
):
    """``gpu_moe.expert_down``. x bf16 [PAIRS, K]; w f8e4m3 [E, N, K]; y f32 [PAIRS, N]."""
    e, rows, cols = zl.grid(start.tiles(BM), N.tiles(BN))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[e, cols, depth].to(bf16).T, acc)
    y[rows, cols] = acc * scale[e, cols, 0][None, :]
