"""Decode attention from the joined query/key/value product on, where several programs share a context: no launch of its own for heads.

Each of the WAYS programs of ``*_attend`` rotates the queries that it needs. It reads the cache first, which no earlier launch of a step
writes, so that keys and values are there when the product comes. The new token's own key and value come from the product; one of the
programs turns to them, and ``combine_append`` puts them into the cache. Families differ as in ``heads``; rotary pairs are (i, i + HALF).
"""

from __future__ import annotations

import zellige as zl
from zellige import f32
from zellige.kernels.gpu_attention import LOG2E, combined
from zellige.kernels.heads import added, cached, halves, normed, put, turn
from zellige.kernels.pages import KV
from zellige.kernels.precision import X, rounded

B, HK, G, HALF, HD, C, NB, P, PAGES, SPLITS = zl.dims("B HK G HALF HD C NB P PAGES SPLITS")
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
def begin(q, key, value, mine):
    """The state of a soft-max (largest score, sum of weights, weighted sum) that has seen the new token, if it is ``mine``, or nothing.

    q: two of [G, HALF]; key: two of [HALF]; value [HD]; both as the cache holds them."""
    a, b, v = q[0].to(f32) * key[0].to(f32)[None, :], q[1].to(f32) * key[1].to(f32)[None, :], value.to(f32)[None, :]
    rows, total, acc = q[0].shape[0], zl.where(mine, 1.0, 0.0), zl.zeros((q[0].shape[0], value.shape[0]), f32)
    best = zl.where(mine, zl.sum(a, axis=1) + zl.sum(b, axis=1), LEAST)
    return best, zl.broadcast_to(total, (rows,)), zl.where(mine, v, acc)


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
def over_cache(q, held, state, keys, values, table, b, h, first, count, steep, ways, size, half):
    """The state after every ``ways``-th tile of the first ``count`` positions, from tile ``first`` on, which is ``held``."""
    seen = held[0]
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


@zl.inline
def leave(state, steep, k, v, program, half, part, best_of, total_of, key, value):
    """Stores a program's part of the soft-max, and, by the first of a context, the new token's key and value."""
    b, h, s = program
    if s == 0:
        put(key, b, h, half, k[0], k[1])
        value[b, h, :] = v
    part[b, h, s, :, :] = state[2]
    best_of[b, h, s, :] = state[0] * steep
    total_of[b, h, s, :] = state[1]


