"""Kernels for many tokens at once in bf16, prefill and batched decode: products that end a block, attention over pages.

The residual stream is f32 [T, D]; products read bf16 and sum in f32.
"""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f32
from zellige.kernels.gpu_attention import LOG2E, attend

T, D, N, K, F, HK, G, HD, NB, P, PAGES, PARTS = zl.dims("T D N K F HK G HD NB P PAGES PARTS")
Y = zl.dtypes("Y", bf16, f32)


@zl.kernel
def norm_rows(h: zl.In[f32, T, D], g: zl.In[bf16, D], eps: f32, *, x: zl.Out[bf16, T, D]):
    """x = rms_norm(h, g). h f32 [T, D]; g bf16 [D]; x bf16 [T, D]."""
    t = zl.grid(T)
    row = h[t, :]
    x[t, :] = (row * zl.rsqrt(zl.mean(row * row) + eps) * g[:].to(f32)).to(bf16)


@zl.kernel
def linear_rows(
    x: zl.In[bf16, T, K],
    w: zl.In[bf16, N, K],
    *,
    y: zl.Out[Y, T, N],
    BM: zl.Static = 128,
    BN: zl.Static = 128,
    BK: zl.Static = 64,
):
    """y = x·wᵀ. x bf16 [T, K]; w bf16 [N, K]; y [T, N]."""
    rows, cols = zl.grid(T.tiles(BM), N.tiles(BN), order=zl.grouped(8))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    y[rows, cols] = acc.to(y.dtype)


@zl.kernel
def linear_rows_add(
    x: zl.In[bf16, T, K],
    w: zl.In[bf16, N, K],
    *,
    h: zl.Mut[f32, T, N],
    BM: zl.Static = 128,
    BN: zl.Static = 128,
    BK: zl.Static = 64,
):
    """h += x·wᵀ. x bf16 [T, K]; w bf16 [N, K]; h f32 [T, N]. The sum starts from h: no second tile in registers."""
    rows, cols = zl.grid(T.tiles(BM), N.tiles(BN), order=zl.grouped(8))
    acc = h[rows, cols]
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    h[rows, cols] = acc


@zl.kernel
def swiglu_rows(
    x: zl.In[bf16, T, K],
    gate: zl.In[bf16, F, K],
    up: zl.In[bf16, F, K],
    *,
    y: zl.Out[bf16, T, F],
    BM: zl.Static = 128,
    BN: zl.Static = 128,
    BK: zl.Static = 64,
):
    """y = silu(x·gateᵀ) · (x·upᵀ) (Shazeer, 2020). x bf16 [T, K]; gate, up bf16 [F, K]; y bf16 [T, F]."""
    rows, cols = zl.grid(T.tiles(BM), F.tiles(BN), order=zl.grouped(8))
    a, b = zl.zeros((BM, BN), f32), zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        tile = x[rows, depth]
        a = zl.dot(tile, gate[cols, depth].T, a)
        b = zl.dot(tile, up[cols, depth].T, b)
    y[rows, cols] = (a * zl.sigmoid(a) * b).to(bf16)


@zl.kernel
def linear_parts(
    x: zl.In[bf16, T, K],
    w: zl.In[bf16, N, K],
    *,
    part: zl.Out[f32, PARTS, T, N],
    BM: zl.Static = 64,
    BN: zl.Static = 64,
    BK: zl.Static = 128,
    DEPTH: zl.Static = 1024,
):
    """Products over stretches of DEPTH of the inner axis, for few tokens: part[p] = x[:, p·DEPTH…]·w[:, p·DEPTH…]ᵀ.

    x bf16 [T, K]; w bf16 [N, K]; part f32 [PARTS, T, N]; PARTS·DEPTH ≥ K."""
    zl.requires(PARTS * DEPTH >= K)
    cols, p, rows = zl.grid(N.tiles(BN), PARTS, T.tiles(BM))
    acc = zl.zeros((BN, BM), f32)
    start = p * DEPTH
    for lane in zl.tiles(zl.minimum(zl.maximum(K - start, 0), DEPTH), BK):
        depth = lane + start
        acc = zl.dot(w[cols, depth], x[rows, depth].T, acc)
    part[p, rows, cols] = acc.T


@zl.kernel
def sum_parts(part: zl.In[f32, PARTS, T, N], *, y: zl.Out[Y, T, N], BN: zl.Static = 512):
    """y = Σₚ part[p]. part f32 [PARTS, T, N]; y [T, N]."""
    t, cols = zl.grid(T, N.tiles(BN))
    acc = zl.zeros((BN,), f32)
    for p in range(PARTS):
        acc = acc + part[p, t, cols]
    y[t, cols] = acc.to(y.dtype)


