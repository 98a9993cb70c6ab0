"""One decode step's kernels in bf16, scheduled for GPUs: norms fused into the products that follow, residuals into those before.

Hidden states h are f32 [T, D] from layer to layer; everything between is bf16. T is small (the sequences of a batch): each
token's program streams the weights by itself.
"""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f32

T, D, N, K, H, HK, HALF, C, NB, P, V = zl.dims("T D N K H HK HALF C NB P V")


@zl.kernel
def norm_matvec(
    h: zl.In[f32, T, K],
    gain: zl.In[bf16, K],
    w: zl.In[bf16, N, K],
    eps: f32,
    *,
    y: zl.Out[bf16, T, N],
    BN: zl.Static = 1,
    BK: zl.Static = 2048,
):
    """y = w·rms_norm(h)·gain. h f32 [T, K]; gain bf16 [K]; w bf16 [N, K]; y bf16 [T, N]."""
    cols, t = zl.grid(N.tiles(BN), T)
    acc = zl.zeros((BN, BK), f32)
    square = zl.zeros((BK,), f32)
    for depth in K.tiles(BK):
        x = h[t, depth]
        square = square + x * x
        acc = acc + w[cols, depth].to(f32) * (x * gain[depth].to(f32))[None, :]
    scale = zl.rsqrt(zl.sum(square) / K + eps)
    y[t, cols] = (zl.sum(acc, axis=1) * scale).to(bf16)


@zl.kernel
def norm_swiglu_matvec(
    h: zl.In[f32, T, K],
    gain: zl.In[bf16, K],
    gate: zl.In[bf16, N, K],
    up: zl.In[bf16, N, K],
    eps: f32,
    *,
    y: zl.Out[bf16, T, N],
    BN: zl.Static = 1,
    BK: zl.Static = 2048,
):
    """y = silu(gate·x)·(up·x) with x = rms_norm(h)·gain. h f32 [T, K]; gain bf16 [K]; gate, up bf16 [N, K]; y bf16 [T, N]."""
    cols, t = zl.grid(N.tiles(BN), T)
    a, b = zl.zeros((BN, BK), f32), zl.zeros((BN, BK), f32)
    square = zl.zeros((BK,), f32)
    for depth in K.tiles(BK):
        x = h[t, depth]
        square = square + x * x
        scaled = (x * gain[depth].to(f32))[None, :]
        a = a + gate[cols, depth].to(f32) * scaled
        b = b + up[cols, depth].to(f32) * scaled
    scale = zl.rsqrt(zl.sum(square) / K + eps)
    left = zl.sum(a, axis=1) * scale
    y[t, cols] = (left * zl.sigmoid(left) * (zl.sum(b, axis=1) * scale)).to(bf16)


@zl.kernel
def matvec_add(
    x: zl.In[bf16, T, K], w: zl.In[bf16, N, K], *, h: zl.Mut[f32, T, N], BN: zl.Static = 1, BK: zl.Static = 2048
):
    """h += w·x. x bf16 [T, K]; w bf16 [N, K]; h f32 [T, N]."""
    cols, t = zl.grid(N.tiles(BN), T)
    acc = zl.zeros((BN, BK), f32)
    for depth in K.tiles(BK):
        acc = acc + w[cols, depth].to(f32) * x[t, depth].to(f32)[None, :]
    h[t, cols] = h[t, cols] + zl.sum(acc, axis=1)


@zl.kernel
def norm_logits(
    h: zl.In[f32, T, K],
    gain: zl.In[bf16, K],
    w: zl.In[bf16, V, K],
    eps: f32,
    *,
    logits: zl.Out[f32, T, V],
    BN: zl.Static = 2,
    BK: zl.Static = 2048,
):
    """logits = w·rms_norm(h)·gain in f32. h f32 [T, K]; gain bf16 [K]; w bf16 [V, K]; logits f32 [T, V]."""
    ids, t = zl.grid(V.tiles(BN), T)
    acc = zl.zeros((BN, BK), f32)
    square = zl.zeros((BK,), f32)
    for depth in K.tiles(BK):
        x = h[t, depth]
        square = square + x * x
        acc = acc + w[ids, depth].to(f32) * (x * gain[depth].to(f32))[None, :]
    logits[t, ids] = zl.sum(acc, axis=1) * zl.rsqrt(zl.sum(square) / K + eps)


