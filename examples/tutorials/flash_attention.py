"""Flash attention, forward and backward (Dao et al., 2022): no M × N matrix is ever stored.

The forward pass keeps, of each row, the logarithm of the sum of its exponentials; the backward pass recomputes the weights from it.
"""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

B, H, T, S, HD = zl.dims("B H T S HD")


@zl.kernel
def attention(
    q: zl.In[f32, B, H, T, HD], k: zl.In[f32, B, H, S, HD], v: zl.In[f32, B, H, S, HD], scale: f32,
    *, out: zl.Out[f32, B, H, T, HD], lse: zl.Out[f32, B, H, T], BM: zl.Static = 32, BN: zl.Static = 32,
):  # fmt: skip
    """Causal, the last query seeing all keys: out = softmax(scale · q·kᵀ)·v, lse = log Σ exp of each row."""
    zl.requires(S >= T)
    b, h, rows = zl.grid(B, H, T.tiles(BM))
    query = q[b, h, rows, :] * scale
    best, total, acc = zl.full((BM,), -1e30, f32), zl.zeros((BM,), f32), zl.zeros((BM, HD), f32)
    for cols in S.tiles(BN):
        seen = cols.active[None, :] & (cols[None, :] <= rows[:, None] + (S - T))
        score = zl.where(seen, zl.dot(query, k[b, h, cols, :].T), -1e30)
        top = zl.maximum(best, zl.max(score, axis=1))
        weight, fix = zl.exp(score - top[:, None]), zl.exp(best - top)
        total = total * fix + zl.sum(weight, axis=1)
        acc = zl.dot(weight, v[b, h, cols, :], acc * fix[:, None])
        best = top
    out[b, h, rows, :] = acc / total[:, None]
    lse[b, h, rows] = best + zl.log(total)


@zl.inline
def weights(query, key, lse, rows, cols, offset):
    """The soft-max weights of a tile, recomputed: 0 where a key is not seen."""
    seen = rows.active[:, None] & cols.active[None, :] & (cols[None, :] <= rows[:, None] + offset)
    return zl.where(seen, zl.exp(zl.dot(query, key.T) - lse[:, None]), 0.0)


@zl.kernel
def attention_backward_q(
    q: zl.In[f32, B, H, T, HD], k: zl.In[f32, B, H, S, HD], v: zl.In[f32, B, H, S, HD],
    out: zl.In[f32, B, H, T, HD], lse: zl.In[f32, B, H, T], dout: zl.In[f32, B, H, T, HD], scale: f32,
    *, dq: zl.Out[f32, B, H, T, HD], delta: zl.Out[f32, B, H, T], BM: zl.Static = 32, BN: zl.Static = 32,
):  # fmt: skip
    """dq, one program a tile of queries; delta = Σ out · dout of each row, which dk needs too."""
    zl.requires(S >= T)
    b, h, rows = zl.grid(B, H, T.tiles(BM))
    query, upstream = q[b, h, rows, :] * scale, dout[b, h, rows, :]
    own = zl.sum(out[b, h, rows, :] * upstream, axis=1)
    acc = zl.zeros((BM, HD), f32)
    for cols in S.tiles(BN):
        weight = weights(query, k[b, h, cols, :], lse[b, h, rows], rows, cols, S - T)
        ds = weight * (zl.dot(upstream, v[b, h, cols, :].T) - own[:, None])
        acc = zl.dot(ds, k[b, h, cols, :], acc)
    dq[b, h, rows, :] = acc * scale
    delta[b, h, rows] = own


@zl.kernel
def attention_backward_kv(
    q: zl.In[f32, B, H, T, HD], k: zl.In[f32, B, H, S, HD], v: zl.In[f32, B, H, S, HD],
    lse: zl.In[f32, B, H, T], delta: zl.In[f32, B, H, T], dout: zl.In[f32, B, H, T, HD], scale: f32,
    *, dk: zl.Out[f32, B, H, S, HD], dv: zl.Out[f32, B, H, S, HD], BM: zl.Static = 32, BN: zl.Static = 32,
):  # fmt: skip
    """dk and dv, one program a tile of keys."""
    zl.requires(S >= T)
    b, h, cols = zl.grid(B, H, S.tiles(BN))
    key, value = k[b, h, cols, :], v[b, h, cols, :]
    dkey, dvalue = zl.zeros((BN, HD), f32), zl.zeros((BN, HD), f32)
    for rows in T.tiles(BM):
        query, upstream = q[b, h, rows, :] * scale, dout[b, h, rows, :]
        weight = weights(query, key, lse[b, h, rows], rows, cols, S - T)
        dvalue = zl.dot(weight.T, upstream, dvalue)
        ds = weight * (zl.dot(upstream, value.T) - delta[b, h, rows][:, None])
        dkey = zl.dot(ds.T, query, dkey)
    dk[b, h, cols, :] = dkey
    dv[b, h, cols, :] = dvalue


def check() -> None:
    rng = np.random.default_rng(0)
    for t, s, hd in ((1, 1, 4), (33, 33, 8), (7, 50, 16)):
        q, dout = rng.standard_normal((2, 1, 2, t, hd), np.float32)
        k, v = rng.standard_normal((2, 1, 2, s, hd), np.float32)
        scale = hd**-0.5
        out, lse = attention(q, k, v, scale)
        dq, delta = attention_backward_q(q, k, v, out, lse, dout, scale)
        dk, dv = attention_backward_kv(q, k, v, lse, delta, dout, scale)

        seen = np.arange(s) <= np.arange(t)[:, None] + (s - t)
        score = np.where(seen, scale * q @ k.swapaxes(-1, -2), -np.inf)
        p = np.exp(score - score.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        dp = dout @ v.swapaxes(-1, -2)
        ds = p * (dp - (dp * p).sum(-1, keepdims=True))
        expected = [p @ v, scale * ds @ k, scale * ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ dout]
        for ours, theirs in zip((out, dq, dk, dv), expected, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    check()
