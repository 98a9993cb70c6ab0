"""Decode attention from the joined query/key/value product on, where several programs share a context: no launch of its own for heads.

``*_attend`` goes over the cache, by WAYS programs a context, each of which rotates the queries that it needs. No earlier launch of a
step writes the cache, so that keys and values are read while the product still runs. ``*_combine`` puts together what the programs
found and the new token itself, whose key and value it appends to the cache. Families differ as in ``heads``; rotary pairs are
(i, i + HALF).
"""

from __future__ import annotations

import zellige as zl
from zellige import f32
from zellige.kernels.gpu_attention import LOG2E
from zellige.kernels.heads import added, cached, halves, normed, put_in_page, turn
from zellige.kernels.pages import KV
from zellige.kernels.precision import X, rounded

B, HK, G, HALF, C, NB, P, PAGES, SPLITS = zl.dims("B HK G HALF C NB P PAGES SPLITS")
LEAST = -1e29
"""The reference of a program that has seen nothing, above the score of what does not count: its weight must be 0, not 2^(x − x), which
rounding makes infinite."""


@zl.inline
def tile_of(keys, values, table, b, h, tile, count, size, half):
    """A tile of the first ``count`` positions of a context: whether each counts, the two halves of keys, and values."""
    pos, i = tile * size + zl.arange(size), zl.arange(half)
    page = table[b, zl.only(pos, pos < PAGES * P) // P]  # need not wait for the length of the context
    pos = zl.only(pos, pos < count)
    row = pos % P
    return pos.active, keys[page, row, h, i], keys[page, row, h, i + half], values[page, row, h, :]


@zl.inline
def step(q, held, state, steep):
    """``gpu_attention.attend`` with queries and keys in two halves. q: two of [G, HALF]; held: see ``tile_of``."""
    seen, k, more, v = held
    best, total, acc = state
    score = zl.dot(q[1], more.to(q[1].dtype).T, zl.dot(q[0], k.to(q[0].dtype).T))
    score = zl.where(seen[None, :], score, -1e30)
    top = zl.maximum(best, zl.max(score, axis=1, pad=LEAST))
    weight = zl.exp2(score * steep - (top * steep)[:, None])
    fix = zl.exp2((best - top) * steep)
    total = total * fix + zl.sum(weight, axis=1)
    v = v.to(q[0].dtype)
    return top, total, zl.dot(weight.to(v.dtype), v, acc * fix[:, None])


@zl.inline
def over_cache(q, held, keys, values, table, b, h, first, count, steep, ways, size, half):
    """The state of a soft-max (largest score, sum of weights, weighted sum) after every ``ways``-th tile of the first ``count``
    positions, from tile ``first`` on, which is ``held``."""
    rows, seen = q[0].shape[0], held[0]
    state = zl.full((rows,), LEAST, f32), zl.zeros((rows,), f32), zl.zeros((rows, 2 * half), f32)
    # what loads give goes to the matrix units by way of a choice: else each load would be waited for before the next one
    held = (
        seen,
        zl.where(seen[:, None], held[1], 0.0),
        zl.where(seen[:, None], held[2], 0.0),
        zl.where(seen[:, None], held[3], 0.0),
    )
    state = step(q, held, state, steep)
    if count > ways * size:
        for tile in range(first + ways, (count + size - 1) // size, ways):
            more = tile_of(keys, values, table, b, h, tile, count, size, half)
            state = step(q, more, state, steep)
    return state


@zl.kernel
def norm_rope_attend(
    qkv: zl.In[X, B, HK * (G + 2), 2 * HALF],
    q_norm: zl.In[X, 2 * HALF],
    position: zl.In[zl.Index[C], B],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    keys: zl.In[KV, NB, P, HK, 2 * HALF],
    values: zl.In[KV, NB, P, HK, 2 * HALF],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    scale: f32,
    eps: f32,
    *,
    part: zl.Out[f32, B, HK, SPLITS, G, 2 * HALF],
    best_of: zl.Out[f32, B, HK, SPLITS, G],
    total_of: zl.Out[f32, B, HK, SPLITS, G],
    WAYS: zl.Static = 16,
    BS: zl.Static = 32,
):
    """Norm and rotation of query heads (Qwen3), and their attention over every SPLITS-th tile of BS positions of each context in the
    cache, without the new token. How a context is divided depends on its own length alone.

    qkv [B, H + 2·HK, HD]: query heads, then key heads, then value heads; length: positions of a context with the new token;
    part f32 [B, HK, SPLITS, G, HD]."""
    zl.requires((SPLITS == WAYS) & (P >= 1))
    b, h, s = zl.grid(B, HK, SPLITS)
    at, i, count = position[b], zl.arange(HALF), zl.maximum(length[b], 1) - 1
    c, sn, steep = cosine[at, i], sine[at, i], scale * LOG2E
    held, heads = tile_of(keys, values, table, b, h, s, count, BS, HALF), h * G + zl.arange(G)
    q = halves(qkv, b, heads, HALF)
    q = normed(q[0], q[1], q_norm, HALF, eps)
    q = turn(q[0], q[1], c, sn, qkv.dtype)
    best, total, acc = over_cache(q, held, keys, values, table, b, h, s, count, steep, WAYS, BS, HALF)
    part[b, h, s, :, :] = acc
    best_of[b, h, s, :] = best * steep
    total_of[b, h, s, :] = total


@zl.kernel
def rope_attend(
    qkv: zl.In[X, B, HK * (G + 2), 2 * HALF],
    position: zl.In[zl.Index[C], B],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    keys: zl.In[KV, NB, P, HK, 2 * HALF],
    values: zl.In[KV, NB, P, HK, 2 * HALF],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    scale: f32,
    *,
    part: zl.Out[f32, B, HK, SPLITS, G, 2 * HALF],
    best_of: zl.Out[f32, B, HK, SPLITS, G],
    total_of: zl.Out[f32, B, HK, SPLITS, G],
    WAYS: zl.Static = 16,
    BS: zl.Static = 32,
):
    """``norm_rope_attend`` without the norm (Llama)."""
    zl.requires((SPLITS == WAYS) & (P >= 1))
    b, h, s = zl.grid(B, HK, SPLITS)
    at, i, count = position[b], zl.arange(HALF), zl.maximum(length[b], 1) - 1
    c, sn, steep = cosine[at, i], sine[at, i], scale * LOG2E
    held, heads = tile_of(keys, values, table, b, h, s, count, BS, HALF), h * G + zl.arange(G)
    q = halves(qkv, b, heads, HALF)
    q = turn(q[0], q[1], c, sn, qkv.dtype)
    best, total, acc = over_cache(q, held, keys, values, table, b, h, s, count, steep, WAYS, BS, HALF)
    part[b, h, s, :, :] = acc
    best_of[b, h, s, :] = best * steep
    total_of[b, h, s, :] = total


@zl.kernel
def bias_rope_attend(
    qkv: zl.In[X, B, HK * (G + 2), 2 * HALF],
    bias: zl.In[X, HK * (G + 2), 2 * HALF],
    position: zl.In[zl.Index[C], B],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    keys: zl.In[KV, NB, P, HK, 2 * HALF],
    values: zl.In[KV, NB, P, HK, 2 * HALF],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    scale: f32,
    *,
    part: zl.Out[f32, B, HK, SPLITS, G, 2 * HALF],
    best_of: zl.Out[f32, B, HK, SPLITS, G],
    total_of: zl.Out[f32, B, HK, SPLITS, G],
    WAYS: zl.Static = 16,
    BS: zl.Static = 32,
):
    """``norm_rope_attend`` with a bias for every head instead of the norm (Qwen2). bias [H + 2·HK, HD]."""
    zl.requires((SPLITS == WAYS) & (P >= 1))
    b, h, s = zl.grid(B, HK, SPLITS)
    at, i, count = position[b], zl.arange(HALF), zl.maximum(length[b], 1) - 1
    c, sn, steep = cosine[at, i], sine[at, i], scale * LOG2E
    held, heads = tile_of(keys, values, table, b, h, s, count, BS, HALF), h * G + zl.arange(G)
    q = halves(qkv, b, heads, HALF)
    q = added(q[0], q[1], bias, heads, HALF)
    q = turn(q[0], q[1], c, sn, qkv.dtype)
    best, total, acc = over_cache(q, held, keys, values, table, b, h, s, count, steep, WAYS, BS, HALF)
    part[b, h, s, :, :] = acc
    best_of[b, h, s, :] = best * steep
    total_of[b, h, s, :] = total


@zl.inline
def together(best, totals, parts):
    """The states of the SPLITS programs of ``*_attend`` (see ``over_cache``) as one."""
    top = zl.max(best)
    weight = zl.exp2(best - top)
    return top, zl.sum(weight * totals), zl.sum(parts * weight[:, None], axis=0)


@zl.inline
def with_own(q, key, value, state, steep):
    """Attention over what the cache holds and the new token, f32 [HD].

    q, key: two of [HALF]; value [HD]; key and value as the cache holds them; state: of the cache."""
    best, total, acc = state
    score = (zl.sum(q[0].to(f32) * key[0].to(f32)) + zl.sum(q[1].to(f32) * key[1].to(f32))) * steep
    top = zl.maximum(best, score)
    own, fix = zl.exp2(score - top), zl.exp2(best - top)
    return (acc * fix + own * value.to(f32)) / (total * fix + own)


@zl.kernel
def norm_rope_combine(
    qkv: zl.In[X, B, HK * (G + 2), 2 * HALF],
    q_norm: zl.In[X, 2 * HALF],
    k_norm: zl.In[X, 2 * HALF],
    position: zl.In[zl.Index[C], B],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], B],
    part: zl.In[f32, B, HK, SPLITS, G, 2 * HALF],
    best_of: zl.In[f32, B, HK, SPLITS, G],
    total_of: zl.In[f32, B, HK, SPLITS, G],
    scale: f32,
    eps: f32,
    *,
    out: zl.Out[X, B, HK, G, 2 * HALF],
    keys: zl.Mut[KV, NB, P, HK, 2 * HALF],
    values: zl.Mut[KV, NB, P, HK, 2 * HALF],
):
    """Norm and rotation of the new token's heads (Qwen3), attention with what ``norm_rope_attend`` found, and the append.

    out [B, HK, G, HD]; a token without a slot is attended to, and kept nowhere."""
    b, h, g = zl.grid(B, HK, G)
    at, i, s = position[b], zl.arange(HALF), slot[b]
    c, sn = cosine[at, i], sine[at, i]
    q, k, v = halves(qkv, b, h * G + g, HALF), halves(qkv, b, HK * G + h, HALF), qkv[b, HK * (G + 1) + h, :]
    state = together(best_of[b, h, :, g], total_of[b, h, :, g], part[b, h, :, g, :])
    q, k = normed(q[0], q[1], q_norm, HALF, eps), normed(k[0], k[1], k_norm, HALF, eps)
    q, k = turn(q[0], q[1], c, sn, qkv.dtype), turn(k[0], k[1], c, sn, qkv.dtype)
    k, v = (cached(k[0], keys.dtype), cached(k[1], keys.dtype)), cached(v, values.dtype)
    out[b, h, g, :] = with_own(q, k, v, state, scale * LOG2E).to(out.dtype)
    if g == 0 and s.present:
        put_in_page(keys, s, P, h, HALF, k[0], k[1])
        values[s // P, s % P, h, :] = v


@zl.kernel
def rope_combine(
    qkv: zl.In[X, B, HK * (G + 2), 2 * HALF],
    position: zl.In[zl.Index[C], B],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], B],
    part: zl.In[f32, B, HK, SPLITS, G, 2 * HALF],
    best_of: zl.In[f32, B, HK, SPLITS, G],
    total_of: zl.In[f32, B, HK, SPLITS, G],
    scale: f32,
    *,
    out: zl.Out[X, B, HK, G, 2 * HALF],
    keys: zl.Mut[KV, NB, P, HK, 2 * HALF],
    values: zl.Mut[KV, NB, P, HK, 2 * HALF],
):
    """``norm_rope_combine`` without the norm (Llama)."""
    b, h, g = zl.grid(B, HK, G)
    at, i, s = position[b], zl.arange(HALF), slot[b]
    c, sn = cosine[at, i], sine[at, i]
    q, k, v = halves(qkv, b, h * G + g, HALF), halves(qkv, b, HK * G + h, HALF), qkv[b, HK * (G + 1) + h, :]
    state = together(best_of[b, h, :, g], total_of[b, h, :, g], part[b, h, :, g, :])
    q, k = turn(q[0], q[1], c, sn, qkv.dtype), turn(k[0], k[1], c, sn, qkv.dtype)
    k, v = (cached(k[0], keys.dtype), cached(k[1], keys.dtype)), cached(v, values.dtype)
    out[b, h, g, :] = with_own(q, k, v, state, scale * LOG2E).to(out.dtype)
    if g == 0 and s.present:
        put_in_page(keys, s, P, h, HALF, k[0], k[1])
        values[s // P, s % P, h, :] = v


@zl.kernel
def bias_rope_combine(
    qkv: zl.In[X, B, HK * (G + 2), 2 * HALF],
    bias: zl.In[X, HK * (G + 2), 2 * HALF],
    position: zl.In[zl.Index[C], B],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], B],
    part: zl.In[f32, B, HK, SPLITS, G, 2 * HALF],
    best_of: zl.In[f32, B, HK, SPLITS, G],
    total_of: zl.In[f32, B, HK, SPLITS, G],
    scale: f32,
    *,
    out: zl.Out[X, B, HK, G, 2 * HALF],
    keys: zl.Mut[KV, NB, P, HK, 2 * HALF],
    values: zl.Mut[KV, NB, P, HK, 2 * HALF],
):
    """``norm_rope_combine`` with a bias for every head instead of the norm (Qwen2). bias [H + 2·HK, HD]."""
    b, h, g = zl.grid(B, HK, G)
    at, i, s = position[b], zl.arange(HALF), slot[b]
    c, sn = cosine[at, i], sine[at, i]
    q, k, v = halves(qkv, b, h * G + g, HALF), halves(qkv, b, HK * G + h, HALF), qkv[b, HK * (G + 1) + h, :]
    state = together(best_of[b, h, :, g], total_of[b, h, :, g], part[b, h, :, g, :])
    q, k = added(q[0], q[1], bias, h * G + g, HALF), added(k[0], k[1], bias, HK * G + h, HALF)
    v = rounded(v.to(f32) + bias[HK * (G + 1) + h, :].to(f32), qkv.dtype)
    q, k = turn(q[0], q[1], c, sn, qkv.dtype), turn(k[0], k[1], c, sn, qkv.dtype)
    k, v = (cached(k[0], keys.dtype), cached(k[1], keys.dtype)), cached(v, values.dtype)
    out[b, h, g, :] = with_own(q, k, v, state, scale * LOG2E).to(out.dtype)
    if g == 0 and s.present:
        put_in_page(keys, s, P, h, HALF, k[0], k[1])
        values[s // P, s % P, h, :] = v
