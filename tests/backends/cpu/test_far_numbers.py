"""Indices of 64 bits that lie far apart, and what LLVM makes of masks: each of these once read outside an array, or something else."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import zellige as zl
from tests.backends.cpu.differential import check
from zellige import f32, i32, i64, u8, u64

M, N, K = zl.dims("M N K")
LEAST = -(1 << 63)


@zl.kernel
def up_to_a_scalar(x: zl.In[f32, N], s: i64, *, y: zl.Out[f32, M]):
    end = s.to(zl.index)
    zl.requires(end <= N)
    r = zl.grid(M.tiles(8))
    y[r] = x[zl.only(r, r < end)]


@zl.kernel
def down_to_a_scalar(x: zl.In[f32, N], s: i64, *, y: zl.Out[f32, M]):
    end = s.to(zl.index)
    zl.requires(end <= N)
    r = zl.grid(M.tiles(8))
    y[r] = x[zl.only(r, end > r)]


@pytest.mark.parametrize("kernel", [up_to_a_scalar, down_to_a_scalar])
@pytest.mark.parametrize("end", [3, 0, -1, LEAST + 5, LEAST])
def test_lanes_are_compared_with_numbers_however_far(kernel: zl.Kernel, end: int) -> None:
    arrays = {"x": np.ones(4, np.float32), "y": np.zeros(64, np.float32)}
    check(kernel.lower({}, {}), {"N": 4, "M": 64}, arrays, {"s": end})


@zl.kernel
def rising_and_falling(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    r = zl.grid(M)
    i = zl.arange(64)
    rising, falling = i * (1 << 57), (63 - i) * (1 << 57)
    y[r] = zl.sum(x[zl.only(i * 0 + r, (rising + falling) + r < 63 * (1 << 57) + N)])


def test_a_bound_that_no_lane_has_may_be_beyond_64_bits() -> None:
    check(
        rising_and_falling.lower({}, {}),
        {"N": 4, "M": 64},
        {"x": np.ones(4, np.float32), "y": np.zeros(64, np.float32)},
    )


@zl.kernel
def offsets(a: zl.In[i64, M], b: zl.In[u64, M], total: i64, *, y: zl.Out[i64, M + 1], z: zl.Out[i64, M + 1]):
    zl.grid(1)
    y[:] = zl.offsets(a[:], total).to(i64)
    z[:] = zl.offsets(b[:], total).to(i64)


@pytest.mark.parametrize("total", [(1 << 63) - 1, 1 << 62, 7, 0, -3])
def test_offsets_saturate_at_any_total(total: int) -> None:
    a = np.array([(1 << 62) + 5, 3, (1 << 62) + 5, LEAST, (1 << 63) - 1], np.int64)
    b = np.array([1, (1 << 63) + 1, (1 << 64) - 1, 0, 2], np.uint64)
    arrays = {"a": a, "b": b, "y": np.zeros(6, np.int64), "z": np.zeros(6, np.int64)}
    check(offsets.lower({}, {}), {"M": 5}, arrays, {"total": total})


@zl.kernel
def wraps_on_the_way(a: zl.In[f32, N, 0], b: zl.In[f32, M, 0], *, y: zl.Out[i64, K]):
    zl.requires(N == M)
    k = zl.grid(K)
    y[k] = (k * 0 + (N * N * N * N * 4 - M * M * M * M * 4 + K) + (N * (1 << 70) - M * (1 << 70) + 1)).to(i64)


def test_parts_of_an_extent_may_wrap() -> None:
    for n in (3, 1 << 20, (1 << 31) - 1):
        empty = np.zeros((n, 0), np.float32)
        check(
            wraps_on_the_way.lower({}, {}),
            {"N": n, "M": n, "K": 2},
            {"a": empty, "b": empty, "y": np.zeros(2, np.int64)},
        )


@zl.kernel
def moved_on(*, x: zl.Mut[f32, N], y: zl.Out[f32, 4]):
    zl.grid(1)
    held = zl.zeros((4,), f32)
    for r in N.tiles(4):
        old = x[r]
        x[r] = held
        held = zl.where(r.active, old, held)
    y[:] = held


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 11])
def test_what_was_loaded_before_a_store_is_what_was_there(size: int) -> None:
    """LLVM 22 moves a masked load to the select by its mask, past stores."""
    check(
        moved_on.lower({}, {}),
        {"N": size},
        {"x": np.arange(1.0, size + 1, dtype=np.float32), "y": np.zeros(4, np.float32)},
    )


@zl.kernel
def views_of_numbers(
    x: zl.In[u8, 8], *, a: zl.Out[i32, 8], b: zl.Out[i32, 2, 8], c: zl.Out[u8, 4, 8], d: zl.Out[u8, 32]
):
    zl.grid(1)
    a[:] = zl.flip(zl.full((8,), 3, i32), 0)
    b[:, :] = zl.zeros((4, 4), i32).reshape((2, 8))
    rows = zl.broadcast_to(x[:][None, :], (4, 8))
    c[:, :] = zl.flip(rows, 1)
    d[:] = rows.reshape((32,))


def test_a_repeated_number_is_gathered_and_reshaped() -> None:
    arrays = {"x": np.arange(8, dtype=np.uint8), "a": np.ones(8, np.int32), "b": np.ones((2, 8), np.int32)}
    arrays |= {"c": np.zeros((4, 8), np.uint8), "d": np.zeros(32, np.uint8)}
    check(views_of_numbers.lower({}, {}), {}, arrays)


@zl.kernel
def narrowed(
    x: zl.In[zl.f64, M], n: zl.In[i32, M], *, a: zl.Out[zl.f16, M], b: zl.Out[zl.bf16, M], c: zl.Out[zl.bf16, M]
):
    r = zl.grid(M.tiles(8))
    a[r], b[r], c[r] = x[r].to(zl.f16), x[r].to(zl.bf16), n[r].to(zl.bf16)


def test_a_number_is_rounded_once() -> None:
    """Half between two narrow floats and a little more, which an f32 in between would forget."""
    x = np.array(
        [1 + 2**-11 + 2**-40, 1 + 2**-8 + 2**-40, -1 - 2**-11 - 2**-40, np.nan, np.inf, 1e300, -1e-300, 65520, 0.0]
    )
    n = np.array([(1 << 24) + (1 << 16) + 1, 3, -(1 << 24) - (1 << 16) - 1, 0, 5, 7, 9, 11, 13], np.int32)
    with zl.using("cpu"):
        ours = narrowed(x, n)
    with zl.using("reference"):
        theirs = narrowed(x, n)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.numpy().astype(np.float64), b.numpy().astype(np.float64))
    assert float(ours[0].numpy()[0]) == 1 + 2**-10


@zl.kernel
def less_than_none(*, a: zl.Out[u8, 1], b: zl.Out[zl.i8, 1]):
    i = zl.grid(1)
    a[i] = -zl.full((), 5, u8)
    b[i] = -zl.full((), -128, zl.i8)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_negative_of_a_constant_wraps(backend: str) -> None:
    with zl.using(backend):
        a, b = less_than_none()
    assert (a.numpy()[0], b.numpy()[0]) == (251, -128)


@zl.kernel
def least_of_a_stretch(x: zl.In[f32, N], s: zl.Index[8], *, y: zl.Out[i64, 1]):
    i = zl.grid(1)
    least = zl.min(s + zl.arange(N))
    y[i] = zl.where(least < 8, 1, 2).to(i64)


@pytest.mark.parametrize(("length", "expected"), [(0, 2), (1, 1), (5, 1)])
def test_a_stretch_of_no_lanes_has_no_first_one(length: int, expected: int) -> None:
    """Its least number is the largest of 64 bits, and not where it would begin."""
    for backend in ("reference", "cpu"):
        with zl.using(backend):
            assert least_of_a_stretch(np.zeros(length, np.float32), 3).numpy()[0] == expected


@zl.kernel
def as_bf16(x: zl.In[f32, N], *, y: zl.Out[zl.bf16, N], B: zl.Static = 16):
    r = zl.grid(N.tiles(B))
    y[r] = x[r].to(zl.bf16)


@pytest.mark.parametrize("lanes", [1, 16])
def test_small_numbers_stay(lanes: int) -> None:
    """AVX-512's instruction takes subnormal numbers for 0, so that a tile gave other numbers than its lanes one by one."""
    x = np.array([9e-39, -9e-39, 1.1754e-38, 1e-45, -0.0, 1.5e-40, 2.0, np.inf] * 4, np.float32)
    expected = x.astype(ml_dtypes.bfloat16).view(np.uint16)
    assert expected[0] != 0
    np.testing.assert_array_equal(as_bf16(x, B=lanes).numpy().view(np.uint16), expected)
