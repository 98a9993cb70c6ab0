"""Products and attention whose sums have one order whatever the number of tokens: for runs in which a request's neighbours must not show.

Experts' products for few tokens skip the sorting that more need: where a pair comes among its expert's rows is not seen in its sums.
Attention takes each tile of BS positions by itself, as if there were no other, and folds the tiles together in their order. So it does not
matter whether one program goes over a context, or several do and another folds what they found.
"""

from __future__ import annotations

import zellige as zl
from zellige import f32
from zellige.kernels.gpu_attention import LOG2E
from zellige.kernels.pages import KV
from zellige.kernels.precision import X, rounded

T, N, K, E, F, C = zl.dims("T N K E F C")
B, HK, G, HD, NB, P, PAGES, TILES, PARTS = zl.dims("B HK G HD NB P PAGES TILES PARTS")
LEAST = -1e6
"""The reference of a row that has seen nothing: 2 to this power is 0, as it is to any real exponent below it."""


@zl.kernel
def linear_stretches_add(
    x: zl.In[X, T, K],
    w: zl.In[X, N, K],
    *,
    h: zl.Mut[f32, T, N],
    BM: zl.Static = 64,
    BN: zl.Static = 64,
    BK: zl.Static = 128,
    DEPTH: zl.Static = 1024,
):
    """h += x·wᵀ, summed as ``linear_parts`` and ``sum_parts_norm`` do: stretches of DEPTH of the inner axis one after the other.

    x [T, K]; w [N, K]; h f32 [T, N]."""
    cols, rows = zl.grid(N.tiles(BN), T.tiles(BM))
    total = h[rows, cols]
    for p in range(zl.ceildiv(K, DEPTH)):
        acc = zl.zeros((BN, BM), f32)
        start = p * DEPTH
        for lane in zl.tiles(zl.minimum(K - start, DEPTH), BK):
            depth = lane + start
            acc = zl.dot(w[cols, depth], x[rows, depth].T, acc)
        total = total + acc.T
    h[rows, cols] = total


@zl.kernel
def expert_swiglu_each(
    x: zl.In[X, T, K],
    gate: zl.In[X, E, F, K],
    up: zl.In[X, E, F, K],
    expert: zl.In[zl.Index[E], T, C],
    *,
    y: zl.Out[X, T, C, F],
    BM: zl.Static = 16,
    BN: zl.Static = 64,
    BK: zl.Static = 64,
):
    """``gpu_moe.expert_swiglu`` for few tokens: each pair of a token and a choice is one row of a tile of its own, and nothing is sorted.

    x [T, K]; gate, up [E, F, K]; y [T, C, F]."""
    cols, c, t = zl.grid(F.tiles(BN), C, T)
    e, lane = expert[t, c], zl.arange(BM)
    row = zl.only(t + lane, lane < 1)
    a, b = zl.zeros((BN, BM), f32), zl.zeros((BN, BM), f32)
    for depth in K.tiles(BK):
        tile = x[row, depth].T
        a = zl.dot(gate[e, cols, depth], tile, a)
        b = zl.dot(up[e, cols, depth], tile, b)
    a, b = zl.max(a, axis=1, pad=-zl.inf), zl.max(b, axis=1, pad=-zl.inf)  # of the one row that is there
    y[t, c, cols] = rounded(a * zl.sigmoid(a) * b, y.dtype)