@zl.kernel
def norm_rope_attend(
    qkv: zl.In[X, B, HK * (G + 2), 2 * HALF],
    q_norm: zl.In[X, 2 * HALF],
    k_norm: zl.In[X, 2 * HALF],
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
    key: zl.Out[KV, B, HK, 2 * HALF],
    value: zl.Out[KV, B, HK, 2 * HALF],
    WAYS: zl.Static = 16,
    BS: zl.Static = 32,
):
    """Norm and rotation of the heads (Qwen3), and attention over every SPLITS-th tile of BS positions of each context: the state of the
    soft-max by which ``combine_append`` puts parts together. How a context is divided depends on its own length alone.

    qkv [B, H + 2·HK, HD]: query heads, then key heads, then value heads; length: positions of a context with the new token, which is
    read as if there were one in an empty one; part f32 [B, HK, SPLITS, G, HD]; key, value: the new token's, as the cache holds them.
    """
    zl.requires((SPLITS == WAYS) & (P >= 1))
    b, h, s = zl.grid(B, HK, SPLITS)
    at, i, count = position[b], zl.arange(HALF), zl.maximum(length[b], 1) - 1
    first = WAYS - 1 - s  # who takes the new token has the last tiles, so the fewest
    c, sn, steep = cosine[at, i], sine[at, i], scale * LOG2E
    held = tile_of(keys, values, table, b, h, first, count, BS, HALF)
    mine, its_key, its_value = h * G + zl.arange(G), HK * G + h, HK * (G + 1) + h
    q, k, v = halves(qkv, b, mine, HALF), halves(qkv, b, its_key, HALF), qkv[b, its_value, :]
    q = normed(q[0], q[1], q_norm, HALF, eps)
    q = turn(q[0], q[1], c, sn, qkv.dtype)
    k = normed(k[0], k[1], k_norm, HALF, eps)
    k = turn(k[0], k[1], c, sn, qkv.dtype)
    k = cached(k[0], keys.dtype), cached(k[1], keys.dtype)
    v = cached(v, values.dtype)
    state = begin(q, k, v, s == 0)
    state = over_cache(q, held, state, keys, values, table, b, h, first, count, steep, WAYS, BS, HALF)
    leave(state, steep, k, v, (b, h, s), HALF, part, best_of, total_of, key, value)


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
    key: zl.Out[KV, B, HK, 2 * HALF],
    value: zl.Out[KV, B, HK, 2 * HALF],
    WAYS: zl.Static = 16,
    BS: zl.Static = 32,
):
    """``norm_rope_attend`` without the norm (Llama)."""
    zl.requires((SPLITS == WAYS) & (P >= 1))
    b, h, s = zl.grid(B, HK, SPLITS)
    at, i, count = position[b], zl.arange(HALF), zl.maximum(length[b], 1) - 1
    first = WAYS - 1 - s  # who takes the new token has the last tiles, so the fewest
    c, sn, steep = cosine[at, i], sine[at, i], scale * LOG2E
    held = tile_of(keys, values, table, b, h, first, count, BS, HALF)
    mine, its_key, its_value = h * G + zl.arange(G), HK * G + h, HK * (G + 1) + h
    q, k, v = halves(qkv, b, mine, HALF), halves(qkv, b, its_key, HALF), qkv[b, its_value, :]
    q = turn(q[0], q[1], c, sn, qkv.dtype)
    k = turn(k[0], k[1], c, sn, qkv.dtype)
    k = cached(k[0], keys.dtype), cached(k[1], keys.dtype)
    v = cached(v, values.dtype)
    state = begin(q, k, v, s == 0)
    state = over_cache(q, held, state, keys, values, table, b, h, first, count, steep, WAYS, BS, HALF)
    leave(state, steep, k, v, (b, h, s), HALF, part, best_of, total_of, key, value)


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
    key: zl.Out[KV, B, HK, 2 * HALF],
    value: zl.Out[KV, B, HK, 2 * HALF],
    WAYS: zl.Static = 16,
    BS: zl.Static = 32,
):
    """``norm_rope_attend`` with a bias for every head instead of the norm (Qwen2). bias [H + 2·HK, HD]."""
    zl.requires((SPLITS == WAYS) & (P >= 1))
    b, h, s = zl.grid(B, HK, SPLITS)
    at, i, count = position[b], zl.arange(HALF), zl.maximum(length[b], 1) - 1
    first = WAYS - 1 - s  # who takes the new token has the last tiles, so the fewest
    c, sn, steep = cosine[at, i], sine[at, i], scale * LOG2E
    held = tile_of(keys, values, table, b, h, first, count, BS, HALF)
    mine, its_key, its_value = h * G + zl.arange(G), HK * G + h, HK * (G + 1) + h
    q, k, v = halves(qkv, b, mine, HALF), halves(qkv, b, its_key, HALF), qkv[b, its_value, :]
    q = added(q[0], q[1], bias, mine, HALF)
    q = turn(q[0], q[1], c, sn, qkv.dtype)
    k = added(k[0], k[1], bias, its_key, HALF)
    k = turn(k[0], k[1], c, sn, qkv.dtype)
    k = cached(k[0], keys.dtype), cached(k[1], keys.dtype)
    v = cached(rounded(v.to(f32) + bias[its_value, :].to(f32), qkv.dtype), values.dtype)
    state = begin(q, k, v, s == 0)
    state = over_cache(q, held, state, keys, values, table, b, h, first, count, steep, WAYS, BS, HALF)
    leave(state, steep, k, v, (b, h, s), HALF, part, best_of, total_of, key, value)


@zl.kernel
def combine_append(
    part: zl.In[f32, B, HK, SPLITS, G, HD],
    best_of: zl.In[f32, B, HK, SPLITS, G],
    total_of: zl.In[f32, B, HK, SPLITS, G],
    key: zl.In[KV, B, HK, HD],
    value: zl.In[KV, B, HK, HD],
    slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], B],
    *,
    out: zl.Out[X, B, HK, G, HD],
    keys: zl.Mut[KV, NB, P, HK, HD],
    values: zl.Mut[KV, NB, P, HK, HD],
):
    """Combines the chunks of ``*_attend``, and puts the new token's key and value into its slot of the cache. out [B, HK, G, HD]."""
    b, h, g = zl.grid(B, HK, G)
    s, new_key, new_value = slot[b], key[b, h, :], value[b, h, :]  # not at the end: a wait for them would come on top
    out[b, h, g, :] = combined(part, best_of, total_of, b, h, g).to(out.dtype)
    if g == 0 and s.present:
        keys[s // P, s % P, h, :] = new_key
        values[s // P, s % P, h, :] = new_value
