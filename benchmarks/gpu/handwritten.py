"""The same schedules written by hand in Triton, as peers."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def matvec(x, w, y, N, K, BN: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr = False):
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    acc = tl.zeros((BN, BK), tl.float32)
    for start in range(0, K, BK):
        k = start + tl.arange(0, BK)
        a = tl.load(
            w + rows[:, None].to(tl.int64) * K + k[None, :], mask=(rows[:, None] < N) & (k[None, :] < K), other=0.0
        )
        b = tl.load(x + k, mask=k < K, other=0.0)
        acc += a.to(tl.float32) * b.to(tl.float32)[None, :]
    tl.store(y + rows, tl.sum(acc, 1).to(tl.bfloat16), mask=rows < N)


@triton.jit
def matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    pid = tl.program_id(0)
    across, down = tl.cdiv(N, BN), tl.cdiv(M, BM)
    band = pid // (GROUP * across)
    height = min(down - band * GROUP, GROUP)
    row = band * GROUP + (pid % (GROUP * across)) % height
    column = (pid % (GROUP * across)) // height
    rows = (row * BM + tl.arange(0, BM)) % M
    columns = (column * BN + tl.arange(0, BN)) % N
    k = tl.arange(0, BK)
    left = a + rows[:, None] * K + k[None, :]
    right = b + k[:, None] * N + columns[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for i in range(0, tl.cdiv(K, BK)):
        x = tl.load(left, mask=k[None, :] < K - i * BK, other=0.0)
        z = tl.load(right, mask=k[:, None] < K - i * BK, other=0.0)
        acc = tl.dot(x, z, acc)
        left += BK
        right += BK * N
    rows = row * BM + tl.arange(0, BM)
    columns = column * BN + tl.arange(0, BN)
    tl.store(
        c + rows[:, None] * N + columns[None, :], acc.to(tl.bfloat16), mask=(rows[:, None] < M) & (columns[None, :] < N)
    )


@triton.jit
def thin_linear(x, w, y, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr = False):
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    rows = tl.arange(0, BM)
    k = tl.arange(0, BK)
    left = w + columns[:, None] * K + k[None, :]
    right = x + rows[None, :] * K + k[:, None]
    acc = tl.zeros((BN, BM), tl.float32)
    for i in range(0, tl.cdiv(K, BK)):
        a = tl.load(left, mask=(columns[:, None] < N) & (k[None, :] < K - i * BK), other=0.0)
        b = tl.load(right, mask=(rows[None, :] < M) & (k[:, None] < K - i * BK), other=0.0)
        acc = tl.dot(a, b, acc)
        left += BK
        right += BK
    tl.store(
        y + rows[None, :] * N + columns[:, None], acc.to(tl.bfloat16), mask=(rows[None, :] < M) & (columns[:, None] < N)
    )


@triton.jit
def rms_norm(x, w, y, D, eps, BD: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * D
    d = tl.arange(0, BD)
    row = tl.load(x + at + d, mask=d < D, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(row * row) / D + eps)
    tl.store(y + at + d, (row * scale * tl.load(w + d, mask=d < D).to(tl.float32)).to(tl.bfloat16), mask=d < D)


@triton.jit
def softmax(x, y, D, BD: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * D
    d = tl.arange(0, BD)
    row = tl.load(x + at + d, mask=d < D, other=float("-inf")).to(tl.float32)
    grown = tl.exp(row - tl.max(row))
    tl.store(y + at + d, (grown / tl.sum(grown)).to(tl.bfloat16), mask=d < D)


@triton.jit
def swiglu(gate, up, y, N, BN: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    g = tl.load(gate + i, mask=i < N).to(tl.float32)
    u = tl.load(up + i, mask=i < N).to(tl.float32)
    tl.store(y + i, (g * tl.sigmoid(g) * u).to(tl.bfloat16), mask=i < N)


@triton.jit
def _attend(
    query,
    keys,
    values,
    start,
    rows,
    S,
    best,
    total,
    acc,
    steep,
    HD: tl.constexpr,
    BS: tl.constexpr,
    DIAGONAL: tl.constexpr,
):
    pos = start + tl.arange(0, BS)
    d = tl.arange(0, HD)
    k = tl.load(keys + pos[:, None] * HD + d[None, :], mask=pos[:, None] < S, other=0.0)
    v = tl.load(values + pos[:, None] * HD + d[None, :], mask=pos[:, None] < S, other=0.0)
    score = tl.dot(query, k.T)
    if DIAGONAL:
        score = tl.where(pos[None, :] <= rows[:, None], score, -1e30)
    top = tl.maximum(best, tl.max(score, 1))
    weight = tl.exp2(score * steep - (top * steep)[:, None])
    fix = tl.exp2((best - top) * steep)
    total = total * fix + tl.sum(weight, 1)
    return top, total, tl.dot(weight.to(tl.bfloat16), v, acc * fix[:, None])


@triton.jit
def attention_causal(
    q, k, v, out, scale, S, G: tl.constexpr, HD: tl.constexpr, BM: tl.constexpr, BS: tl.constexpr, BAND: tl.constexpr
):
    """One tile of queries of one head, the last tiles (which have the most work) first, BAND of them of one key/value head
    together; BS divides BM, and BM · BAND divides S."""
    heads = tl.num_programs(0) // tl.cdiv(S, BM)
    pid = tl.num_programs(0) - 1 - tl.program_id(0)
    tile, pair = pid // G % BAND, pid // (G * BAND)
    first = (pair // (heads // G) * BAND + tile) * BM
    head = (pair % (heads // G) * G + pid % G).to(tl.int64)
    rows = first + tl.arange(0, BM)
    d = tl.arange(0, HD)
    query = tl.load(q + head * S * HD + rows[:, None] * HD + d[None, :], mask=rows[:, None] < S, other=0.0)
    best = tl.full((BM,), -1e30, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, HD), tl.float32)
    steep = scale * 1.4426950408889634
    keys, values = k + head // G * S * HD, v + head // G * S * HD
    for start in tl.range(0, first, BS):
        best, total, acc = _attend(query, keys, values, start, rows, S, best, total, acc, steep, HD, BS, False)
    for start in tl.range(first, tl.minimum(first + BM, S), BS):
        best, total, acc = _attend(query, keys, values, start, rows, S, best, total, acc, steep, HD, BS, True)
    tl.store(
        out + head * S * HD + rows[:, None] * HD + d[None, :],
        (acc / total[:, None]).to(tl.bfloat16),
        mask=rows[:, None] < S,
    )


@triton.jit
def paged_decode_partial(
    q, keys, values, table, length, scale, part, best_of, total_of, PAGES, HK: tl.constexpr, G: tl.constexpr, HD: tl.constexpr,
    P: tl.constexpr, SPLITS: tl.constexpr, BS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Every SPLITS-th tile of BS positions of one sequence and KV head; the heads of a group fill 16 rows of a product."""
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    s, h, b = tl.program_id(0) % SPLITS, tl.program_id(0) // SPLITS % HK, tl.program_id(0) // (SPLITS * HK)
    g, d, lane = tl.arange(0, 16), tl.arange(0, HD), tl.arange(0, BS)
    query = tl.load(q + (b * HK + h) * G * HD + g[:, None] * HD + d[None, :], mask=g[:, None] < G, other=0.0)
    best, total = tl.full((16,), -1e30, tl.float32), tl.zeros((16,), tl.float32)
    acc = tl.zeros((16, HD), tl.float32)
    steep = scale * 1.4426950408889634
    count = tl.load(length + b)
    for tile in tl.range(s, (count + BS - 1) // BS, SPLITS):
        pos = tile * BS + lane
        page = tl.load(table + b * PAGES + pos // P, mask=pos < count, other=0).to(tl.int64)
        at = ((page * P + pos % P) * HK + h) * HD
        k = tl.load(keys + at[:, None] + d[None, :], mask=pos[:, None] < count, other=0.0)
        v = tl.load(values + at[:, None] + d[None, :], mask=pos[:, None] < count, other=0.0)
        score = tl.where(pos[None, :] < count, tl.dot(query, k.T), -1e30)
        top = tl.maximum(best, tl.max(score, 1))
        weight = tl.exp2(score * steep - (top * steep)[:, None])
        fix = tl.exp2((best - top) * steep)
        total = total * fix + tl.sum(weight, 1)
        acc = tl.dot(weight.to(tl.bfloat16), v, acc * fix[:, None])
        best = top
    row = (b * HK + h) * SPLITS + s
    tl.store(part + row * G * HD + g[:, None] * HD + d[None, :], acc, mask=g[:, None] < G)
    tl.store(best_of + row * G + g, best * steep, mask=g < G)
    tl.store(total_of + row * G + g, total, mask=g < G)


@triton.jit
def paged_decode_combine(
    part, best_of, total_of, out, G: tl.constexpr, HD: tl.constexpr, SPLITS: tl.constexpr, PDL: tl.constexpr
):
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    g, bh = tl.program_id(0) % G, tl.program_id(0) // G
    s, d = tl.arange(0, SPLITS), tl.arange(0, HD)
    best = tl.load(best_of + (bh * SPLITS + s) * G + g)
    weight = tl.exp2(best - tl.max(best))
    total = tl.sum(weight * tl.load(total_of + (bh * SPLITS + s) * G + g))
    parts = tl.load(part + ((bh * SPLITS + s) * G + g)[:, None] * HD + d[None, :])
    tl.store(out + (bh * G + g) * HD + d, (tl.sum(parts * weight[:, None], 0) / total).to(tl.bfloat16))
