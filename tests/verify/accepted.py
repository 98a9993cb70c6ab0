"""Correct kernels of every shape that the verifier has to see through."""

import zellige as zl
from zellige import f32, i32

M, N, K, T, D, H, B, P, NB, PAGES, HALF, V = zl.dims("M N K T D H B P NB PAGES HALF V")


@zl.kernel
def vector_add(x: zl.In[f32, M], y: zl.In[f32, M], *, out: zl.Out[f32, M], BM: zl.Static = 64):
    i = zl.grid(M.tiles(BM))
    out[i] = x[i] + y[i]


@zl.kernel
def vector_add_by_hand(x: zl.In[f32, M], y: zl.In[f32, M], *, out: zl.Out[f32, M], BM: zl.Static = 64):
    p = zl.grid(zl.ceildiv(M, BM))
    i = p * BM + zl.arange(BM)
    i = zl.only(i, i < M)
    out[i] = x[i] + y[i]


@zl.kernel
def matmul(
    a: zl.In[f32, M, K], b: zl.In[f32, K, N], *, c: zl.Out[f32, M, N],
    BM: zl.Static = 32, BN: zl.Static = 32, BK: zl.Static = 16,
):  # fmt: skip
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(a[rows, depth], b[depth, cols], acc)
    c[rows, cols] = acc


@zl.kernel
def grouped_swizzle(*, c: zl.Out[f32, M, N], GROUP: zl.Static = 4):
    zl.requires(N > 0)
    pid = zl.grid(M * N)
    group = pid // (GROUP * N)
    first = group * GROUP
    size = zl.minimum(M - first, GROUP)
    inside = pid % (GROUP * N)
    c[first + inside % size, inside // size] = 1.0


@zl.kernel
def row_major_by_hand(*, c: zl.Out[f32, M, N]):
    zl.requires(N > 0)
    pid = zl.grid(M * N)
    c[pid // N, pid % N] = 1.0


@zl.kernel
def transpose(x: zl.In[f32, M, N], *, y: zl.Out[f32, N, M], BM: zl.Static = 32, BN: zl.Static = 16):
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN))
    y[cols, rows] = x[rows, cols].T


