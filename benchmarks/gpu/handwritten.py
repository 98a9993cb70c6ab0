"""The same schedules written by hand in Triton, as peers."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def matvec(x, w, y, N, K, BN: tl.constexpr, BK: tl.constexpr):
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
