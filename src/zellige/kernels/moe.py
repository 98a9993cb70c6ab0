"""A mixture of experts in bf16 or f16 for few tokens: which experts, and products that stream the weights of each chosen one.

Every (token, choice) pair reads its expert's weights by itself, through an ``Index[E]``: nothing is sorted. ``gpu_moe`` has the form for
more tokens, which share an expert's weights. A token's experts are added up in the order of its choices, in one program: the same
bits every time.
"""

from __future__ import annotations

import zellige as zl
from zellige import f32, i32
from zellige.kernels.precision import X, rounded
from zellige.kernels.runs import columns, for_rows, sums

T, D, F, N, E, C = zl.dims("T D F N E C")


@zl.kernel
def route(
    logits: zl.In[f32, T, E],
    *,
    expert: zl.Out[zl.Index[E], T, C],
    weight: zl.Out[f32, T, C],
    RENORMALISE: zl.Static = True,
):
    """Each token's C likeliest experts, ties to the first, and their probabilities under soft-max, made to sum to 1 where RENORMALISE.

    logits f32 [T, E], C ≤ E; expert Index[E] [T, C]; weight f32 [T, C]."""
    zl.requires((C >= 1) & (C <= E))
    t = zl.grid(T)
    score, lane, choice = logits[t, :], zl.arange(E), zl.arange(C)
    tie = (score[:, None] == score[None, :]) & (lane[:, None] < lane[None, :])
    rank = zl.sum(((score[:, None] > score[None, :]) | tie).to(i32), axis=0)
    at = rank[:, None] == choice[None, :]
    p = zl.exp(score - zl.max(score))
    share = zl.sum(zl.where(at, p[:, None], 0.0), axis=0)
    expert[t, :] = zl.clamp(
        zl.sum(zl.where(at, lane[:, None], 0), axis=0), 0, E - 1
    )  # one lane has each of the first C ranks
    weight[t, :] = share / zl.sum(share if RENORMALISE else p)


@zl.kernel
def expert_norm_swiglu(
    h: zl.In[f32, T, D],
    g: zl.In[X, D],
    gate: zl.In[X, E, F, D],
    up: zl.In[X, E, F, D],
    expert: zl.In[zl.Index[E], T, C],
    eps: f32,
    *,
    y: zl.Out[X, T, C, F],
    BN: zl.Static = 2,
    BK: zl.Static = 1024,
    RUN: zl.Static = 1,
):
    """y[t, c] = silu(x·gate[e]ᵀ) · (x·up[e]ᵀ) with x = rms_norm(h[t], g) and e = expert[t, c].

    h f32 [T, D]; gate, up [E, F, D]; y [T, C, F]. RUN: see ``runs``."""
    cols, c, t = zl.grid(F.tiles(BN), C, T)
    e = expert[t, c]
    a, b, squares = zl.zeros((BN, BK // RUN), f32), zl.zeros((BN, BK // RUN), f32), zl.zeros((BK // RUN,), f32)
    for r in zl.ceildiv(D, RUN).tiles(BK // RUN):
        d = columns(r, RUN, D)
        x = h[t, d]
        squares = squares + sums(x * x, RUN)
        x = for_rows(x * g[d].to(f32), RUN)
        a = a + sums(gate[e, cols, d].to(f32) * x, RUN)
        b = b + sums(up[e, cols, d].to(f32) * x, RUN)
    scale = zl.rsqrt(zl.sum(squares) / D + eps)
    gated, linear = zl.sum(a, axis=1) * scale, zl.sum(b, axis=1) * scale
    y[t, c, cols] = rounded(gated * zl.sigmoid(gated) * linear, y.dtype)


@zl.inline
def shared(x, share, run):
    """x of each choice, [C, BK] or in runs, times its share."""
    return x * share[:, None] if run == 1 else x * share[:, None, None]


@zl.inline
def for_rows_of_each(x, run):
    """x of each choice beside the weights that several rows of its expert have there."""
    return x[:, None, :] if run == 1 else x[:, None, :, :]


@zl.kernel
def expert_residual(
    x: zl.In[X, T, C, F],
    down: zl.In[X, E, N, F],
    expert: zl.In[zl.Index[E], T, C],
    weight: zl.In[f32, T, C],
    *,
    h: zl.Mut[f32, T, N],
    BN: zl.Static = 2,
    BK: zl.Static = 256,
    RUN: zl.Static = 1,
):
    """h[t] += Σ weight[t, c] · x[t, c]·down[expert[t, c]]ᵀ. x [T, C, F]; down [E, N, F]; h f32 [T, N].

    A program reads the rows of all of a token's experts side by side, so that nothing waits for one expert after another."""
    cols, t = zl.grid(N.tiles(BN), T)
    e, share, before = expert[t, :], weight[t, :], h[t, cols]
    acc = zl.zeros((C, BN, BK // RUN), f32)
    for r in zl.ceildiv(F, RUN).tiles(BK // RUN):
        d = columns(r, RUN, F)
        scaled = shared(x[t, :, d].to(f32), share, RUN)
        acc = acc + sums(down[e, cols, d].to(f32) * for_rows_of_each(scaled, RUN), RUN)
    h[t, cols] = before + zl.sum(zl.sum(acc, axis=2), axis=0)
