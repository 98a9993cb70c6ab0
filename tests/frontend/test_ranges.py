"""Ranges with steps of either sign, known when compiled or not; quotients rounded up; stores in bounded loops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import zellige as zl
from tests.rejected.test_rejected import refusals
from zellige import ZelligeError, f32, i32, i64

M, N, P = zl.dims("M N P")
SIZES = [0, 1, 2, 7, 20]


@pytest.fixture(params=["reference", "cpu"], autouse=True)
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    with zl.using(request.param):
        yield


@zl.kernel
def visited(first: i32, last: i64, step: i32, *, y: zl.Mut[i32, 64]):
    zl.requires((step != 0) & (last >= -1000) & (last <= 1000))
    zl.grid(1)
    for i in range(first, last, step):
        if (i >= 0) & (i < 64):
            y[i] = y[i] + 1


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, -1, -2, -5, -100, -(1 << 31)])
def test_a_range_goes_where_python_goes(step: int) -> None:
    for first in (0, 5, 40, 63):
        for last in (-3, 0, 5, 6, 41, 64):
            y = np.zeros(64, np.int32)
            visited(first, last, step, y=y)
            members = [i for i in range(first, last, step) if i >= 0]
            np.testing.assert_array_equal(np.flatnonzero(y), sorted(members))
            assert y.max(initial=0) <= 1


@zl.kernel
def grid_stride(x: zl.In[f32, N], w: zl.In[f32, P], *, y: zl.Out[f32, N]):
    zl.requires(P > 0)
    p = zl.grid(P)
    for i in range(p, N, P):
        y[i] = x[i] + w[p]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("workers", [1, 3, 8])
def test_workers_share_an_array_by_strides(size: int, workers: int) -> None:
    x, w = np.arange(size, dtype=np.float32), 100 * np.arange(workers, dtype=np.float32)
    np.testing.assert_array_equal(grid_stride(x, w).numpy(), x + w[np.arange(size) % workers])


@zl.kernel
def suffix_sums(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    total = 0.0
    for i in range(N - 1, -1, -1):
        total = total + x[m, i]
        y[m, i] = total


@pytest.mark.parametrize("size", SIZES)
def test_a_loop_goes_backwards(size: int) -> None:
    x = np.arange(3 * size, dtype=np.float32).reshape(3, size)
    np.testing.assert_array_equal(suffix_sums(x).numpy(), np.cumsum(x[:, ::-1], 1)[:, ::-1])


@zl.kernel
def from_the_end(x: zl.In[f32, M, N], first: zl.UpTo[N], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    total = 0.0
    for i in reversed(range(first, N)):
        total = total * 10.0 + x[m, i]
    y[m] = total


def test_a_reversed_range_goes_from_its_last_number_to_its_first() -> None:
    x = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    np.testing.assert_array_equal(from_the_end(x, 1).numpy(), [432.0, 876.0])
    np.testing.assert_array_equal(from_the_end(x, 4).numpy(), [0.0, 0.0])


@zl.kernel
def unrolled_backwards(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    value = x[m]
    for k in zl.unroll(range(6, 0, -2)):
        value = value * 10 + k
    y[m] = value


def test_an_unrolled_range_goes_backwards() -> None:
    np.testing.assert_array_equal(unrolled_backwards(np.ones(2, np.float32)).numpy(), [1642.0, 1642.0])


@zl.kernel
def in_parts(x: zl.In[f32, M, N], n: zl.UpTo[N], part: zl.UpTo[N], *, y: zl.Out[f32, M], parts: zl.Out[i32, M]):
    zl.requires(part > 0)
    m = zl.grid(M)
    count = zl.ceildiv(n, part)
    total = 0.0
    for p in range(count):
        for i in range(p * part, zl.minimum(p * part + part, n)):
            total = total + x[m, i]
    y[m] = total
    parts[m] = zl.minimum(count, 1000).to(i32)


def test_a_length_is_gone_through_in_parts() -> None:
    x = np.arange(21, dtype=np.float32).reshape(3, 7)
    for n in range(8):
        for part in range(1, 8):
            y, parts = in_parts(x, n, part)
            np.testing.assert_array_equal(y.numpy(), x[:, :n].sum(1))
            np.testing.assert_array_equal(parts.numpy(), -(-n // part))


@zl.kernel
def rounded_up(a: zl.In[i32, M], b: zl.In[i32, M], *, y: zl.Out[i64, M], z: zl.Out[i64, M], BM: zl.Static = 4):
    i = zl.grid(M.tiles(BM))
    below = zl.minimum(b[i], -1)
    y[i] = zl.ceildiv(a[i], 16).to(i64)
    z[i] = zl.ceildiv(a[i], below).to(i64)


def test_quotients_of_tiles_round_up() -> None:
    a = np.array([0, 1, 15, 16, 17, -1, -15, -16, -17, (1 << 31) - 1, -(1 << 31)], np.int32)
    b = np.array([-1, -2, -3, -16, -17, -1, -4, -5, -3, -(1 << 31), -1], np.int32)
    y, z = rounded_up(a, b)
    np.testing.assert_array_equal(y.numpy(), [-(-int(n) // 16) for n in a])
    np.testing.assert_array_equal(z.numpy(), [-(-int(n) // int(d)) for n, d in zip(a, b, strict=True)])


@zl.kernel
def until_negative(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M, N], seen: zl.Out[i32, M], total: zl.Acc[f32, M]):
    m = zl.grid(M)
    j = 0
    going = N > 0
    while zl.bounded((j < N) & going, N):
        going = x[m, j] >= 0.0
        if going:
            y[m, j] = y[m, j] + x[m, j]
            total.add(m, x[m, j])
        j = j + 1
    seen[m] = zl.minimum(j, 1000).to(i32)


@pytest.mark.parametrize("size", SIZES)
def test_a_bounded_loop_stores_as_far_as_it_goes(size: int) -> None:
    rng = np.random.default_rng(size)
    x = rng.integers(-1, 4, (5, size)).astype(np.float32)
    y, total = np.full((5, size), 100, np.float32), np.zeros(5, np.float32)
    seen = until_negative(x, y=y, total=total)
    seen = (seen[0] if isinstance(seen, tuple) else seen).numpy()
    for m in range(5):
        negative = np.flatnonzero(x[m] < 0)
        stop = int(negative[0]) if len(negative) else size
        assert seen[m] == min(stop + 1, size)
        np.testing.assert_array_equal(y[m], np.where(np.arange(size) < stop, 100 + x[m], 100))
        assert total[m] == x[m, :stop].sum()


def test_what_a_range_does_not_take() -> None:
    def zero(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
        for i in range(0, M, 0):
            y[i] = x[i]

    def fractional(x: zl.In[f32, M], step: f32, *, y: zl.Out[f32, M]):
        for i in range(0, M, step):
            y[i] = x[i]

    def many(x: zl.In[f32, M], steps: zl.In[i32, M], *, y: zl.Out[f32, M]):
        for i in range(0, M, steps[:]):
            y[i] = x[i]

    def stepwise(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
        for i in reversed(range(0, M, 2)):
            y[i] = x[i]

    for function, code, words in (
        (stepwise, "ZL0111", "write the range downwards"),
        (zero, "ZL0111", "the step of a range is 0"),
        (fractional, "ZL0105", "an index is an integer"),
        (many, "ZL0111", "scalars"),
    ):
        with pytest.raises(ZelligeError) as caught:
            zl.kernel(function).lower({}, {})
        assert caught.value.code == code
        assert words in str(caught.value)


def test_a_quotient_of_floats_is_not_rounded_up_by_ceildiv() -> None:
    def floats(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
        i = zl.grid(M)
        y[i] = zl.ceildiv(x[i], 2).to(f32)

    with pytest.raises(ZelligeError) as caught:
        zl.kernel(floats).lower({}, {})
    assert caught.value.code == "ZL0105"


def test_ends_that_are_too_far_apart_are_refused() -> None:
    @zl.kernel
    def far(x: zl.In[f32, N], first: i64, last: i64, step: i32, *, y: zl.Out[i32, M]):
        zl.requires((step > 0) & (first >= 0))
        m = zl.grid(M)
        count = zl.zeros((), i32)
        for i in range(first, last, step):
            count = count + 1
        y[m] = count

    assert {f.code for f in refusals(far)} == {"ZL0401"}


def test_a_step_that_may_be_0_is_named_with_what_excludes_it() -> None:
    @zl.kernel
    def may_stand_still(x: zl.In[f32, N], step: zl.UpTo[N], *, y: zl.Out[f32, M]):
        m = zl.grid(M)
        total = 0.0
        for i in range(0, N, step):
            total = total + x[i]
        y[m] = total

    (found,) = refusals(may_stand_still)
    assert found.code == "ZL0402"
    assert found.message == "the step of a range can be 0"
    assert found.help == "state zl.requires(step > 0)"
