"""What kernels compute, construct by construct, on the reference interpreter against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from zellige import f32, i32

M, N, T, S = zl.dims("M N T S")
rng = np.random.default_rng(0)


def run(kernel, *args, **keywords):
    with zl.using("reference"):
        out = kernel(*args, **keywords)
    return out.numpy() if isinstance(out, zl.Tensor) else tuple(t.numpy() for t in out)


@zl.kernel
def add(x: zl.In[f32, M], y: zl.In[f32, M], *, z: zl.Out[f32, M], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    z[i] = x[i] + y[i]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 31])
def test_last_tiles_touch_nothing_past_the_end(size):
    x, y = rng.random(size, np.float32), rng.random(size, np.float32)
    np.testing.assert_array_equal(run(add, x, y), x + y)


@zl.kernel
def row_soft_max(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], B: zl.Static = 4):
    m = zl.grid(M)
    best, total = zl.full((), -zl.inf, f32), zl.zeros((), f32)
    for cols in N.tiles(B):
        part = x[m, cols]
        top = zl.maximum(best, zl.max(part, pad=-zl.inf))
        total = total * zl.exp(best - top) + zl.sum(zl.exp(part - top))
        best = top
    for cols in N.tiles(B):
        y[m, cols] = zl.exp(x[m, cols] - best) / total


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (2, 5), (3, 13)])
def test_inactive_lanes_count_as_nothing_in_a_sum_even_after_exp(shape):
    x = rng.standard_normal(shape).astype(np.float32) - 5
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(run(row_soft_max, x), e / e.sum(1, keepdims=True), rtol=1e-6)


@zl.kernel
def lane_totals(x: zl.In[f32, M], *, y: zl.Out[f32, 4]):
    total = zl.full((4,), -100.0, f32)
    for span in M.tiles(4):
        total = zl.maximum(total, x[span])
    y[:] = total


def test_a_lane_inactive_in_one_iteration_keeps_its_old_value():
    x = -np.arange(1, 7, dtype=np.float32)
    np.testing.assert_array_equal(run(lane_totals, x), [-1, -2, -3, -4])


@zl.kernel
def outer(x: zl.In[f32, M], y: zl.In[f32, N], *, z: zl.Out[f32, M, N], B: zl.Static = 4):
    rows, cols = zl.grid(M.tiles(B), N.tiles(B))
    z[rows, cols] = x[rows][:, None] * y[cols][None, :]


def test_two_spans_cross():
    x, y = rng.random(5, np.float32), rng.random(6, np.float32)
    np.testing.assert_array_equal(run(outer, x, y), np.outer(x, y))


@zl.kernel
def paged(x: zl.In[f32, S, 4, 3], table: zl.In[zl.Index[S], T], *, y: zl.Out[f32, 4 * T, 3], B: zl.Static = 8):
    pos = zl.grid((4 * T).tiles(B))
    y[pos, :] = x[table[pos // 4], pos % 4, :]


def test_two_indices_made_from_one_span_are_zipped():
    x, table = rng.random((5, 4, 3), np.float32), np.array([4, 0, 2], np.int32)
    np.testing.assert_array_equal(run(paged, x, table), x[table].reshape(12, 3))


@zl.inline
def twice(x):
    return x + x


@zl.kernel
def branches(x: zl.In[f32, M], flag: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    value = x[i]
    if flag[i] > 0:
        value = twice(value)
    elif flag[i] < 0:
        value = -value
    y[i] = value


def test_branches_and_device_functions():
    x, flag = np.array([1, 2, 3], np.float32), np.array([1, 0, -1], np.int32)
    np.testing.assert_array_equal(run(branches, x, flag), [2, 2, -3])


@zl.kernel
def early(x: zl.In[f32, M], n: zl.UpTo[M], *, y: zl.Mut[f32, M]):
    i = zl.grid(M)
    if i >= n:
        return
    y[i] = x[i]


def test_a_program_may_return_early():
    y = np.zeros(4, np.float32)
    run_in_place = np.arange(1, 5, dtype=np.float32)
    with zl.using("reference"):
        early(run_in_place, 2, y=y)
    np.testing.assert_array_equal(y, [1, 2, 0, 0])


@zl.kernel
def collatz(x: zl.In[i32, M], *, y: zl.Out[i32, M]):
    i = zl.grid(M)
    n, steps = x[i], zl.full((), 0, i32)
    while zl.bounded(n != 1, limit=1000):
        n = zl.where(n % 2 == 0, n // 2, 3 * n + 1)
        steps = steps + 1
    y[i] = steps


def test_a_bounded_while_loop():
    np.testing.assert_array_equal(run(collatz, np.array([1, 6, 7], np.int32)), [0, 8, 16])


@zl.kernel
def powers(x: zl.In[f32, M], *, y: zl.Out[f32, 3, M], K: zl.Static = 3):
    i = zl.grid(M)
    value = x[i]
    for k in zl.unroll(range(K)):
        if k > 0:
            value = value * x[i]
        y[k, i] = value


def test_unrolled_loops_and_static_branches():
    x = np.array([2, 3], np.float32)
    np.testing.assert_array_equal(run(powers, x), [x, x**2, x**3])


@zl.kernel
def histogram(x: zl.In[zl.Index[N], M], *, counts: zl.Acc(init=0)[i32, N], B: zl.Static = 4):
    i = zl.grid(M.tiles(B))
    counts.add(x[i], 1)


def test_acc_updates_combine_and_inactive_lanes_add_nothing():
    counts = np.full(3, 99, np.int32)
    with zl.using("reference"):
        histogram(np.array([0, 2, 2, 2, 0], np.int32), counts=counts)
    np.testing.assert_array_equal(counts, [2, 0, 3])


@zl.kernel
def transposed_dot(a: zl.In[f32, M, S], b: zl.In[f32, N, S], *, c: zl.Out[f32, M, N], B: zl.Static = 4):
    rows, cols = zl.grid(M.tiles(B), N.tiles(B))
    acc = zl.zeros((B, B), f32)
    for depth in S.tiles(B):
        acc = zl.dot(a[rows, depth], b[cols, depth].T, acc)
    c[rows, cols] = acc


def test_dot_over_a_padded_depth():
    a, b = rng.standard_normal((5, 7)).astype(np.float32), rng.standard_normal((6, 7)).astype(np.float32)
    np.testing.assert_allclose(run(transposed_dot, a, b), a @ b.T, atol=1e-5)


@zl.kernel
def guarded(x: zl.In[f32, N], at: zl.In[i32, M], *, y: zl.Out[f32, M], B: zl.Static = 4):
    i = zl.grid(M.tiles(B))
    y[i] = x[zl.guard(at[i], below=N)]


def test_guarded_lanes_within_bounds_read():
    x = rng.random(5, np.float32)
    np.testing.assert_array_equal(run(guarded, x, np.array([4, 0, 1], np.int32)), x[[4, 0, 1]])


@zl.kernel
def sorted_rows(x: zl.In[f32, M, 5], *, y: zl.Out[f32, M, 5], order: zl.Out[zl.Index[5], M, 5]):
    m = zl.grid(M)
    values, places = zl.sort(x[m, :], descending=True)
    y[m, :] = values
    order[m, :] = places


def test_sort_gives_values_and_places():
    x = rng.random((3, 5), np.float32)
    y, order = run(sorted_rows, x)
    np.testing.assert_array_equal(y, -np.sort(-x, axis=1))
    np.testing.assert_array_equal(np.take_along_axis(x, order, 1), y)


@zl.inline
def visited(y, t):
    y[t] = y[t] + 1.0
    return t


@zl.kernel
def augmented(*, y: zl.Mut[f32, M], z: zl.Mut[f32, M]):
    t = zl.grid(M)
    z[visited(y, t)] += 3.0


def test_an_augmented_assignment_evaluates_its_place_once():
    y, z = np.zeros(2, np.float32), np.zeros(2, np.float32)
    with zl.using("reference"):
        augmented(y=y, z=z)
    assert y.tolist() == [1, 1]
    assert z.tolist() == [3, 3]


@zl.kernel
def decided(x: zl.In[f32, M, 4], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    same = (
        x.shape == (M, 4) and (M, 4) != (M, 8) and x.shape[1] in (2, 4) and None not in (M,) and x.shape[0] is not None
    )
    y[m] = 1.0 if same else 2.0


def test_what_a_comparison_of_extents_decides_for_all_sizes_is_decided():
    assert run(decided, np.zeros((3, 4), np.float32)).tolist() == [1, 1, 1]
