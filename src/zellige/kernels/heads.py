"""From the joined query/key/value product to rotated heads: queries to a tensor, keys and values to the paged cache, in bf16, f16 or fp8.

Families differ in what comes before the rotation: Qwen3 norms each query and key head, Qwen2 adds a bias, Llama does neither.
A program has BH heads of BT tokens, one after the other, and loads the tokens' angles once; the last heads may be fewer. What
is computed does not depend on BH. Rotary pairs are (i, i + HALF). One new token a sequence has no launch for this (``new_token``).
"""

from __future__ import annotations

import zellige as zl
from zellige import f8e4m3, f32
from zellige.kernels.pages import KV
from zellige.kernels.precision import X, rounded

T, H, HK, HALF, C, NB, P = zl.dims("T H HK HALF C NB P")


@zl.inline
def halves(x, t, head, half):
    """The two halves of a head, f32 [HALF] each, or [BT, HALF] for many tokens."""
    i = zl.arange(half)
    return x[t, head, i].to(f32), x[t, head, i + half].to(f32)


@zl.inline
def added(a, b, bias, head, half):
    """The two halves of a head plus its bias."""
    i = zl.arange(half)
    return a + bias[head, i].to(f32), b + bias[head, i + half].to(f32)


@zl.inline
def normed(a, b, g, half, eps):
    """The two halves of a head after its norm."""
    i = zl.arange(half)
    squares = zl.sum(a * a, axis=-1, keepdims=True) + zl.sum(b * b, axis=-1, keepdims=True)
    scale = zl.rsqrt(squares / (2 * half) + eps)
    return a * scale * g[i].to(f32), b * scale * g[i + half].to(f32)


@zl.inline
def turn(a, b, c, s, dtype):
    """The two halves rotated (Su et al., 2021), as ``dtype``."""
    return rounded(a * c - b * s, dtype), rounded(b * c + a * s, dtype)


@zl.inline
def put(out, t, head, half, a, b):
    """Stores the two halves of a head of tokens."""
    i = zl.arange(half)
    out[t, head, i] = a
    out[t, head, i + half] = b


@zl.inline
def cached(x, dtype):
    """x as the cache holds it. fp8 has no scales: what is beyond its largest number, 448, becomes that."""
    if x.dtype == dtype:
        return x
    return zl.clamp(x.to(f32), -448.0, 448.0).to(f8e4m3) if dtype == f8e4m3 else rounded(x.to(f32), dtype)


