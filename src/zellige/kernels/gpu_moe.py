"""Grouped products of a mixture of experts in bf16 with f32 sums: rows come in segments, one segment an expert.

Which expert a row goes to is known on the device only; no launch waits for it. ``align`` (routing) gives ``order`` and
``start``; the first product gathers rows of tokens through ``order``, the second writes each pair's row where it belongs.
"""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f32, i32

T, C, PAIRS, E, K, N, F = zl.dims("T C PAIRS E K N F")


@zl.kernel
def grouped_linear(
    x: zl.In[bf16, PAIRS, K],
    w: zl.In[bf16, E, N, K],
    start: zl.In[zl.Offsets[PAIRS], E + 1],
    *,
    y: zl.Out[bf16, PAIRS, N],
    BM: zl.Static = 64,
    BN: zl.Static = 128,
    BK: zl.Static = 64,
):
    """y[p] = x[p]·w[e]ᵀ for the rows p of segment e. x bf16 [PAIRS, K]; w bf16 [E, N, K]; y bf16 [PAIRS, N]."""
    e, rows, cols = zl.grid(start.tiles(BM), N.tiles(BN))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[e, cols, depth].T, acc)
    y[rows, cols] = acc.to(bf16)


@zl.kernel
def expert_swiglu(
    x: zl.In[bf16, T, K],
    gate: zl.In[bf16, E, F, K],
    up: zl.In[bf16, E, F, K],
    order: zl.In[zl.Permutation[T * C], T * C],
    start: zl.In[zl.Offsets[T * C], E + 1],
    *,
    y: zl.Out[bf16, T * C, F],
    BM: zl.Static = 64,
    BN: zl.Static = 64,
    BK: zl.Static = 64,
):
    """y[p] = silu(row·gate[e]ᵀ) · (row·up[e]ᵀ) for the pairs p of expert e, in the order of experts; row is x of the pair's token.

    x bf16 [T, K]; gate, up bf16 [E, F, K]; order: pairs (token · C + choice) sorted by expert; y bf16 [T·C, F]."""
    e, rows, cols = zl.grid(start.tiles(BM), F.tiles(BN))
    token = order[rows] // C
    a, b = zl.zeros((BM, BN), f32), zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        tile = x[token, depth]
        a = zl.dot(tile, gate[e, cols, depth].T, a)
        b = zl.dot(tile, up[e, cols, depth].T, b)
    y[rows, cols] = (a * zl.sigmoid(a) * b).to(bf16)


@zl.kernel
def expert_down(
    x: zl.In[bf16, T * C, K],
    w: zl.In[bf16, E, N, K],
    order: zl.In[zl.Permutation[T * C], T * C],
    start: zl.In[zl.Offsets[T * C], E + 1],
    *,
    y: zl.Out[f32, T * C, N],
    BM: zl.Static = 64,
    BN: zl.Static = 128,
    BK: zl.Static = 64,
):
    """y[order[p]] = x[p]·w[e]ᵀ for the pairs p of expert e: back from the order of experts to that of tokens.

    x bf16 [T·C, K]; w bf16 [E, N, K]; y f32 [T·C, N]."""
    e, rows, cols = zl.grid(start.tiles(BM), N.tiles(BN))
    pair = order[rows]
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[e, cols, depth].T, acc)
    y[pair, cols] = acc


@zl.kernel
def combine_add(y: zl.In[f32, T, C, N], weight: zl.In[f32, T, C], *, h: zl.Mut[f32, T, N], BN: zl.Static = 512):
    """h[t] += Σ weight[t, c] · y[t, c]. y f32 [T, C, N]; weight f32 [T, C]; h f32 [T, N]."""
    t, cols = zl.grid(T, N.tiles(BN))
    acc = h[t, cols]
    for c in range(C):
        acc = acc + weight[t, c] * y[t, c, cols]
    h[t, cols] = acc


@zl.kernel
def align(
    expert: zl.In[zl.Index[E], PAIRS],
    *,
    order: zl.Out[zl.Permutation[PAIRS], PAIRS],
    start: zl.Out[zl.Offsets[PAIRS], E + 1],
    BP: zl.Static = 64,
):
    """Pairs sorted by expert, and where each expert's pairs start among them. Both contracts are proved here."""
    zl.requires(E >= 1)
    zl.grid(1)
    _, order[:] = zl.sort(expert[:])
    count = zl.zeros((E,), i32)
    for pairs in PAIRS.tiles(BP):
        count = count + zl.histogram(expert[pairs], E)
    start[:] = zl.offsets(count, total=PAIRS)
