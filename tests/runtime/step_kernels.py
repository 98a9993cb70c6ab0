"""Kernels whose launches random steps are made of: all ways to read, write, gather, reduce and update that fusion has to tell apart."""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f32, i32, u64

N, M, P, Q = zl.dims("N M P Q")
G = zl.dims("G")
"""Kernels name the one extent of a step differently, so that fusion has dims to make one. G: extent of a gathered axis."""


@zl.kernel
def scaled(x: zl.In[f32, M, N], by: f32, *, y: zl.Out[f32, M, N], BN: zl.Static = 4):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, n] * by


@zl.kernel
def added(a: zl.In[f32, P, Q], b: zl.In[f32, P, Q], *, c: zl.Out[f32, P, Q], BP: zl.Static = 2, BQ: zl.Static = 8):
    q, p = zl.grid(Q.tiles(BQ), P.tiles(BP))
    c[p, q] = a[p, q] + b[p, q]


@zl.kernel
def accumulated(x: zl.In[f32, M, N], *, h: zl.Mut[f32, M, N], BN: zl.Static = 4):
    m, n = zl.grid(M, N.tiles(BN))
    h[m, n] = h[m, n] + x[m, n]


@zl.kernel
def tripled(*, h: zl.Mut[f32, P, Q], BQ: zl.Static = 8):
    p, q = zl.grid(P, Q.tiles(BQ))
    h[p, q] = h[p, q] * 3.0


@zl.kernel
def read_again(x: zl.In[f32, M, N], *, h: zl.Mut[f32, M, N], y: zl.Out[f32, M, N], BN: zl.Static = 4):
    m, n = zl.grid(M, N.tiles(BN))
    h[m, n] = h[m, n] - x[m, n]
    y[m, n] = h[m, n] * 0.5


@zl.kernel
def even_lanes(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M, N], BN: zl.Static = 4):
    m, n = zl.grid(M, N.tiles(BN))
    even = zl.only(n, n % 2 == 0)
    y[m, even] = x[m, even] * 2.0


@zl.kernel
def even_rows(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M, N], BN: zl.Static = 4):
    m, n = zl.grid(M, N.tiles(BN))
    if m % 2 == 1:
        return
    y[m, n] = x[m, n] + 1.0


@zl.kernel
def padded(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 4):
    m, n = zl.grid(M, N.tiles(BN))
    odd = zl.only(n, n % 2 == 1)
    y[m, n] = x.load(m, odd, pad=5.0) + zl.max(x.load(m, n, pad=2.0), pad=-1.0)


@zl.kernel
def mirrored(x: zl.In[f32, N, N], *, y: zl.Out[f32, N, N]):
    i, j = zl.grid(N, N)
    y[i, j] = x[j, i] - x[i, j]


