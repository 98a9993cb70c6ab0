"""Kernels for many tokens at once in bf16 or f16, prefill and batched decode: products that end a block, attention over pages.

The residual stream is f32 [T, D]; products read X and sum in f32.
"""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f16, f32
from zellige.kernels.gpu_attention import LOG2E, attend
from zellige.kernels.pages import KV
from zellige.kernels.precision import X, rounded

T, D, N, K, F, HK, G, HD = zl.dims("T D N K F HK G HD")
B, NB, P, PAGES, PARTS, TILES = zl.dims("B NB P PAGES PARTS TILES")
Y = zl.dtypes("Y", bf16, f16, f32)


@zl.kernel
def norm_rows(h: zl.In[f32, T, D], g: zl.In[X, D], eps: f32, *, x: zl.Out[X, T, D]):
    """x = rms_norm(h, g). h f32 [T, D]; g [D]; x [T, D]."""
    t = zl.grid(T)
    row = h[t, :]
    x[t, :] = rounded(row * zl.rsqrt(zl.mean(row * row) + eps) * g[:].to(f32), x.dtype)


@zl.kernel
def linear_rows(
    x: zl.In[X, T, K],
    w: zl.In[X, N, K],
    *,
    y: zl.Out[Y, T, N],
    BM: zl.Static = 128,
    BN: zl.Static = 128,
    BK: zl.Static = 64,
):
    """y = x·wᵀ. x [T, K]; w [N, K]; y [T, N]."""
    rows, cols = zl.grid(T.tiles(BM), N.tiles(BN), order=zl.grouped(8))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    y[rows, cols] = rounded(acc, y.dtype)


@zl.kernel
def linear_rows_add(
    x: zl.In[X, T, K],
    w: zl.In[X, N, K],
    *,
    h: zl.Mut[f32, T, N],
    BM: zl.Static = 128,
    BN: zl.Static = 128,
    BK: zl.Static = 64,
):
    """h += x·wᵀ. x [T, K]; w [N, K]; h f32 [T, N]. The sum starts from h: no second tile in registers."""
    rows, cols = zl.grid(T.tiles(BM), N.tiles(BN), order=zl.grouped(8))
    acc = h[rows, cols]
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    h[rows, cols] = acc


@zl.kernel
def swiglu_rows(
    x: zl.In[X, T, K],
    gate: zl.In[X, F, K],
    up: zl.In[X, F, K],
    *,
    y: zl.Out[X, T, F],
    BM: zl.Static = 128,
    BN: zl.Static = 128,
    BK: zl.Static = 64,
):
    """y = silu(x·gateᵀ) · (x·upᵀ) (Shazeer, 2020). x [T, K]; gate, up [F, K]; y [T, F]."""
    rows, cols = zl.grid(T.tiles(BM), F.tiles(BN), order=zl.grouped(8))
    a, b = zl.zeros((BM, BN), f32), zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        tile = x[rows, depth]
        a = zl.dot(tile, gate[cols, depth].T, a)
        b = zl.dot(tile, up[cols, depth].T, b)
    y[rows, cols] = rounded(a * zl.sigmoid(a) * b, y.dtype)


@zl.kernel
def linear_parts(
    x: zl.In[X, T, K],
    w: zl.In[X, N, K],
    *,
    part: zl.Out[f32, PARTS, T, N],
    BM: zl.Static = 64,
    BN: zl.Static = 64,
    BK: zl.Static = 128,
    DEPTH: zl.Static = 1024,
):
    """Products over stretches of DEPTH of the inner axis, for few tokens: part[p] = x[:, p·DEPTH…]·w[:, p·DEPTH…]ᵀ.

    x [T, K]; w [N, K]; part f32 [PARTS, T, N]; PARTS·DEPTH ≥ K."""
    zl.requires(PARTS * DEPTH >= K)
    cols, p, rows = zl.grid(N.tiles(BN), PARTS, T.tiles(BM))
    acc = zl.zeros((BN, BM), f32)
    start = p * DEPTH
    for lane in zl.tiles(zl.minimum(zl.maximum(K - start, 0), DEPTH), BK):
        depth = lane + start
        acc = zl.dot(w[cols, depth], x[rows, depth].T, acc)
    part[p, rows, cols] = acc.T


