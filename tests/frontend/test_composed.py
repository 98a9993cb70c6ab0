"""Operations made of others, and dots of every kind, against NumPy on both backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, f32, f64, i8, i32

M, N, K, B = zl.dims("M N K B")
rng = np.random.default_rng(3)


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Any:
    with zl.using(request.param):
        yield


@zl.kernel
def running(x: zl.In[f32, M, 13], *, product: zl.Out[f32, M, 13], top: zl.Out[f32, M, 13], low: zl.Out[f32, 13, M]):
    m = zl.grid(M)
    row = x[m, :]
    product[m, :] = zl.cumprod(row)
    top[m, :] = zl.cummax(row)
    low[:, m] = zl.cummin(row)


def test_running_products_and_extrema(backend: None) -> None:
    x = rng.standard_normal((3, 13)).astype(np.float32)
    product, top, low = (t.numpy() for t in running(x))
    np.testing.assert_allclose(product, np.cumprod(x, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(top, np.maximum.accumulate(x, axis=1))
    np.testing.assert_array_equal(low, np.minimum.accumulate(x, axis=1).T)


@zl.inline
def affine(earlier, later):
    """x → a·x + b, first ``earlier``, then ``later``."""
    a, b = earlier
    c, d = later
    return a * c, b * c + d


@zl.kernel
def recurrence(
    a: zl.In[f32, M, N], b: zl.In[f32, M, N], *, h: zl.Out[f32, M, N], last: zl.Out[f32, M], T: zl.Static = 11
):
    zl.requires(N == T)
    m = zl.grid(M)
    cols = zl.arange(T)
    factors, states = zl.scan((a[m, cols], b[m, cols]), affine)
    h[m, cols] = states
    last[m] = zl.reduce((a[m, cols], b[m, cols]), affine)[1]


@pytest.mark.parametrize("length", [1, 2, 7, 8, 11])
def test_a_linear_recurrence_by_scan_and_reduce(backend: None, length: int) -> None:
    a, b = (rng.random((4, length), np.float32) for _ in range(2))
    h, last = (t.numpy() for t in recurrence(a, b, T=length))
    state, expected = np.zeros(4, np.float32), np.zeros_like(a)
    for t in range(length):
        state = expected[:, t] = a[:, t] * state + b[:, t]
    np.testing.assert_allclose(h, expected, rtol=1e-5)
    np.testing.assert_allclose(last, expected[:, -1], rtol=1e-5)


@zl.inline
def larger(a, b):
    return zl.maximum(a, b)


def largest_of_padding(x: zl.In[f32, M, N], *, first: zl.Out[f32, M], T: zl.Static = 8):
    m = zl.grid(M)
    for cols in N.tiles(T):
        first[m] = zl.reduce(x[m, cols], larger)


def test_a_reduction_over_padding_needs_its_pad() -> None:
    with pytest.raises(ZelligeError) as caught:
        zl.kernel(largest_of_padding).lower({"T": 8}, {})
    assert caught.value.code == "ZL0107" and "zl.reduce" in caught.value.render()


@zl.kernel
def column_best(x: zl.In[f32, 5, M], *, best: zl.Out[f32, M], T: zl.Static = 4):
    cols = zl.grid(M.tiles(T))
    best[cols] = zl.reduce(x[0:5, cols], larger, axis=0)


def test_a_reduction_along_the_first_axis_with_inactive_columns(backend: None) -> None:
    x = -rng.random((5, 7), np.float32)
    np.testing.assert_array_equal(column_best(x).numpy(), x.max(0))


@zl.kernel
def best_of_row(x: zl.In[f32, M, 9], *, value: zl.Out[f32, M, 3], place: zl.Out[zl.Index[9], M, 3]):
    m = zl.grid(M)
    value[m, :], place[m, :] = zl.top_k(x[m, :], 3)


def test_top_k_of_a_row(backend: None) -> None:
    x = rng.integers(0, 5, (4, 9)).astype(np.float32)
    value, place = (t.numpy() for t in best_of_row(x))
    order = np.argsort(-x, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(place, order)
    np.testing.assert_array_equal(value, np.take_along_axis(x, order, 1))


@zl.kernel
def interleave(a: zl.In[f32, M, 6], b: zl.In[f32, M, 6], *, c: zl.Out[f32, M, 12], swapped: zl.Out[f32, M, 6]):
    m = zl.grid(M)
    both = zl.join(a[m, :], b[m, :])
    c[m, :] = both.reshape(12)
    first, second = zl.split(both)
    swapped[m, :] = zl.flip(second - first)


def test_join_split_and_flip(backend: None) -> None:
    a, b = (rng.random((3, 6), np.float32) for _ in range(2))
    c, swapped = (t.numpy() for t in interleave(a, b))
    np.testing.assert_array_equal(c, np.stack([a, b], axis=-1).reshape(3, 12))
    np.testing.assert_array_equal(swapped, (b - a)[:, ::-1])


@zl.kernel
def counts(x: zl.In[i32, M], *, count: zl.Out[i32, 5], T: zl.Static = 4):
    total = zl.zeros((5,), i32)
    for span in M.tiles(T):
        total = total + zl.histogram(x[span], 5)
    count[:] = total


def test_histogram_counts_what_is_in_range(backend: None) -> None:
    x = np.array([0, 4, 4, -1, 7, 2, 0, 0, 0], np.int32)
    np.testing.assert_array_equal(counts(x).numpy(), [4, 0, 1, 0, 2])


@zl.kernel
def noise(marker: zl.In[f32, M], seed: zl.i64, *, y: zl.Out[f32, M], T: zl.Static = 64):
    i = zl.grid(M.tiles(T))
    y[i] = zl.random_normal(seed, i)


def test_normal_numbers_have_mean_0_and_deviation_1(backend: None) -> None:
    y = noise(np.zeros(4096, np.float32), 5).numpy()
    assert abs(y.mean()) < 0.06 and abs(y.std() - 1) < 0.05 and np.isfinite(y).all()
    assert not np.array_equal(y, noise(np.zeros(4096, np.float32), 6).numpy())


@zl.kernel
def batched(a: zl.In[f32, 3, M, K], b: zl.In[f32, 3, K, N], *, c: zl.Out[f32, 3, M, N], T: zl.Static = 4):
    rows, cols = zl.grid(M.tiles(T), N.tiles(T))
    acc = zl.zeros((3, T, T), f32)
    for depth in K.tiles(T):
        acc = zl.dot(a[:, rows, depth], b[:, depth, cols], acc)
    c[:, rows, cols] = acc


def test_batched_dot(backend: None) -> None:
    a, b = rng.random((3, 5, 7), np.float32), rng.random((3, 7, 6), np.float32)
    np.testing.assert_allclose(batched(a, b).numpy(), a @ b, rtol=1e-5)


@zl.kernel
def int8_dot(a: zl.In[i8, M, K], b: zl.In[i8, K, N], *, c: zl.Out[i32, M, N], T: zl.Static = 16):
    rows, cols = zl.grid(M.tiles(T), N.tiles(T))
    acc = zl.zeros((T, T), i32)
    for depth in K.tiles(T):
        acc = zl.dot(a[rows, depth], b[depth, cols], acc)
    c[rows, cols] = acc


def test_int8_dot_sums_in_i32(backend: None) -> None:
    a, b = rng.integers(-128, 128, (5, 40), np.int8), rng.integers(-128, 128, (40, 6), np.int8)
    np.testing.assert_array_equal(int8_dot(a, b).numpy(), a.astype(np.int32) @ b.astype(np.int32))


@zl.kernel
def f64_dot(a: zl.In[f64, M, 8], b: zl.In[f64, N, 8], *, c: zl.Out[f64, M, N], T: zl.Static = 4):
    rows, cols = zl.grid(M.tiles(T), N.tiles(T))
    c[rows, cols] = zl.dot(a[rows, :], b[cols, :].T)


def test_f64_dot(backend: None) -> None:
    a, b = rng.random((5, 8)), rng.random((6, 8))
    np.testing.assert_allclose(f64_dot(a, b).numpy(), a @ b.T, rtol=1e-13)


@zl.kernel
def fp8_round_trip(x: zl.In[f32, M], *, e4m3: zl.Out[f32, M], e5m2: zl.Out[f32, M], T: zl.Static = 16):
    i = zl.grid(M.tiles(T))
    e4m3[i] = x[i].to(zl.f8e4m3).to(f32)
    e5m2[i] = x[i].to(zl.f8e5m2).to(f32)


def test_fp8_rounds_to_the_nearest_even(backend: None) -> None:
    import ml_dtypes

    x = np.array([0.0, 1.0, 1.0625, 1.1875, -3.3, 0.01, 200.0, 448.0, 2**-9, 2**-10, 1e-8], np.float32)
    e4m3, e5m2 = (t.numpy() for t in fp8_round_trip(x))
    np.testing.assert_array_equal(e4m3, x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32))
    np.testing.assert_array_equal(e5m2, x.astype(ml_dtypes.float8_e5m2).astype(np.float32))


@zl.kernel
def tile_by_number(x: zl.In[f32, M], *, y: zl.Out[f32, M], T: zl.Static = 4):
    tile = zl.grid(zl.ceildiv(M, T))
    rows = M.tiles(T)[zl.ceildiv(M, T) - 1 - tile]
    y[rows] = x[rows]


def test_tiles_are_taken_by_number(backend: None) -> None:
    x = rng.random(10, np.float32)
    np.testing.assert_array_equal(tile_by_number(x).numpy(), x)


def changes_dtype(x: zl.In[f32, M, 8], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = zl.reduce(x[m, :], to_integers)


@zl.inline
def to_integers(a, b):
    return (a + b).to(i32)


def plain_combine(x: zl.In[f32, M, 8], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = zl.reduce(x[m, :], 3)


def too_many(x: zl.In[f32, M, 8], *, y: zl.Out[f32, M, 9]):
    m = zl.grid(M)
    y[m, :] = zl.top_k(x[m, :], 9)[0]


def unequal_join(x: zl.In[f32, M, 8], *, y: zl.Out[f32, M, 16]):
    m = zl.grid(M)
    y[m, :] = zl.join(x[m, :], x[m, 0:4]).reshape(16)


def split_of_three(x: zl.In[f32, M, 3], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = zl.split(x[m, :])[0]


def flip_of_padding(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.flip(x[i])


@pytest.mark.parametrize(
    ("function", "code", "says"),
    [
        (changes_dtype, "ZL0119", "keeps dtype and shape"),
        (plain_combine, "ZL0105", "@zl.inline"),
        (too_many, "ZL0106", "at most 8"),
        (unequal_join, "ZL0106", "one shape"),
        (split_of_three, "ZL0106", "extent 2"),
        (flip_of_padding, "ZL0107", "pad="),
    ],
)
def test_wrong_operands_are_refused(function: Callable[..., Any], code: str, says: str) -> None:
    with pytest.raises(ZelligeError) as caught:
        zl.kernel(function).lower({}, {})
    assert caught.value.code == code and says in caught.value.render()