@zl.inline
def turned(x1, x2, gain1, gain2, eps, cosine, sine):
    """A head as two halves, normalised and rotated (Qwen3: norm of each head, then RoPE over halves)."""
    scale = zl.rsqrt((zl.sum(x1 * x1) + zl.sum(x2 * x2)) / (2 * HALF) + eps)
    a, b = x1 * scale * gain1, x2 * scale * gain2
    return a * cosine - b * sine, b * cosine + a * sine


@zl.kernel
def rope_queries(
    qkv: zl.In[bf16, T, H + 2 * HK, 2 * HALF],
    gain: zl.In[bf16, 2 * HALF],
    position: zl.In[zl.Index[C], T],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    eps: f32,
    *,
    q: zl.Out[bf16, T, H, 2 * HALF],
):
    """Query heads: normalised, rotated. qkv bf16 [T, H + 2·HK, HD] holds queries, keys, values; q bf16 [T, H, HD]."""
    t, head = zl.grid(T, H)
    i = zl.arange(HALF)
    at = position[t]
    first, second = turned(
        qkv[t, head, i].to(f32), qkv[t, head, i + HALF].to(f32), gain[i].to(f32), gain[i + HALF].to(f32), eps,
        cosine[at, i], sine[at, i],
    )  # fmt: skip
    q[t, head, i] = first.to(bf16)
    q[t, head, i + HALF] = second.to(bf16)


@zl.kernel
def append_keys(
    qkv: zl.In[bf16, T, H + 2 * HK, 2 * HALF],
    gain: zl.In[bf16, 2 * HALF],
    position: zl.In[zl.Index[C], T],
    slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], T],
    cosine: zl.In[f32, C, HALF],
    sine: zl.In[f32, C, HALF],
    eps: f32,
    *,
    keys: zl.Mut[bf16, NB, P, HK, 2 * HALF],
    values: zl.Mut[bf16, NB, P, HK, 2 * HALF],
):
    """Key and value heads into the paged cache: keys normalised and rotated, values as they are; absent slots write nothing.

    qkv bf16 [T, H + 2·HK, HD]; slot = page·P + row; keys, values bf16 [NB, P, HK, HD]."""
    t, head = zl.grid(T, HK)
    s = slot[t]
    if s.present:
        i = zl.arange(HALF)
        at = position[t]
        first, second = turned(
            qkv[t, H + head, i].to(f32), qkv[t, H + head, i + HALF].to(f32), gain[i].to(f32), gain[i + HALF].to(f32), eps,
            cosine[at, i], sine[at, i],
        )  # fmt: skip
        keys[s // P, s % P, head, i] = first.to(bf16)
        keys[s // P, s % P, head, i + HALF] = second.to(bf16)
        values[s // P, s % P, head, :] = qkv[t, H + HK + head, :]


@zl.kernel
def embed_tokens(ids: zl.In[zl.Index[V], T], table: zl.In[bf16, V, D], *, h: zl.Out[f32, T, D]):
    """h[t] = table[ids[t]]. ids Index[V] [T]; table bf16 [V, D]; h f32 [T, D]."""
    t = zl.grid(T)
    h[t, :] = table[ids[t], :].to(f32)


@zl.kernel
def argmax_combine(best: zl.In[f32, T, N], place: zl.In[zl.Index[V], T, N], *, token: zl.Out[zl.Index[V], T]):
    """The position of the largest of ``argmax_partial``'s maxima, ties to the smallest. best, place [T, N]; token [T]."""
    zl.requires(N >= 1)
    t = zl.grid(T)
    token[t] = place[t, zl.argmax(best[t, :])]
