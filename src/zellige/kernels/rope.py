"""Rotary position embedding and the append to the paged KV cache."""

from __future__ import annotations

import zellige as zl
from zellige import f16, f32

T, H, HK, HALF, C, NB, P = zl.dims("T H HK HALF C NB P")


PAIRINGS = [{"PAIRS": "interleaved"}, {"PAIRS": "halves"}]
"""How the two elements of rotary pair i are placed: 2i and 2i+1, or i and i + HALF."""


@zl.inline
def pair(half, pairs):
    """Indices of the first and second elements of all rotary pairs of a head."""
    i = zl.arange(half)
    if pairs == "interleaved":
        places = (2 * i, 2 * i + 1)
    else:
        places = (i, i + half)
    return i, places[0], places[1]


@zl.inline
def rotate(first, second, cosine, sine):
    """A pair turned by an angle."""
    return first * cosine - second * sine, first * sine + second * cosine


@zl.kernel(configs=PAIRINGS)
def rope(
    position: zl.In[zl.Index[C], T],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    *,
    x: zl.Mut[f32, T, H, 2 * HALF],
    PAIRS: zl.Static = "interleaved",
):
    """Turns each rotary pair of each head by position · θᵢ (Su et al., 2021).

    position Index[C] [T]; cosine, sine f32 [C, HALF]; x f32 [T, H, 2·HALF], in place."""
    t, h = zl.grid(T, H)
    i, a, b = pair(HALF, PAIRS)
    at = position[t]
    first, second = rotate(x[t, h, a], x[t, h, b], cosine[at, i], sine[at, i])
    x[t, h, a] = first
    x[t, h, b] = second


@zl.kernel(configs=PAIRINGS)
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
    PAIRS: zl.Static = "interleaved",
):
    """Rotates each token's keys and writes keys and values to its slot of the paged cache; absent slots write nothing.

    k, v f32 [T, HK, 2·HALF]; slot = page·P + row; keys, values f16 [NB, P, HK, 2·HALF]."""
    t, h = zl.grid(T, HK)
    s = slot[t]
    if s.present:
        i, a, b = pair(HALF, PAIRS)
        at = position[t]
        first, second = rotate(k[t, h, a], k[t, h, b], cosine[at, i], sine[at, i])
        keys[s // P, s % P, h, a] = first.to(f16)
        keys[s // P, s % P, h, b] = second.to(f16)
        values[s // P, s % P, h, :] = v[t, h, :].to(f16)
