"""Attention in bf16 or f16 with f32 soft-max, scheduled for GPUs: causal prefill, and paged decode split over the context."""

from __future__ import annotations

import zellige as zl
from zellige import f32
from zellige.kernels.pages import KV
from zellige.kernels.precision import X

B, HK, G, S, HD, NB, P, PAGES, SPLITS = zl.dims("B HK G S HD NB P PAGES SPLITS")

LOG2E = 1.4426950408889634


@zl.inline
def attend(query, keys, values, best, total, acc, steep, seen):
    """One step of the online soft-max (Milakov and Gimelshein, 2018), in base 2; ``steep`` is scale · log2(e) > 0.

    query [M, HD]; keys, values [BS, HD]; seen bool, broadcast to [M, BS]: the positions that count. ``best`` is
    kept unscaled, so that scaling and shifting a score is one multiply-add."""
    score = zl.where(seen, zl.dot(query, keys.T), -1e30)
    top = zl.maximum(best, zl.max(score, axis=1))
    weight = zl.exp2(score * steep - (top * steep)[:, None])
    fix = zl.exp2((best - top) * steep)
    total = total * fix + zl.sum(weight, axis=1)
    return top, total, zl.dot(weight.to(values.dtype), values, acc * fix[:, None])


@zl.kernel
def attention_causal(
    q: zl.In[X, B, HK, G, S, HD],
    k: zl.In[X, B, HK, S, HD],
    v: zl.In[X, B, HK, S, HD],
    scale: f32,
    *,
    out: zl.Out[X, B, HK, G, S, HD],
    BM: zl.Static = 128,
    BS: zl.Static = 128,
    BD: zl.Static = 64,
    BAND: zl.Static = 16,
):
    """Causal self-attention of whole sequences. q, out [B, HK, G, S, HD]; k, v [B, HK, S, HD].

    Whole tiles of BS positions before the tile of queries need no comparison, the rest, in tiles of BD, does (Dao, 2023). BAND tiles of
    queries of one key/value head run side by side, so that its keys and values are still in the cache."""
    band, b, h, tile, g = zl.grid(zl.ceildiv(S, BM * BAND), B, HK, BAND, G)
    rows = (band * BAND + tile) * BM + zl.arange(BM)
    rows = zl.only(rows, rows < S)
    query = q[b, h, g, rows, :]
    best, total, acc = zl.full((BM,), -1e30, f32), zl.zeros((BM,), f32), zl.zeros((BM, HD), f32)
    steep = scale * LOG2E
    first = zl.minimum(band * BAND + tile, S // BM) * BM
    seen_by_all = first // BS * BS
    for more in zl.tiles(first + BM - seen_by_all, BD):
        pos = more + seen_by_all
        pos = zl.only(pos, pos < S)
        seen = pos.active[None, :] & (pos[None, :] <= rows[:, None])
        best, total, acc = attend(query, k[b, h, pos, :], v[b, h, pos, :], best, total, acc, steep, seen)
    for pos in zl.tiles(seen_by_all, BS):
        best, total, acc = attend(query, k[b, h, pos, :], v[b, h, pos, :], best, total, acc, steep, pos.active[None, :])
    out[b, h, g, rows, :] = (acc / total[:, None]).to(out.dtype)


@zl.kernel
def paged_decode_partial(
    q: zl.In[X, B, HK, G, HD],
    keys: zl.In[KV, NB, P, HK, HD],
    values: zl.In[KV, NB, P, HK, HD],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    scale: f32,
    *,
    part: zl.Out[f32, B, HK, SPLITS, G, HD],
    best_of: zl.Out[f32, B, HK, SPLITS, G],
    total_of: zl.Out[f32, B, HK, SPLITS, G],
    WAYS: zl.Static = 16,
    BS: zl.Static = 64,
):
    """Decode attention over every SPLITS-th tile of BS positions of each context: unnormalised sums, and the soft-max state to
    combine them by. How a context is divided depends on its own length alone.

    q [B, HK, G, HD]; keys, values KV [NB, P, HK, HD]; part f32 [B, HK, SPLITS, G, HD]."""
    zl.requires(SPLITS == WAYS)
    b, h, s = zl.grid(B, HK, SPLITS)
    query = q[b, h, :, :]
    best, total, acc = zl.full((G,), -1e30, f32), zl.zeros((G,), f32), zl.zeros((G, HD), f32)
    steep = scale * LOG2E
    count = length[b]
    for tile in range(s, (count + BS - 1) // BS, WAYS):
        pos = tile * BS + zl.arange(BS)
        pos = zl.only(pos, pos < count)
        page, row = table[b, pos // P], pos % P
        k, v = keys[page, row, h, :].to(q.dtype), values[page, row, h, :].to(q.dtype)
        best, total, acc = attend(query, k, v, best, total, acc, steep, pos.active[None, :])
    part[b, h, s, :, :] = acc
    best_of[b, h, s, :] = best * steep
    total_of[b, h, s, :] = total


@zl.inline
def combined(part, best_of, total_of, b, h, g):
    """One query's attention, f32 [HD], from the states of the programs that shared its context; of an empty context 0."""
    best = best_of[b, h, :, g]
    weight = zl.exp2(best - zl.max(best))
    total = zl.sum(weight * total_of[b, h, :, g])
    acc = zl.sum(part[b, h, :, g, :] * weight[:, None], axis=0)
    return acc / zl.maximum(total, 1e-30)


@zl.kernel
def paged_decode_combine(
    part: zl.In[f32, B, HK, SPLITS, G, HD],
    best_of: zl.In[f32, B, HK, SPLITS, G],
    total_of: zl.In[f32, B, HK, SPLITS, G],
    *,
    out: zl.Out[X, B, HK, G, HD],
):
    """Combines the chunks of ``paged_decode_partial``. out [B, HK, G, HD]; a context of length 0 gives 0."""
    b, h, g = zl.grid(B, HK, G)
    out[b, h, g, :] = combined(part, best_of, total_of, b, h, g).to(out.dtype)
