"""From logits to tokens: penalties, filters, one draw, log-probabilities."""

from __future__ import annotations

import zellige as zl
from zellige import f32, i32, u32, u64

B, V, J = zl.dims("B V J")


@zl.kernel
def argmax(logits: zl.In[f32, B, V], *, token: zl.Out[zl.Index[V], B]):
    """The most probable id of each row, ties to the smallest. logits f32 [B, V], V ≥ 1; token Index[V] [B]."""
    zl.requires(V >= 1)
    b = zl.grid(B)
    token[b] = zl.argmax(logits[b, :])


@zl.kernel
def penalise(ids: zl.In[zl.Index[V, zl.distinct], J], row: zl.Index[B], penalty: f32, *, logits: zl.Mut[f32, B, V]):
    """Divides positive logits of ``ids`` in one row by the penalty and multiplies negative ones (Keskar et al., 2019)."""
    j = zl.grid(J)
    old = logits[row, ids[j]]
    logits[row, ids[j]] = zl.where(old > 0, old / penalty, old * penalty)


@zl.inline
def threshold_bits(bits, weight, wanted):
    """The largest b with Σ weight[bits ≥ b] ≥ wanted, by bisection over the bit patterns of floats in [0, 1]."""
    low, high = zl.full((), 0, u32), zl.full((), 0x3F800001, u32)
    for _ in range(31):
        middle = low + ((high - low) >> 1)
        enough = zl.sum(zl.where(bits >= middle, weight, 0.0)) >= wanted
        low, high = zl.where(enough, middle, low), zl.where(enough, high, middle)
    return low


@zl.kernel
def sample(
    logits: zl.In[f32, B, V],
    temperature: zl.In[f32, B],
    top_k: zl.In[i32, B],
    top_p: zl.In[f32, B],
    min_p: zl.In[f32, B],
    seed: zl.In[u64, B],
    step: zl.In[u64, B],
    *,
    token: zl.Out[zl.Index[V], B],
):
    """One draw a row from softmax(logits / temperature) after top-k, top-p and min-p, each on the renormalised rest.

    Probabilities equal to the last one kept are kept with it. The draw is the Gumbel maximum over Philox noise of
    (seed, step · 2³² + id): the same for the same request whatever runs beside it. temperature 0 takes the maximum;
    top_k 0 and top_p 1 keep all. logits f32 [B, V]; token Index[V] [B]."""
    zl.requires(V >= 1)
    b = zl.grid(B)
    heat = temperature[b]
    scaled = logits[b, :] / zl.maximum(heat, 1e-6)
    p = zl.exp(scaled - zl.max(scaled))
    bits = zl.bitcast(p, u32)
    k = top_k[b]
    wanted = zl.where(k > 0, k, 0x7FFFFFFF).to(f32)
    kept = (
        bits >= threshold_bits(bits, zl.full((V,), 1.0, f32), zl.minimum(wanted, zl.sum(zl.full((V,), 1.0, f32))))
    ) & (p > 0.0)
    rest = zl.where(kept, p, 0.0)
    mass = zl.sum(rest) * top_p[b]
    kept = kept & (bits >= threshold_bits(bits, rest, mass)) & (p >= min_p[b])
    counter = step[b] * 4294967296 + zl.arange(V).to(u64)
    noise = -zl.log(-zl.log(zl.random_uniform(seed[b], counter)))
    drawn = zl.log(p) + zl.where(heat > 0.0, noise, 0.0)
    token[b] = zl.argmax(zl.where(kept, drawn, -zl.inf))


@zl.kernel
def log_probability(
    logits: zl.In[f32, B, V],
    token: zl.In[zl.Index[V, zl.optional], B],
    *,
    logprob: zl.Out[f32, B],
    best: zl.Out[zl.Index[V], B],
):
    """Natural log of softmax(logits)[token] and the most probable id of each row; absent tokens give −inf.

    logits f32 [B, V]; token Index[V] [B], −1 where absent; logprob f32 [B]; best Index[V] [B]."""
    zl.requires(V >= 1)
    b = zl.grid(B)
    row = logits[b, :]
    top = zl.max(row)
    total = zl.log(zl.sum(zl.exp(row - top))) + top
    best[b] = zl.argmax(row)
    id = token[b]
    if id.present:
        logprob[b] = logits[b, id] - total
    else:
        logprob[b] = -zl.inf