@zl.kernel
def linear_few(
    x: zl.In[X, T, K],
    w: zl.In[X, N, K],
    *,
    y: zl.Out[Y, T, N],
    BM: zl.Static = 16,
    BN: zl.Static = 64,
    BK: zl.Static = 128,
):
    """``linear_rows`` for few tokens: the weights are the left operand, so that their rows fill the matrix units. Same shapes."""
    cols, rows = zl.grid(N.tiles(BN), T.tiles(BM))
    acc = zl.zeros((BN, BM), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(w[cols, depth], x[rows, depth].T, acc)
    y[rows, cols] = rounded(acc.T, y.dtype)


@zl.kernel
def sum_parts(part: zl.In[f32, PARTS, T, N], *, y: zl.Out[Y, T, N], BN: zl.Static = 512):
    """y = Σₚ part[p]. part f32 [PARTS, T, N]; y [T, N]."""
    t, cols = zl.grid(T, N.tiles(BN))
    acc = zl.zeros((BN,), f32)
    for p in range(PARTS):
        acc = acc + part[p, t, cols]
    y[t, cols] = rounded(acc, y.dtype)


@zl.kernel
def sum_parts_norm(
    part: zl.In[f32, PARTS, T, D], g: zl.In[X, D], eps: f32, *, h: zl.Mut[f32, T, D], x: zl.Out[X, T, D]
):
    """h += Σₚ part[p], and x = rms_norm(h, g) of the new h. part f32 [PARTS, T, D]; g [D]; h f32 [T, D]; x [T, D]."""
    t = zl.grid(T)
    row = h[t, :]
    for p in range(PARTS):
        row = row + part[p, t, :]
    h[t, :] = row
    x[t, :] = rounded(row * zl.rsqrt(zl.mean(row * row) + eps) * g[:].to(f32), x.dtype)


@zl.kernel
def paged_decode(
    q: zl.In[X, B, HK, G, HD],
    keys: zl.In[KV, NB, P, HK, HD],
    values: zl.In[KV, NB, P, HK, HD],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    scale: f32,
    *,
    out: zl.Out[X, B, HK, G, HD],
    BS: zl.Static = 64,
):
    """``paged_decode_partial`` and ``paged_decode_combine`` where one program goes over a whole context. Same shapes."""
    b, h = zl.grid(B, HK)
    query = q[b, h, :, :]
    best, total, acc = zl.full((G,), -1e30, f32), zl.zeros((G,), f32), zl.zeros((G, HD), f32)
    steep = scale * LOG2E
    for pos in zl.tiles(length[b], BS):
        page, row = table[b, pos // P], pos % P
        k, v = keys[page, row, h, :].to(q.dtype), values[page, row, h, :].to(q.dtype)
        best, total, acc = attend(query, k, v, best, total, acc, steep, pos.active[None, :])
    out[b, h, :, :] = (acc / zl.maximum(total, 1e-30)[:, None]).to(out.dtype)


@zl.kernel
def paged_prefill(
    q: zl.In[X, T, HK, G, HD],
    keys: zl.In[KV, NB, P, HK, HD],
    values: zl.In[KV, NB, P, HK, HD],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    owner: zl.In[zl.Index[B], TILES],
    start: zl.In[zl.UpTo[PAGES * P], TILES],
    scale: f32,
    *,
    out: zl.Out[X, T, HK, G, HD],
    BM: zl.Static = 64,
    BS: zl.Static = 64,
):
    """Causal attention of several sequences' next tokens over the paged cache, which holds their keys and values already.

    Rows come in tiles of BM = T / TILES; tile i has consecutive tokens of sequence owner[i], the first at position
    start[i], and may be filled up with rows that nobody reads. q, out [T, HK, G, HD]; keys, values
    KV [NB, P, HK, HD]; table Index[NB] [B, PAGES]; length [B]: tokens of each sequence, those of this pass included."""
    zl.requires(TILES * BM == T)
    tile, h, g = zl.grid(TILES, HK, G)
    b, first = owner[tile], start[tile]
    lane = zl.arange(BM)
    rows = tile * BM + lane
    query = q[rows, h, g, :]
    best, total, acc = zl.full((BM,), -1e30, f32), zl.zeros((BM,), f32), zl.zeros((BM, HD), f32)
    steep = scale * LOG2E
    end = zl.minimum(first + BM, length[b])
    seen_by_all = zl.minimum(first, end) // BS * BS
    for pos in zl.tiles(seen_by_all, BS):
        page, row = table[b, pos // P], pos % P
        k, v = keys[page, row, h, :].to(q.dtype), values[page, row, h, :].to(q.dtype)
        best, total, acc = attend(query, k, v, best, total, acc, steep, pos.active[None, :])
    for more in zl.tiles(end - seen_by_all, BS):
        pos = more + seen_by_all
        page, row = table[b, pos // P], pos % P
        k, v = keys[page, row, h, :].to(q.dtype), values[page, row, h, :].to(q.dtype)
        seen = more.active[None, :] & (pos[None, :] <= (lane + first)[:, None])
        best, total, acc = attend(query, k, v, best, total, acc, steep, seen)
    out[rows, h, g, :] = (acc / zl.maximum(total, 1e-30)[:, None]).to(out.dtype)


@zl.kernel
def prefill_attention(
    q: zl.In[X, T, HK, G, HD],
    k: zl.In[X, T, HK, HD],
    qkv: zl.In[X, T, HK * G + 2 * HK, HD],
    base: zl.In[zl.Index[T], TILES],
    scale: f32,
    *,
    out: zl.Out[X, T, HK, G, HD],
    BM: zl.Static = 64,
    SPLIT: zl.Static = 1,
    BS: zl.Static = 64,
    BD: zl.Static = 64,
):
    """Causal attention of whole prompts over their own keys and values, where no cached ones come before them.

    Rows come in tiles of BM = T / TILES, which SPLIT programs share; the prompt that tile i belongs to begins at row base[i], a multiple
    of BM. Whole tiles of BS positions before a program's rows need no comparison, the rest, in tiles of BD, does. q, out
    [T, HK, G, HD]; k [T, HK, HD], rotated; the values are the last HK heads of qkv."""
    zl.requires(TILES * BM == T)
    zl.requires(BM // SPLIT * SPLIT == BM)
    tile, part, h, g = zl.grid(TILES, SPLIT, HK, G)
    first = tile * BM + part * (BM // SPLIT)
    begin = zl.minimum(base[tile] // BM, tile) * BM
    rows = first + zl.arange(BM // SPLIT)
    query = q[rows, h, g, :]
    best, total = zl.full((BM // SPLIT,), -1e30, f32), zl.zeros((BM // SPLIT,), f32)
    acc = zl.zeros((BM // SPLIT, HD), f32)
    steep = scale * LOG2E
    seen_by_all = (first - begin) // BS * BS
    for lane in zl.tiles(first + BM // SPLIT - begin - seen_by_all, BD):
        pos = lane + (begin + seen_by_all)
        value = qkv[pos, HK * G + HK + h, :]
        seen = lane.active[None, :] & (pos[None, :] <= rows[:, None])
        best, total, acc = attend(query, k[pos, h, :], value, best, total, acc, steep, seen)
    for lane in zl.tiles(seen_by_all, BS):
        pos = lane + begin
        value = qkv[pos, HK * G + HK + h, :]
        best, total, acc = attend(query, k[pos, h, :], value, best, total, acc, steep, lane.active[None, :])
    out[rows, h, g, :] = (acc / zl.maximum(total, 1e-30)[:, None]).to(out.dtype)
