"""Control flow, stores and updates on the CPU backend against the reference interpreter, at sizes that leave vectors half full."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from tests.backends.cpu.differential import SIZES, TARGETS, check, normal
from zellige import f32, i32, u32, u64

M, N, L = zl.dims("M N L")


@zl.kernel
def swap(
    x: zl.In[f32, M],
    y: zl.In[f32, M],
    steps: zl.In[zl.UpTo[L], 1],
    *,
    a: zl.Out[f32, M],
    b: zl.Out[f32, M],
    c: zl.Out[f32, M],
):
    first, second, total = x[:], y[:], zl.zeros((M,), f32)
    for i in range(steps[0]):
        total = total + first * second
        first, second = second, first + zl.sum(second)
    a[:] = first
    b[:] = second
    c[:] = total


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_carried_tiles_are_assigned_together(rng, size, steps):
    arrays = {
        "x": normal(rng, size) * 0.1,
        "y": normal(rng, size) * 0.1,
        "steps": np.array([steps], np.int32),
        **{k: np.zeros(size, np.float32) for k in "abc"},
    }
    check(swap.lower({}, {}), {"M": size, "L": 5}, arrays, rtol=1e-4, atol=1e-5)


@zl.kernel
def turn(x: zl.In[f32, M, M], *, y: zl.Out[f32, M, M]):
    tile = x[:, :]
    for i in range(3):
        tile = tile.T + zl.sum(tile, axis=0)[:, None]
    y[:, :] = tile


@pytest.mark.parametrize("size", [1, 2, 5, 33])
def test_a_carried_tile_may_be_read_across_itself(rng, size):
    check(
        turn.lower({}, {}),
        {"M": size},
        {"x": normal(rng, size, size) * 0.1, "y": np.zeros((size, size), np.float32)},
        rtol=1e-3,
    )


@zl.kernel
def powers(a: zl.In[f32, M, M], *, y: zl.Out[f32, M, M], z: zl.Out[f32, M, M]):
    acc = a[:, :]
    old = a[:, :]
    for i in range(3):
        following = zl.dot(a[:, :], acc, acc)
        old = acc
        acc = following
    y[:, :] = acc
    z[:, :] = old


@pytest.mark.parametrize("size", [1, 3, 20])
def test_a_product_reads_its_accumulator_before_it_writes_it(rng, size):
    arrays = {
        "a": normal(rng, size, size) * 0.2,
        "y": np.zeros((size, size), np.float32),
        "z": np.zeros((size, size), np.float32),
    }
    check(powers.lower({}, {}), {"M": size}, arrays, rtol=1e-4, atol=1e-4)


@zl.kernel
def shift(*, x: zl.Mut[f32, M]):
    old = x[:]
    x[:] = old * 2.0
    x[:] = old + zl.sum(x[:])


@pytest.mark.parametrize("size", SIZES)
def test_a_load_keeps_what_was_there_before_a_store(rng, size):
    check(shift.lower({}, {}), {"M": size}, {"x": normal(rng, size)}, rtol=1e-4, atol=1e-4)


@zl.kernel
def reverse(*, x: zl.Mut[f32, M]):
    x[:] = x[M - 1 - zl.arange(M)]


@pytest.mark.parametrize("size", SIZES)
def test_a_store_over_its_own_source_in_another_order(rng, size):
    check(reverse.lower({}, {}), {"M": size}, {"x": normal(rng, size)})


@zl.kernel
def branches(x: zl.In[f32, M, N], pick: zl.In[i32, M], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    row = x[m, :]
    if pick[m] > 0:
        row = row * 2.0
        bonus = 1.0
    else:
        bonus = zl.sum(row)
    y[m, :] = row + bonus


@pytest.mark.parametrize("size", SIZES)
def test_branches_give_tiles_and_scalars(rng, size):
    arrays = {
        "x": normal(rng, 4, size),
        "pick": np.array([0, 1, -1, 2], np.int32),
        "y": np.zeros((4, size), np.float32),
    }
    check(branches.lower({}, {}), {"M": 4, "N": size}, arrays, rtol=1e-4, atol=1e-5)


@zl.kernel
def newton(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], n: zl.Out[i32, M]):
    m = zl.grid(M)
    value = x[m, :]
    guess = zl.full((N,), 1.0, f32)
    count = 0
    while zl.bounded(zl.max(zl.abs(guess * guess - value)) > 1e-3, 20):
        guess = 0.5 * (guess + value / guess)
        count = count + 1
    y[m, :] = guess
    n[m] = count.to(i32)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_while_loops_carry_tiles(rng, size):
    arrays = {"x": np.abs(normal(rng, 3, size)) + 0.5, "y": np.zeros((3, size), np.float32), "n": np.zeros(3, np.int32)}
    check(newton.lower({}, {}), {"M": 3, "N": size}, arrays, rtol=1e-4)


@zl.kernel
def count_into(
    at: zl.In[zl.Index[N], M], *, counts: zl.Acc[i32, N], sums: zl.Acc[f32, N], most: zl.Acc[f32, N], B: zl.Static = 16
):
    i = zl.grid(M.tiles(B))
    counts.add((at[i],), 1)
    sums.add((at[i],), 0.5)
    most.max((at[i],), i.to(f32))


def test_updates_from_all_programs_combine(rng):
    m, n = 1000, 7
    arrays = {
        "at": rng.integers(0, n, m).astype(np.int32),
        "counts": np.zeros(n, np.int32),
        "sums": np.zeros(n, np.float32),
        "most": np.zeros(n, np.float32),
    }
    check(count_into.lower({"B": 16}, {}), {"M": m, "N": n}, arrays)


@zl.kernel
def noise(seed: u64, *, y: zl.Out[u32, M], z: zl.Out[f32, M], B: zl.Static = 32):
    i = zl.grid(M.tiles(B))
    y[i] = zl.random_bits(seed, i.to(u64))
    z[i] = zl.random_uniform(seed, i.to(u64) * 4294967296)


@pytest.mark.parametrize("size", SIZES)
def test_random_words_are_philox(size):
    arrays = {"y": np.zeros(size, np.uint32), "z": np.zeros(size, np.float32)}
    check(noise.lower({"B": 32}, {}), {"M": size}, arrays, {"seed": 0x123456789ABCDEF}, rtol=0, atol=0)


@zl.kernel
def causal(x: zl.In[f32, M, N], n: zl.UpTo[N], *, y: zl.Out[f32, M, N], B: zl.Static = 16, C: zl.Static = 48):
    rows, cols = zl.grid(M.tiles(B), N.tiles(C))
    keep = (cols[None, :] <= rows[:, None]) & (cols[None, :] < n)
    y[rows, cols] = zl.where(keep, x[rows, cols], -1.0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(1, 1), (17, 50), (40, 96)])
def test_masks_over_two_axes(rng, shape, target):
    m, n = shape
    arrays = {"x": normal(rng, m, n), "y": np.zeros((m, n), np.float32)}
    check(causal.lower({"B": 16, "C": 48}, {}), {"M": m, "N": n}, arrays, {"n": n // 2}, target=target)
    check(causal.lower({"B": 16, "C": 48}, {}), {"M": m, "N": n}, arrays, {"n": n // 2}, target=target, fix_all=True)