@zl.inline
def put_in_page(cache, s, page_size, head, half, a, b):
    """Stores the two halves of a head in slots of the paged cache."""
    i = zl.arange(half)
    cache[s // page_size, s % page_size, head, i] = cached(a, cache.dtype)
    cache[s // page_size, s % page_size, head, i + half] = cached(b, cache.dtype)


@zl.kernel
def head_norm_rope_rows(
    qkv: zl.In[X, T, H + 2 * HK, 2 * HALF],
    q_norm: zl.In[X, 2 * HALF],
    k_norm: zl.In[X, 2 * HALF],
    position: zl.In[zl.Index[C], T],
    slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], T],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    eps: f32,
    *,
    q: zl.Out[X, T, H, 2 * HALF],
    k: zl.Out[X, T, HK, 2 * HALF],
    keys: zl.Mut[KV, NB, P, HK, 2 * HALF],
    values: zl.Mut[KV, NB, P, HK, 2 * HALF],
    BT: zl.Static = 16,
    BH: zl.Static = 1,
):
    """Norm and rotation of query and key heads (Qwen3); keys and values go to their slots, keys also to k [T, HK, HD].

    qkv [T, H + 2·HK, HD]: query heads, then key heads, then value heads; q [T, H, HD]."""
    zl.requires(P >= 1)
    t, block = zl.grid(T.tiles(BT), zl.ceildiv(H + 2 * HK, BH))
    at, s, i = position[t], slot[t], zl.arange(HALF)
    s = zl.only(s, s >= 0)
    c, sn = cosine[at, i], sine[at, i]
    for n in zl.unroll(range(BH)):
        j = block * BH + n
        if j < H:
            a, b = halves(qkv, t, j, HALF)
            a, b = normed(a, b, q_norm, HALF, eps)
            a, b = turn(a, b, c, sn, q.dtype)
            put(q, t, j, HALF, a, b)
        elif j < H + HK:
            a, b = halves(qkv, t, j, HALF)
            a, b = normed(a, b, k_norm, HALF, eps)
            a, b = turn(a, b, c, sn, q.dtype)
            put(k, t, j - H, HALF, a, b)
            put_in_page(keys, s, P, j - H, HALF, a, b)
        elif BH == 1 or j < H + 2 * HK:
            values[s // P, s % P, j - H - HK, :] = cached(qkv[t, j, :], values.dtype)


@zl.kernel
def head_rope_rows(
    qkv: zl.In[X, T, H + 2 * HK, 2 * HALF],
    position: zl.In[zl.Index[C], T],
    slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], T],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    *,
    q: zl.Out[X, T, H, 2 * HALF],
    k: zl.Out[X, T, HK, 2 * HALF],
    keys: zl.Mut[KV, NB, P, HK, 2 * HALF],
    values: zl.Mut[KV, NB, P, HK, 2 * HALF],
    BT: zl.Static = 16,
    BH: zl.Static = 1,
):
    """``head_norm_rope_rows`` without the norm (Llama)."""
    zl.requires(P >= 1)
    t, block = zl.grid(T.tiles(BT), zl.ceildiv(H + 2 * HK, BH))
    at, s, i = position[t], slot[t], zl.arange(HALF)
    s = zl.only(s, s >= 0)
    c, sn = cosine[at, i], sine[at, i]
    for n in zl.unroll(range(BH)):
        j = block * BH + n
        if j < H:
            a, b = halves(qkv, t, j, HALF)
            a, b = turn(a, b, c, sn, q.dtype)
            put(q, t, j, HALF, a, b)
        elif j < H + HK:
            a, b = halves(qkv, t, j, HALF)
            a, b = turn(a, b, c, sn, q.dtype)
            put(k, t, j - H, HALF, a, b)
            put_in_page(keys, s, P, j - H, HALF, a, b)
        elif BH == 1 or j < H + 2 * HK:
            values[s // P, s % P, j - H - HK, :] = cached(qkv[t, j, :], values.dtype)


@zl.kernel
def head_bias_rope_rows(
    bias: zl.In[X, H + 2 * HK, 2 * HALF],
    position: zl.In[zl.Index[C], T],
    slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], T],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    *,
    qkv: zl.Mut[X, T, H + 2 * HK, 2 * HALF],
    q: zl.Out[X, T, H, 2 * HALF],
    k: zl.Out[X, T, HK, 2 * HALF],
    keys: zl.Mut[KV, NB, P, HK, 2 * HALF],
    values: zl.Mut[KV, NB, P, HK, 2 * HALF],
    BT: zl.Static = 16,
    BH: zl.Static = 1,
):
    """``head_norm_rope_rows`` with a bias for every head instead of the norm (Qwen2). bias [H + 2·HK, HD]; the value heads of qkv get
    theirs in place."""
    zl.requires(P >= 1)
    t, block = zl.grid(T.tiles(BT), zl.ceildiv(H + 2 * HK, BH))
    at, s, i = position[t], slot[t], zl.arange(HALF)
    s = zl.only(s, s >= 0)
    c, sn = cosine[at, i], sine[at, i]
    for n in zl.unroll(range(BH)):
        j = block * BH + n
        if BH == 1 or j < H + 2 * HK:
            a, b = halves(qkv, t, j, HALF)
            a, b = added(a, b, bias, j, HALF)
            if j < H:
                a, b = turn(a, b, c, sn, q.dtype)
                put(q, t, j, HALF, a, b)
            elif j < H + HK:
                a, b = turn(a, b, c, sn, q.dtype)
                put(k, t, j - H, HALF, a, b)
                put_in_page(keys, s, P, j - H, HALF, a, b)
            else:
                a, b = rounded(a, qkv.dtype), rounded(b, qkv.dtype)
                put(qkv, t, j, HALF, a, b)
                put_in_page(values, s, P, j - H - HK, HALF, a, b)
