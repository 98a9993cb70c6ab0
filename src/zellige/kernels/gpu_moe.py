"""Grouped products of a mixture of experts in bf16 or f16 with f32 sums: rows come in segments, one segment an expert.

Which expert a row goes to is known on the device only; no launch waits for it. Pairs of a token and a choice are sorted by expert
in three launches (a counting sort): ``start`` says where each expert's begin, ``order`` which pair is at a place, ``place`` where a
pair is. The first product gathers rows of tokens through ``order``; ``combine_norm`` gathers each pair's result through ``place``.
"""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f32, i32
from zellige.kernels.precision import X, rounded

T, C, PAIRS, BLOCKS, E, K, N, F = zl.dims("T C PAIRS BLOCKS E K N F")
BLOCK = 512
"""Pairs that one program counts and places."""


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
    x: zl.In[X, T, K],
    gate: zl.In[X, E, F, K],
    up: zl.In[X, E, F, K],
    order: zl.In[i32, T * C],
    start: zl.In[zl.Offsets[T * C], E + 1],
    *,
    y: zl.Out[X, T * C, F],
    BM: zl.Static = 64,
    BN: zl.Static = 64,
    BK: zl.Static = 64,
):
    """y[p] = silu(row·gate[e]ᵀ) · (row·up[e]ᵀ) for the pairs p of expert e, in the order of experts; row is x of the pair's token.

    x [T, K]; gate, up [E, F, K]; order i32: pairs (token · C + choice) sorted by expert; y [T·C, F]."""
    e, rows, cols = zl.grid(start.tiles(BM), F.tiles(BN))
    token = zl.clamp(order[rows], 0, T * C - 1) // C
    a, b = zl.zeros((BM, BN), f32), zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        tile = x[token, depth]
        a = zl.dot(tile, gate[e, cols, depth].T, a)
        b = zl.dot(tile, up[e, cols, depth].T, b)
    y[rows, cols] = rounded(a * zl.sigmoid(a) * b, y.dtype)


@zl.kernel
def expert_down(
    x: zl.In[X, PAIRS, K],
    w: zl.In[X, E, N, K],
    start: zl.In[zl.Offsets[PAIRS], E + 1],
    *,
    y: zl.Out[f32, PAIRS, N],
    BM: zl.Static = 64,
    BN: zl.Static = 128,
    BK: zl.Static = 64,
):
    """y[p] = x[p]·w[e]ᵀ for the pairs p of expert e, in the order of experts. x [PAIRS, K]; w [E, N, K]; y f32 [PAIRS, N]."""
    e, rows, cols = zl.grid(start.tiles(BM), N.tiles(BN))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[e, cols, depth].T, acc)
    y[rows, cols] = acc


@zl.kernel
def combine_norm(
    y: zl.In[f32, PAIRS, N],
    place: zl.In[zl.Index[PAIRS], T, C],
    weight: zl.In[f32, T, C],
    g: zl.In[X, N],
    eps: f32,
    *,
    h: zl.Mut[f32, T, N],
    x: zl.Out[X, T, N],
):
    """h[t] += Σ weight[t, c] · y[place[t, c]], and x = rms_norm(h, g) of the new h. y f32 [PAIRS, N]; weight f32 [T, C]; h f32 [T, N].

    A token's results are read side by side: one after the other, each would wait for memory."""
    t = zl.grid(T)
    row = h[t, :] + zl.sum(weight[t, :][:, None] * y[place[t, :], :], axis=0)
    h[t, :] = row
    x[t, :] = rounded(row * zl.rsqrt(zl.mean(row * row) + eps) * g[:].to(f32), x.dtype)


@zl.kernel
def count_pairs(expert: zl.In[zl.Index[E], PAIRS], *, count: zl.Out[i32, zl.ceildiv(PAIRS, 512), E]):
    """How many pairs of each block of 512 go to each expert."""
    b = zl.grid(zl.ceildiv(PAIRS, BLOCK))
    count[b, :] = zl.histogram(expert[PAIRS.tiles(BLOCK)[b]], E)


@zl.kernel
def begin_segments(
    count: zl.In[i32, BLOCKS, E],
    *,
    start: zl.Out[zl.Offsets[PAIRS], E + 1],
    first: zl.Out[i32, BLOCKS, E],
    order: zl.Out[i32, PAIRS],
    BP: zl.Static = 4096,
):
    """Where the pairs of each expert begin when all are sorted by expert, and those of each block among them; clears ``order``."""
    zl.requires(E >= 1)
    zl.grid(1)
    for pairs in PAIRS.tiles(BP):
        order[pairs] = zl.zeros((BP,), i32)
    counts = count[:, :]
    total = zl.sum(counts, axis=0)
    start[:] = zl.offsets(total, total=PAIRS)
    first[:, :] = zl.cumsum(counts, axis=0) - counts + (zl.cumsum(total) - total)[None, :]


@zl.kernel
def place_pairs(
    expert: zl.In[zl.Index[E], PAIRS],
    first: zl.In[i32, zl.ceildiv(PAIRS, 512), E],
    *,
    place: zl.Out[zl.Index[PAIRS], PAIRS],
    order: zl.Acc[i32, PAIRS],
    BP: zl.Static = 64,
):
    """Where each pair comes when all are sorted by expert, those of one expert in their order; and the pair at each place.

    ``order`` starts at 0 and takes the largest pair of a place: there is one. Readers need not rely on that."""
    zl.requires(E >= 1)
    b = zl.grid(zl.ceildiv(PAIRS, BLOCK))
    start, seen, lane = b * BLOCK, zl.zeros((E,), i32), zl.arange(BP)
    for more in zl.tiles(zl.minimum(PAIRS - start, BLOCK), BP):
        pair = more + start
        e = expert[pair]
        before = (e[:, None] == e[None, :]) & (lane[None, :] < lane[:, None]) & more.active[None, :]
        rank = zl.sum(before.to(i32), axis=1) + zl.gather(seen, e) + first[b, e]
        seen = seen + zl.histogram(e, E)
        at = zl.clamp(rank, 0, PAIRS - 1)
        place[pair] = at
        order.max(at, pair.to(i32))