@zl.kernel
def sum_parts_add(part: zl.In[f32, PARTS, T, N], *, h: zl.Mut[f32, T, N], BN: zl.Static = 512):
    """h += Σₚ part[p]. part f32 [PARTS, T, N]; h f32 [T, N]."""
    t, cols = zl.grid(T, N.tiles(BN))
    acc = h[t, cols]
    for p in range(PARTS):
        acc = acc + part[p, t, cols]
    h[t, cols] = acc


@zl.kernel
def paged_prefill(
    q: zl.In[bf16, T, HK, G, HD],
    keys: zl.In[bf16, NB, P, HK, HD],
    values: zl.In[bf16, NB, P, HK, HD],
    table: zl.In[zl.Index[NB], PAGES],
    start: zl.UpTo[PAGES * P],
    scale: f32,
    *,
    out: zl.Out[bf16, T, HK, G, HD],
    BM: zl.Static = 64,
    BS: zl.Static = 64,
):
    """Causal attention of T consecutive tokens of one sequence, the first at position ``start``, over the paged cache.

    q, out bf16 [T, HK, G, HD]; keys, values bf16 [NB, P, HK, HD]; table Index[NB] [PAGES]; start + T ≤ PAGES·P."""
    zl.requires(start + T <= PAGES * P)
    tile, h, g = zl.grid(zl.ceildiv(T, BM), HK, G)
    first = tile * BM
    rows = first + zl.arange(BM)
    rows = zl.only(rows, rows < T)
    query = q[rows, h, g, :]
    best, total, acc = zl.full((BM,), -1e30, f32), zl.zeros((BM,), f32), zl.zeros((BM, HD), f32)
    steep = scale * LOG2E
    seen_by_all = (start + first) // BS * BS
    for pos in zl.tiles(seen_by_all, BS):
        page, row = table[pos // P], pos % P
        k, v = keys[page, row, h, :], values[page, row, h, :]
        best, total, acc = attend(query, k, v, best, total, acc, steep, pos.active[None, :])
    for more in zl.tiles(zl.minimum(first + BM, T) + start - seen_by_all, BS):
        pos = more + seen_by_all
        page, row = table[pos // P], pos % P
        k, v = keys[page, row, h, :], values[page, row, h, :]
        seen = more.active[None, :] & (pos[None, :] <= (rows + start)[:, None])
        best, total, acc = attend(query, k, v, best, total, acc, steep, seen)
    out[rows, h, g, :] = (acc / total[:, None]).to(bf16)


@zl.kernel
def prefill_attention(
    q: zl.In[bf16, T, HK, G, HD],
    k: zl.In[bf16, T, HK, HD],
    qkv: zl.In[bf16, T, HK * G + 2 * HK, HD],
    scale: f32,
    *,
    out: zl.Out[bf16, T, HK, G, HD],
    BM: zl.Static = 64,
    BS: zl.Static = 64,
):
    """Causal attention of a whole prompt over its own keys and values, where no cached ones come before it.

    q, out bf16 [T, HK, G, HD]; k bf16 [T, HK, HD], rotated; the values are the last HK heads of qkv."""
    tile, h, g = zl.grid(zl.ceildiv(T, BM), HK, G)
    first = tile * BM
    rows = first + zl.arange(BM)
    rows = zl.only(rows, rows < T)
    query = q[rows, h, g, :]
    best, total, acc = zl.full((BM,), -1e30, f32), zl.zeros((BM,), f32), zl.zeros((BM, HD), f32)
    steep = scale * LOG2E
    seen_by_all = first // BS * BS
    for pos in zl.tiles(seen_by_all, BS):
        value = qkv[pos, HK * G + HK + h, :]
        best, total, acc = attend(query, k[pos, h, :], value, best, total, acc, steep, pos.active[None, :])
    for more in zl.tiles(zl.minimum(first + BM, T) - seen_by_all, BS):
        pos = more + seen_by_all
        value = qkv[pos, HK * G + HK + h, :]
        seen = more.active[None, :] & (pos[None, :] <= rows[:, None])
        best, total, acc = attend(query, k[pos, h, :], value, best, total, acc, steep, seen)
    out[rows, h, g, :] = (acc / total[:, None]).to(bf16)