@zl.kernel
def kv_append(
    k: zl.In[f32, T, H, D],
    slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], T],
    *,
    pages: zl.Mut[f32, NB, P, H, D],
):
    t, h = zl.grid(T, H)
    s = slot[t]
    if s.present:
        pages[s // P, s % P, h, :] = k[t, h, :]


@zl.kernel
def permuted_scatter(x: zl.In[f32, N], where: zl.In[zl.Permutation[N], N], *, y: zl.Out[f32, N]):
    i = zl.grid(N)
    y[where[i]] = x[i]


@zl.kernel
def rope_pairs(cosine: zl.In[f32, T, HALF], sine: zl.In[f32, T, HALF], *, x: zl.Mut[f32, T, H, 2 * HALF]):
    t, h = zl.grid(T, H)
    i = zl.arange(HALF)
    a, b = x[t, h, i], x[t, h, i + HALF]
    x[t, h, i] = a * cosine[t, i] - b * sine[t, i]
    x[t, h, i + HALF] = a * sine[t, i] + b * cosine[t, i]


@zl.kernel
def both_branches(x: zl.In[f32, M], flag: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    if flag[i] > 0:
        y[i] = x[i]
    else:
        y[i] = 0.0


@zl.kernel
def stencil(x: zl.In[f32, M], *, y: zl.Out[f32, M], BM: zl.Static = 32):
    i = zl.grid(M.tiles(BM))
    left = zl.only(i - 1, i > 0)
    right = zl.only(i + 1, i + 1 < M)
    y[i] = x[left] + x[i] + x[right]


@zl.kernel
def split_k(x: zl.In[f32, K], *, y: zl.Acc(init=0)[f32, 1], BK: zl.Static = 32):
    k = zl.grid(K.tiles(BK))
    y.add(0, zl.sum(x[k]))


@zl.kernel
def rows_in_a_loop(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m = zl.grid(M)
    for n in N.tiles(BN):
        y[m, n] = x[m, n] * 2.0


@zl.kernel
def two_stores(x: zl.In[f32, M], *, y: zl.Out[f32, 2 * M], BM: zl.Static = 16):
    i = zl.grid(M.tiles(BM))
    y[2 * i] = x[i]
    y[2 * i + 1] = -x[i]


@zl.kernel
def walking_index(x: zl.In[f32, M], *, y: zl.Out[f32, B]):
    b = zl.grid(B)
    at, total = 0, zl.zeros((), f32)
    for step in range(M):
        total = total + x[at]
        at = at + 1
    y[b] = total


@zl.kernel
def clamped_walk(x: zl.In[f32, M], jump: zl.In[i32, B], *, y: zl.Out[f32, B]):
    zl.requires(M > 0)
    b = zl.grid(B)
    at, total = 0, zl.zeros((), f32)
    for step in range(10):
        total = total + x[at]
        at = zl.clamp(at + jump[b], 0, M - 1)
    y[b] = total


@zl.kernel
def binary_search(sorted_values: zl.In[f32, N], wanted: zl.In[f32, B], *, place: zl.Out[zl.UpTo[N], B]):
    b = zl.grid(B)
    low, high = 0, N
    while zl.bounded(low < high, 64):
        middle = (low + high) // 2
        if sorted_values[middle] < wanted[b]:
            low = middle + 1
        else:
            high = middle
    place[b] = low


@zl.kernel
def guarded(x: zl.In[f32, N], rows: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[zl.guard(rows[i], below=N)]


@zl.kernel
def argmax_rows(x: zl.In[f32, B, V], *, token: zl.Out[zl.Index[V], B]):
    zl.requires(V >= 1)
    b = zl.grid(B)
    token[b] = zl.argmax(x[b, :])


@zl.kernel
def follow_twice(x: zl.In[f32, N], next: zl.In[zl.Index[N], N], *, y: zl.Out[f32, N]):
    i = zl.grid(N)
    y[i] = x[next[next[i]]]


@zl.kernel
def paged_sum(
    keys: zl.In[f32, NB, P], table: zl.In[zl.Index[NB], B, PAGES], length: zl.In[zl.UpTo[PAGES * P], B], *,
    out: zl.Out[f32, B], BS: zl.Static = 16,
):  # fmt: skip
    b = zl.grid(B)
    total = zl.zeros((), f32)
    for pos in zl.tiles(length[b], BS):
        total = total + zl.sum(keys[table[b, pos // P], pos % P])
    out[b] = total


@zl.kernel
def segment_sums(x: zl.In[f32, N], offsets: zl.In[zl.Offsets[N], B + 1], *, y: zl.Out[f32, B], BS: zl.Static = 16):
    b = zl.grid(B)
    first, last = offsets[b], offsets[b + 1]
    total = zl.zeros((), f32)
    for i in zl.tiles(last - first, BS):
        total = total + zl.sum(x[first + i])
    y[b] = total


@zl.kernel
def segment_scale(offsets: zl.In[zl.Offsets[N], B + 1], *, x: zl.Mut[f32, N], BS: zl.Static = 16):
    b = zl.grid(B)
    first, last = offsets[b], offsets[b + 1]
    for i in zl.tiles(last - first, BS):
        x[first + i] = x[first + i] * 2.0


@zl.kernel(index_bits=32)
def small_fill(*, y: zl.Out[f32, M], BM: zl.Static = 1000):
    zl.requires(M <= 1_000_000)
    i = zl.grid(M.tiles(BM))
    y[i] = zl.zeros((BM,), f32)


@zl.kernel
def sorted_rows(x: zl.In[f32, M, 16], payload: zl.In[f32, M, 16], *, y: zl.Out[f32, M, 16]):
    m = zl.grid(M)
    _, order = zl.sort(x[m, :])
    y[m, order] = zl.gather(payload[m, :], order)


@zl.kernel
def persistent(*, y: zl.Out[f32, M, N], WORKERS: zl.Static = 3):
    zl.requires(N > 0)
    worker = zl.grid(WORKERS)
    for t in range(worker, M * N, WORKERS):
        y[t // N, t % N] = 1.0


@zl.kernel
def largest_of_a_span(x: zl.In[f32, M], *, y: zl.Out[f32, M], BM: zl.Static = 8):
    rows = zl.grid(M.tiles(BM))
    last = zl.max(rows, pad=-1)
    y[rows] = x[last] + x[rows]


@zl.kernel
def two_ends_swapped(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    a, b, total = 0, N - 1, zl.zeros((), f32)
    for _ in range(N):
        total = total + x[a] + x[b]
        a, b = b, a
    y[t] = total
