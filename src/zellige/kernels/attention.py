"""Attention over the paged KV cache, with grouped queries and an online soft-max (Milakov and Gimelshein, 2018)."""

from __future__ import annotations

import zellige as zl
from zellige import f16, f32

B, T, PAGES, NB, P, HK, G, HD, WAYS = zl.dims("B T PAGES NB P HK G HD WAYS")

DECODE_WAYS = 4
"""Programs that share the context of one sequence's key/value head."""


@zl.inline
def attend(query, keys, values, state, score_mask):
    """One step of the online soft-max: (best, total, acc) after a tile of keys and values. query is scaled already.

    query f32 [M, HD]; keys, values f32 [BS, HD]; score_mask bool, broadcast to [M, BS]."""
    best, total, acc = state
    score = zl.where(score_mask, zl.dot(query, keys.T), -1e30)
    top = zl.maximum(best, zl.max(score, axis=1))
    weight = zl.exp(score - top[:, None])
    fix = zl.exp(best - top)
    return top, total * fix + zl.sum(weight, axis=1), zl.dot(weight, values, acc * fix[:, None])


@zl.kernel
def attention_decode_parts(
    q: zl.In[f32, B, HK, G, HD],
    keys: zl.In[f16, NB, P, HK, HD],
    values: zl.In[f16, NB, P, HK, HD],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    scale: f32,
    *,
    part: zl.Out[f32, B, HK, WAYS, G, HD],
    best_of: zl.Out[f32, B, HK, WAYS, G],
    total_of: zl.Out[f32, B, HK, WAYS, G],
    W: zl.Static = DECODE_WAYS,
    BS: zl.Static = 32,
):
    """One query token a sequence over every W-th tile of BS positions of its context: unnormalised sums, and the soft-max
    state to combine them by. How a context is divided depends on its own length alone.

    q f32 [B, HK, G, HD]; keys, values f16 [NB, P, HK, HD]; table Index[NB] [B, PAGES]; part f32 [B, HK, W, G, HD]."""
    zl.requires(WAYS == W)
    b, h, way = zl.grid(B, HK, WAYS)
    query = q[b, h, :, :] * scale
    best, total, acc = zl.full((G,), -1e30, f32), zl.zeros((G,), f32), zl.zeros((G, HD), f32)
    count = length[b]
    for tile in range(way, (count + BS - 1) // BS, W):
        pos = tile * BS + zl.arange(BS)
        pos = zl.only(pos, pos < count)
        page, row = table[b, pos // P], pos % P
        k, v = keys[page, row, h, :].to(f32), values[page, row, h, :].to(f32)
        best, total, acc = attend(query, k, v, (best, total, acc), pos.active[None, :])
    part[b, h, way, :, :] = acc
    best_of[b, h, way, :] = best
    total_of[b, h, way, :] = total


@zl.kernel
def attention_decode_combine(
    part: zl.In[f32, B, HK, WAYS, G, HD],
    best_of: zl.In[f32, B, HK, WAYS, G],
    total_of: zl.In[f32, B, HK, WAYS, G],
    *,
    out: zl.Out[f32, B, HK, G, HD],
):
    """The attention of ``attention_decode_parts``: out f32 [B, HK, G, HD]. A context of length 0 gives 0."""
    zl.requires(WAYS >= 1)
    b, h, g = zl.grid(B, HK, G)
    best = best_of[b, h, :, g]
    weight = zl.exp(best - zl.max(best))
    total = zl.sum(weight * total_of[b, h, :, g])
    acc = zl.sum(part[b, h, :, g, :] * weight[:, None], axis=0)
    out[b, h, g, :] = acc / zl.maximum(total, 1e-30)


@zl.kernel
def attention_prefill(
    q: zl.In[f32, T, HK, G, HD],
    keys: zl.In[f16, NB, P, HK, HD],
    values: zl.In[f16, NB, P, HK, HD],
    table: zl.In[zl.Index[NB], PAGES],
    start: zl.UpTo[PAGES * P],
    scale: f32,
    *,
    out: zl.Out[f32, T, HK, G, HD],
    BM: zl.Static = 32,
    BS: zl.Static = 64,
):
    """Causal attention of T consecutive tokens of one sequence, the first at position ``start``, over the cache.

    q, out f32 [T, HK, G, HD]; keys, values f16 [NB, P, HK, HD]; table Index[NB] [PAGES]; start + T ≤ PAGES·P."""
    zl.requires(start + T <= PAGES * P)
    rows, h, g = zl.grid(T.tiles(BM), HK, G)
    query = q[rows, h, g, :] * scale
    best, total, acc = zl.full((BM,), -1e30, f32), zl.zeros((BM,), f32), zl.zeros((BM, HD), f32)
    for pos in zl.tiles(start + zl.minimum(rows.start + BM, T), BS):
        page, row = table[pos // P], pos % P
        k, v = keys[page, row, h, :].to(f32), values[page, row, h, :].to(f32)
        seen = pos.active[None, :] & (pos[None, :] <= (rows + start)[:, None])
        best, total, acc = attend(query, k, v, (best, total, acc), seen)
    out[rows, h, g, :] = acc / zl.maximum(total, 1e-30)[:, None]
