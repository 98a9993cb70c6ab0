"""Rotary position embedding and the append to the paged KV cache."""

from __future__ import annotations

import zellige as zl
from zellige import f16, f32

T, H, HK, HALF, C, NB, P = zl.dims("T H HK HALF C NB P")


@zl.inline
def rotate(first, second, cosine, sine):
    """A pair turned by an angle."""
    return first * cosine - second * sine, first * sine + second * cosine


@zl.kernel
def rope(
    position: zl.In[zl.Index[C], T],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    *,
    x: zl.Mut[f32, T, H, 2 * HALF],
):
    """Turns the pairs (2i, 2i+1) of each head by position · θᵢ (Su et al., 2021; the pairing of llama GGUF files).

    position Index[C] [T]; cosine, sine f32 [C, HALF]; x f32 [T, H, 2·HALF], in place."""
    t, h = zl.grid(T, H)
    i = zl.arange(HALF)
    at = position[t]
    first, second = rotate(x[t, h, 2 * i], x[t, h, 2 * i + 1], cosine[at, i], sine[at, i])
    x[t, h, 2 * i] = first
    x[t, h, 2 * i + 1] = second


@zl.kernel
def kv_append(
    k: zl.In[f32, T, HK, 2 * HALF],
    v: zl.In[f32, T, HK, 2 * HALF],
    position: zl.In[zl.Index[C], T],
    slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], T],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    *,
    keys: zl.Mut[f16, NB, P, HK, 2 * HALF],
    values: zl.Mut[f16, NB, P, HK, 2 * HALF],
):
    """Rotates each token's keys and writes keys and values to its slot of the paged cache; absent slots write nothing.

    k, v f32 [T, HK, 2·HALF]; slot = page·P + row; keys, values f16 [NB, P, HK, 2·HALF]."""
    t, h = zl.grid(T, HK)
    s = slot[t]
    if s.present:
        i = zl.arange(HALF)
        at = position[t]
        first, second = rotate(k[t, h, 2 * i], k[t, h, 2 * i + 1], cosine[at, i], sine[at, i])
        keys[s // P, s % P, h, 2 * i] = first.to(f16)
        keys[s // P, s % P, h, 2 * i + 1] = second.to(f16)
        values[s // P, s % P, h, :] = v[t, h, :].to(f16)
