"""Attention of one token a sequence over a paged cache: keys and values lie in pages, a table says which (Kwon et al., 2023)."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

B, PAGES, NB, P, HK, G, HD = zl.dims("B PAGES NB P HK G HD")


@zl.kernel
def paged_attention(
    q: zl.In[f32, B, HK, G, HD], keys: zl.In[f32, NB, P, HK, HD], values: zl.In[f32, NB, P, HK, HD],
    table: zl.In[zl.Index[NB], B, PAGES], length: zl.In[zl.UpTo[PAGES * P], B], scale: f32,
    *, out: zl.Out[f32, B, HK, G, HD], BS: zl.Static = 16,
):  # fmt: skip
    b, h = zl.grid(B, HK)
    query = q[b, h, :, :] * scale
    best, total, acc = zl.full((G,), -1e30, f32), zl.zeros((G,), f32), zl.zeros((G, HD), f32)
    for pos in zl.tiles(length[b], BS):
        page, row = table[b, pos // P], pos % P
        score = zl.where(pos.active[None, :], zl.dot(query, keys[page, row, h, :].T), -1e30)
        top = zl.maximum(best, zl.max(score, axis=1))
        weight, fix = zl.exp(score - top[:, None]), zl.exp(best - top)
        total = total * fix + zl.sum(weight, axis=1)
        acc = zl.dot(weight, values[page, row, h, :], acc * fix[:, None])
        best = top
    out[b, h, :, :] = acc / zl.maximum(total, 1e-30)[:, None]


def check() -> None:
    rng = np.random.default_rng(0)
    b, pages, nb, p, hk, g, hd = 3, 5, 9, 4, 2, 3, 8
    q = rng.standard_normal((b, hk, g, hd), np.float32)
    keys, values = rng.standard_normal((2, nb, p, hk, hd), np.float32)
    table = rng.integers(0, nb, (b, pages)).astype(np.int32)
    length = np.array([20, 1, 13], np.int32)
    out = paged_attention(q, keys, values, table, length, 0.5).numpy()
    for i, n in enumerate(length):
        k, v = (x[table[i]].reshape(-1, hk, hd)[:n].transpose(1, 0, 2) for x in (keys, values))
        weight = np.exp(0.5 * q[i] @ k.transpose(0, 2, 1))
        np.testing.assert_allclose(out[i], weight / weight.sum(-1, keepdims=True) @ v, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    check()
