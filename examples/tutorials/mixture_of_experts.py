"""A mixture of experts: pairs (token, choice) are sorted by expert, multiplied expert by expert, and added up per token.

Routing is data: which rows a program reads and writes is known at run time only. Three contracts carry the proof: ``Offsets``
(the segments of experts are disjoint and cover all pairs), ``Permutation`` (a scatter through it writes everything once) and
``Index``.
"""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32, i32

T, C, PAIRS, E, K, N = zl.dims("T C PAIRS E K N")


@zl.kernel
def align(
    expert: zl.In[zl.Index[E], PAIRS],
    *,
    order: zl.Out[zl.Permutation[PAIRS], PAIRS],
    start: zl.Out[zl.Offsets[PAIRS], E + 1],
):
    """Pairs sorted by expert, and where each expert's pairs start among them: both contracts are proved here, so that the next
    kernel relies on them without a check."""
    zl.requires(E >= 1)
    zl.grid(1)
    _, order[:] = zl.sort(expert[:])
    count = zl.sum((expert[:][None, :] == zl.arange(E)[:, None]).to(i32), axis=1)
    start[:] = zl.offsets(count, total=PAIRS)


@zl.kernel
def expert_gemm(
    x: zl.In[f32, T, K], w: zl.In[f32, E, K, N], order: zl.In[zl.Permutation[T * C], T * C], start: zl.In[zl.Offsets[T * C], E + 1],
    *, y: zl.Out[f32, T * C, N], B: zl.Static = 16, BK: zl.Static = 16,
):  # fmt: skip
    """y[pair] = x[token of the pair]·w[expert of the pair], one program a tile of one expert's pairs."""
    e, rows, cols = zl.grid(start.tiles(B), N.tiles(B))
    pair = order[rows]
    acc = zl.zeros((B, B), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(x[pair // C, depth], w[e, depth, cols], acc)
    y[pair, cols] = acc


@zl.kernel
def combine(y: zl.In[f32, T, C, N], gate: zl.In[f32, T, C], *, out: zl.Out[f32, T, N]):
    """out[t] = Σ gate[t, c] · y[t, c]."""
    t = zl.grid(T)
    out[t, :] = zl.sum(gate[t, :][:, None] * y[t, :, :], axis=0)


def check() -> None:
    rng = np.random.default_rng(0)
    for t, c, e, k, n in ((1, 1, 1, 1, 1), (13, 2, 5, 20, 9)):
        x, w = rng.standard_normal((t, k), np.float32), rng.standard_normal((e, k, n), np.float32)
        expert = np.argsort(rng.random((t, e)), axis=1)[:, :c].astype(np.int32)
        gate = rng.random((t, c), np.float32)
        order, start = zl.empty((t * c,), i32), zl.empty((e + 1,), i32)
        align(expert.reshape(-1), order=order, start=start)
        y = zl.empty((t * c, n), f32)
        expert_gemm(x, w, order, start, y=y, C=c)
        out = combine(y.reshape(t, c, n), gate).numpy()
        np.testing.assert_allclose(out, np.einsum("tc,tk,tckn->tn", gate, x, w[expert]), rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    check()