@zl.kernel
def rotated(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    zl.requires(M >= 1)
    m, n = zl.grid(M, N)
    y[m, n] = x[(m + 1) % M, n]


@zl.kernel
def backwards(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    for k in range(N):
        y[m, N - 1 - k] = x[m, k]


@zl.kernel
def centred(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    zl.requires(N >= 1)
    m = zl.grid(M)
    row = x[m, :]
    y[m, :] = row - zl.max(row)


@zl.kernel
def centred_in_place(*, x: zl.Mut[f32, M, N]):
    zl.requires(N >= 1)
    m = zl.grid(M)
    x[m, :] = x[m, :] - zl.min(x[m, :])


@zl.kernel
def summed(x: zl.In[f32, P, Q], *, y: zl.Out[f32, P], BQ: zl.Static = 4):
    p = zl.grid(P)
    total = zl.zeros((), f32)
    for q in Q.tiles(BQ):
        total = total + zl.sum(x[p, q])
    y[p] = total


@zl.kernel
def column_maxima(x: zl.In[f32, M, N], *, y: zl.Acc(init=-9.0)[f32, N]):
    m, n = zl.grid(M, N)
    y.max(n, x[m, n])  # not a sum: its order is free


@zl.kernel
def row_added(x: zl.In[f32, M, N], v: zl.In[f32, N], *, y: zl.Out[f32, M, N], BM: zl.Static = 2, BN: zl.Static = 4):
    m, n = zl.grid(M.tiles(BM), N.tiles(BN))
    y[m, n] = x[m, n] + v[n][None, :]


@zl.kernel
def column_added(x: zl.In[f32, M, N], v: zl.In[f32, M], *, y: zl.Out[f32, M, N], BM: zl.Static = 2, BN: zl.Static = 4):
    m, n = zl.grid(M.tiles(BM), N.tiles(BN))
    y[m, n] = x[m, n] - v[m][:, None]


@zl.kernel
def product(
    x: zl.In[f32, M, P],
    w: zl.In[f32, P, N],
    *,
    y: zl.Out[f32, M, N],
    BM: zl.Static = 2,
    BN: zl.Static = 4,
    BK: zl.Static = 4,
):
    m, n = zl.grid(M.tiles(BM), N.tiles(BN))
    acc = zl.zeros((BM, BN), f32)
    for k in P.tiles(BK):
        acc = zl.dot(x[m, k], w[k, n], acc)
    y[m, n] = acc * 0.125


@zl.kernel
def greatest(x: zl.In[f32, M, G], *, at: zl.Out[zl.Index[G], M]):
    zl.requires(G >= 1)
    m = zl.grid(M)
    at[m] = zl.argmax(x[m, :])


@zl.kernel
def following(i: zl.In[zl.Index[G], M], of: zl.In[f32, G], *, at: zl.Out[zl.Index[G], M], B: zl.Static = 4):
    m = zl.grid(M.tiles(B))
    at[m] = (i[m] + 1) % G


@zl.kernel
def halved_index(of: zl.In[f32, G], *, at: zl.Mut[zl.Index[G], M]):
    m = zl.grid(M)
    at[m] = at[m] // 2


@zl.kernel
def any_integer(x: zl.In[i32, M], *, at: zl.Mut[i32, M], B: zl.Static = 4):
    m = zl.grid(M.tiles(B))
    at[m] = at[m] // 2 + x[m] * 0


@zl.kernel
def gathered(
    x: zl.In[f32, G, N], at: zl.In[zl.Index[G], M], *, y: zl.Out[f32, M, N], BM: zl.Static = 2, BN: zl.Static = 4
):
    m, n = zl.grid(M.tiles(BM), N.tiles(BN))
    y[m, n] = x[at[m], n]


@zl.kernel
def scattered(x: zl.In[f32, M, N], to: zl.In[zl.Permutation[M], M], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    y[to[m], :] = x[m, :] + 1.0


@zl.kernel
def scattered_into(x: zl.In[f32, M, N], to: zl.In[zl.Permutation[M], M], *, y: zl.Mut[f32, M, N]):
    m = zl.grid(M)
    y[to[m], :] = y[to[m], :] + x[m, :]


@zl.kernel
def sorted_order(x: zl.In[f32, N], *, order: zl.Out[zl.Permutation[N], N]):
    i = zl.grid(1)
    values, places = zl.sort(x[:])
    order[:] = places + 0 * i


@zl.kernel
def ragged(x: zl.In[f32, M, N], starts: zl.In[zl.Offsets[M], G], *, y: zl.Out[f32, M, N], B: zl.Static = 2):
    zl.requires(G >= 1)
    s, rows = zl.grid(starts.tiles(B))
    y[rows, :] = x[rows, :] * 0.5


@zl.kernel
def noisy(x: zl.In[f32, M, N], seed: u64, *, y: zl.Out[f32, M, N], BN: zl.Static = 4):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = zl.where(zl.random_uniform(seed, m * N + n) > 0.3, x[m, n], 0.0)


@zl.kernel
def numbered(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BM: zl.Static = 2, BN: zl.Static = 4):
    m, n = zl.grid(M.tiles(BM), N.tiles(BN))
    y[m, n] = x[m, n] + (m[:, None] * N + n[None, :]).to(f32)


@zl.kernel
def shortened(x: zl.In[f32, M, N], *, y: zl.Out[bf16, M, N], BN: zl.Static = 4):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = (x[m, n] * 1.7).to(bf16)


@zl.kernel
def short_products(x: zl.In[bf16, M, N], y: zl.In[bf16, M, N], *, z: zl.Out[bf16, M, N], BN: zl.Static = 4):
    m, n = zl.grid(M, N.tiles(BN))
    z[m, n] = x[m, n] * y[m, n] + y[m, n]


@zl.kernel
def widened(x: zl.In[bf16, P, Q], *, y: zl.Out[f32, P, Q], BQ: zl.Static = 8):
    p, q = zl.grid(P, Q.tiles(BQ))
    y[p, q] = x[p, q].to(f32) * 3.0


@zl.kernel
def guarded(x: zl.In[f32, M, N], raw: zl.In[i32, M], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    y[m, :] = x[zl.guard(raw[m], below=M), :]


@zl.kernel
def constant(*, y: zl.Out[f32, M, N], BM: zl.Static = 4):
    m, n = zl.grid(M.tiles(BM), N)
    y[m, n] = 7.0


@zl.kernel
def running(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    y[m, :] = zl.cumsum(x[m, :]) * 0.25


@zl.kernel
def twice_stored(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 4):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, n]
    if m % 2 == 0:
        y[m, n] = x[m, n] * -1.0