@zl.kernel
def expert_down_each(
    x: zl.In[X, T, C, K],
    w: zl.In[X, E, N, K],
    expert: zl.In[zl.Index[E], T, C],
    *,
    y: zl.Out[f32, T, C, N],
    BM: zl.Static = 16,
    BN: zl.Static = 64,
    BK: zl.Static = 64,
):
    """``gpu_moe.expert_down`` as ``expert_swiglu_each`` does it. x [T, C, K]; w [E, N, K]; y f32 [T, C, N]."""
    cols, c, t = zl.grid(N.tiles(BN), C, T)
    e, lane = expert[t, c], zl.arange(BM)
    row = zl.only(t + lane, lane < 1)
    acc = zl.zeros((BN, BM), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(w[e, cols, depth], x[row, c, depth].T, acc)
    y[t, c, cols] = zl.max(acc, axis=1, pad=-zl.inf)


@zl.inline
def attend_apart(query, keys, values, steep, seen):
    """(reference, sum of weights, weighted sum) of one tile; ``steep`` is scale · log2(e) > 0; weights are 2^(score · steep − reference).

    query [M, HD]; keys, values [BS, HD]; seen bool, broadcast to [M, BS]. The reference is the largest exponent
    rounded up to a whole number, LEAST for a row that sees nothing, whose weights are 0."""
    score = zl.where(seen, zl.dot(query, keys.T), -1e30)
    top = zl.maximum(zl.ceil(zl.max(score, axis=1) * steep), LEAST)
    weight = zl.exp2(score * steep - top[:, None])
    return top, zl.sum(weight, axis=1), zl.dot(weight.to(values.dtype), values)


@zl.inline
def fold(best, total, acc, more_best, more_total, more):
    """The soft-max over what came before and one tile more.

    References are whole, so both factors are powers of two and both products exact: each sum is rounded once, whether or not
    a compiler makes multiply-adds of it, and of which of the two products."""
    top = zl.maximum(best, more_best)
    a, b = zl.exp2(best - top), zl.exp2(more_best - top)
    return top, total * a + more_total * b, acc * a[:, None] + more * b[:, None]


@zl.kernel
def paged_decode_folded(
    q: zl.In[X, B, HK, G, HD],
    keys: zl.In[KV, NB, P, HK, HD],
    values: zl.In[KV, NB, P, HK, HD],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    scale: f32,
    *,
    out: zl.Out[X, B, HK, G, HD],
    BS: zl.Static = 64,
):
    """Attention of one query over its context. q, out [B, HK, G, HD]; keys, values KV [NB, P, HK, HD]."""
    b, h = zl.grid(B, HK)
    query = q[b, h, :, :]
    best, total, acc = zl.full((G,), LEAST, f32), zl.zeros((G,), f32), zl.zeros((G, HD), f32)
    steep = scale * LOG2E
    for pos in zl.tiles(length[b], BS):
        page, row = table[b, pos // P], pos % P
        k, v = keys[page, row, h, :].to(q.dtype), values[page, row, h, :].to(q.dtype)
        more = attend_apart(query, k, v, steep, pos.active[None, :])
        best, total, acc = fold(best, total, acc, more[0], more[1], more[2])
    out[b, h, :, :] = (acc / zl.maximum(total, 1e-30)[:, None]).to(out.dtype)


@zl.inline
def put_tile(query, keys, values, page, pos, b, h, tile, steep, part, best_of, total_of):
    """What ``attend_apart`` finds in the active ones of some positions, as a tile of a context."""
    row = pos % keys.shape[1]
    k, v = keys[page, row, h, :].to(query.dtype), values[page, row, h, :].to(query.dtype)
    best, total, acc = attend_apart(query, k, v, steep, pos.active[None, :])
    part[b, h, tile, :, :] = acc
    best_of[b, h, tile, :] = best
    total_of[b, h, tile, :] = total


@zl.kernel
def paged_decode_tiles(
    q: zl.In[X, B, HK, G, HD],
    keys: zl.In[KV, NB, P, HK, HD],
    values: zl.In[KV, NB, P, HK, HD],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    scale: f32,
    *,
    part: zl.Mut[f32, B, HK, PARTS, G, HD],
    best_of: zl.Mut[f32, B, HK, PARTS, G],
    total_of: zl.Mut[f32, B, HK, PARTS, G],
    WAYS: zl.Static = 16,
    BS: zl.Static = 64,
):
    """Each tile of the contexts of ``paged_decode_folded`` by itself, by WAYS programs a context; PARTS·BS ≥ PAGES·P.

    part f32 [B, HK, PARTS, G, HD]; tiles beyond a context keep what they have."""
    zl.requires((PARTS * BS >= PAGES * P) & (P >= 1) & (PAGES >= 1))
    b, h, s = zl.grid(B, HK, WAYS)
    query = q[b, h, :, :]
    steep = scale * LOG2E
    count = length[b]
    pos = s * BS + zl.arange(BS)
    page = table[b, zl.minimum(pos // P, PAGES - 1)]  # need not wait for the length of the context
    if s * BS < count:
        put_tile(query, keys, values, page, zl.only(pos, pos < count), b, h, s, steep, part, best_of, total_of)
    for tile in range(s + WAYS, (count + BS - 1) // BS, WAYS):
        pos = tile * BS + zl.arange(BS)
        pos = zl.only(pos, pos < count)
        put_tile(query, keys, values, table[b, pos // P], pos, b, h, tile, steep, part, best_of, total_of)


@zl.kernel
def fold_tiles(
    part: zl.In[f32, B, HK, PARTS, G, HD],
    best_of: zl.In[f32, B, HK, PARTS, G],
    total_of: zl.In[f32, B, HK, PARTS, G],
    length: zl.In[zl.UpTo[PARTS * 64], B],
    *,
    out: zl.Out[X, B, HK, G, HD],
    BG: zl.Static = 1,
):
    """Folds the tiles of ``paged_decode_tiles``, 64 positions each, together. out [B, HK, G, HD]."""
    b, h, g = zl.grid(B, HK, G.tiles(BG))
    best, total, acc = zl.full((BG,), LEAST, f32), zl.zeros((BG,), f32), zl.zeros((BG, HD), f32)
    for tile in range((length[b] + 63) // 64):
        more = part[b, h, tile, g, :]
        best, total, acc = fold(best, total, acc, best_of[b, h, tile, g], total_of[b, h, tile, g], more)
    out[b, h, g, :] = (acc / zl.maximum(total, 1e-30)[:, None]).to(out.dtype)


@zl.kernel
def paged_prefill_folded(
    q: zl.In[X, T, HK, G, HD],
    keys: zl.In[KV, NB, P, HK, HD],
    values: zl.In[KV, NB, P, HK, HD],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    owner: zl.In[zl.Index[B], TILES],
    start: zl.In[zl.UpTo[PAGES * P], TILES],
    scale: f32,
    *,
    out: zl.Out[X, T, HK, G, HD],
    BM: zl.Static = 16,
    BS: zl.Static = 64,
):
    """``paged_prefill`` with the arithmetic of ``paged_decode_folded``. Same shapes."""
    zl.requires(TILES * BM == T)
    tile, h, g = zl.grid(TILES, HK, G)
    b, first = owner[tile], start[tile]
    lane = zl.arange(BM)
    rows = tile * BM + lane
    query = q[rows, h, g, :]
    best, total, acc = zl.full((BM,), LEAST, f32), zl.zeros((BM,), f32), zl.zeros((BM, HD), f32)
    steep = scale * LOG2E
    for pos in zl.tiles(zl.minimum(first + BM, length[b]), BS):
        page, row = table[b, pos // P], pos % P
        k, v = keys[page, row, h, :].to(q.dtype), values[page, row, h, :].to(q.dtype)
        more = attend_apart(query, k, v, steep, pos.active[None, :] & (pos[None, :] <= (lane + first)[:, None]))
        best, total, acc = fold(best, total, acc, more[0], more[1], more[2])
    out[rows, h, g, :] = (acc / zl.maximum(total, 1e-30)[:, None]).to(out.dtype)
