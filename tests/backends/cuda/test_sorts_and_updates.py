"""Sorts of wide numbers and updates of narrow ones: the generated code in Triton's interpreter, and its instructions."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.backends.cpu.differential import check
from tests.backends.cuda.interpreted import compare, function_of

import zellige as zl
from zellige import i32
from zellige.backends.cuda.compiler import compile

M, N, K = zl.dims("M N K")
T = zl.dtypes("T", zl.i8, zl.u8, zl.i16, zl.u16, zl.i64, zl.u64, zl.f8e4m3, zl.f8e5m2, zl.f16, zl.f32, zl.f64)
B8 = zl.dtypes("B8", zl.bool_, zl.u8)
NUMPY = {"i8": np.int8, "u8": np.uint8, "f8e4m3": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2, "i16": np.int16, "u16": np.uint16, "i64": np.int64, "u64": np.uint64, "f16": np.float16, "f32": np.float32, "f64": np.float64}  # fmt: skip


@zl.kernel
def ordered(x: zl.In[T, M, N], *, up: zl.Out[T, M, N], at: zl.Out[i32, M, N], down: zl.Out[T, M, N]) -> None:
    m = zl.grid(M)
    values, positions = zl.sort(x[m, :])
    up[m, :] = values
    at[m, :] = positions.to(i32)
    down[m, :] = zl.sort(x[m, :], descending=True)[0]


@pytest.mark.parametrize("length", [1, 7, 16])
@pytest.mark.parametrize("name", ["i64", "u64", "f64", "f32"])
def test_numbers_of_64_bits_are_sorted_by_both_halves(name: str, length: int) -> None:
    """Ties, equal high halves, both zeros, NaNs of both signs, and the ends of the type."""
    rng, dtype = np.random.default_rng(length), NUMPY[name]
    if name in ("f32", "f64"):
        few = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1.0, np.nextafter(1.0, 2.0), -1.5], dtype)
    else:
        info = np.iinfo(dtype)
        few = np.array([info.min, info.max, 0, 1, 1 << 32, (1 << 32) + 1, (1 << 31), info.max - 1], dtype)
    x = rng.choice(few, (3, length))
    arrays = {"x": x, "up": np.zeros_like(x), "at": np.zeros(x.shape, np.int32), "down": np.zeros_like(x)}
    compare(function_of(ordered, {"T": getattr(zl, name)}), {"M": 3, "N": length}, arrays, rtol=0, atol=0)


@zl.kernel
def updated(
    x: zl.In[T, M], at: zl.In[zl.Index[K], M], *, total: zl.Acc[T, K], most: zl.Acc[T, K], least: zl.Acc[T, K],
    B: zl.Static = 8,
) -> None:  # fmt: skip
    i = zl.grid(M.tiles(B))
    total.add(at[i], x[i])
    most.max(at[i], x[i])
    least.min(zl.only(at[i], x[i] > 2), x[i])


@pytest.mark.parametrize(("count", "bins"), [(0, 0), (1, 1), (21, 3), (21, 8)])
@pytest.mark.parametrize("name", ["i16", "u16", "f16", "i8", "u8", "f8e4m3", "f8e5m2"])
def test_narrow_updates_lose_nothing_and_touch_nothing_else(name: str, count: int, bins: int) -> None:
    """Lanes that meet in an element or in a word, lanes that are inactive, an empty array: the arrays stand between guard zones.

    Sums of fp8 are exact here, since Triton's interpreter rounds ties another way than the hardware."""
    rng = np.random.default_rng(count)
    few = [0, 0, 4] if name.startswith("f8") else range(6)
    arrays: dict[str, Any] = {
        "x": rng.choice(few, count).astype(NUMPY[name]),
        "at": rng.integers(0, max(bins, 1), count).astype(np.int32),
    }
    arrays |= {
        "total": np.zeros(bins, NUMPY[name]),
        "most": np.ones(bins, NUMPY[name]),
        "least": np.full(bins, 5, NUMPY[name]),
    }
    compare(function_of(updated, {"T": getattr(zl, name)}), {"M": count, "K": bins}, arrays, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["i8", "u8"])
def test_sums_of_8_bits_wrap(name: str) -> None:
    x = np.full(21, 100, NUMPY[name])
    arrays = {"x": x, "at": np.arange(21, dtype=np.int32) % 3} | {
        k: np.full(3, v, x.dtype) for k, v in (("total", 7), ("most", 0), ("least", 120))
    }
    compare(function_of(updated, {"T": getattr(zl, name)}), {"M": 21, "K": 3}, arrays, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "largest"), [("f8e4m3", 448.0), ("f8e5m2", 57344.0)])
def test_a_sum_beyond_the_largest_fp8_is_not_the_largest(name: str, largest: float) -> None:
    x = np.array([largest, largest, 1.0], NUMPY[name])
    arrays = {"x": x, "at": np.array([0, 0, 1], np.int32)} | {
        k: np.zeros(2, x.dtype) for k in ("total", "most", "least")
    }
    done = compare(function_of(updated, {"T": getattr(zl, name)}), {"M": 3, "K": 2}, arrays, rtol=0, atol=0)
    assert not np.isfinite(done["total"].astype(np.float32)[0]) and done["total"].astype(np.float32)[1] == 1.0


@zl.kernel
def flagged(
    x: zl.In[B8, M], at: zl.In[zl.Index[K], M], *, all: zl.Acc[B8, K], some: zl.Acc[B8, K], B: zl.Static = 8
) -> None:
    i = zl.grid(M.tiles(B))
    all.and_(at[i], x[i])
    some.or_(at[i], x[i])


@zl.kernel
def flag(x: zl.In[B8, M], *, some: zl.Acc[B8, M + 1]) -> None:
    i = zl.grid(M)
    some.or_(i + 1, x[i])


@pytest.mark.parametrize("name", ["bool_", "u8"])
def test_flags_are_combined_bit_by_bit(name: str) -> None:
    rng = np.random.default_rng(3)
    dtype = np.bool_ if name == "bool_" else np.uint8
    x = rng.integers(0, 2 if name == "bool_" else 256, 21).astype(dtype)
    at = rng.integers(0, 5, 21).astype(np.int32)
    both = {"all": np.full(5, 1 if name == "bool_" else 255, dtype), "some": np.zeros(5, dtype)}
    compare(
        function_of(flagged, {"B8": getattr(zl, name)}), {"M": 21, "K": 5}, {"x": x, "at": at, **both}, rtol=0, atol=0
    )
    compare(
        function_of(flag, {"B8": getattr(zl, name)}), {"M": 21}, {"x": x, "some": np.zeros(22, dtype)}, rtol=0, atol=0
    )


@pytest.mark.parametrize(("kernel", "dtypes"), [
    (updated, {"T": zl.i16}), (updated, {"T": zl.i8}), (updated, {"T": zl.f8e4m3}), (flagged, {"B8": zl.bool_}), (flag, {"B8": zl.bool_}),
])  # fmt: skip
def test_a_narrow_update_is_a_swap_of_the_16_bits_around_it(kernel: Any, dtypes: Any) -> None:
    swaps = re.findall(r"atom\S*", compile(function_of(kernel, dtypes), {"M": 64, "K": 8}, "sm_90").ptx)
    assert swaps and all(s.endswith("cas.b16") for s in swaps)


F = zl.dtypes("F", zl.f16, zl.f32, zl.f64)


@zl.kernel
def extremes(
    x: zl.In[F, M, N], *, top: zl.Out[zl.Index[N], M], low: zl.Out[zl.Index[N], M], column: zl.Out[zl.Index[M], N]
) -> None:
    zl.requires((M > 0) & (N > 0))
    m = zl.grid(1)
    top[:] = zl.argmax(x[:, :], axis=1)
    low[:] = zl.argmin(x[:, :], axis=1)
    column[:] = zl.argmax(x[:, :], axis=0)


@pytest.mark.parametrize("length", [1, 5, 16, 37])
@pytest.mark.parametrize("name", ["f16", "f32", "f64"])
def test_the_first_nan_of_an_axis_is_its_extreme_position(name: str, length: int) -> None:
    """NumPy's meaning, in the interpreter, on the CPU and in Triton; lanes past the end are no position."""
    rng, dtype = np.random.default_rng(length), NUMPY[name]
    x = rng.choice(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1.0, -1.5], dtype), (13, length))
    x[:5] = rng.choice(np.array([0.0, -0.0, np.inf, -np.inf, 1.0, -1.5], dtype), (5, length))
    x[5], x[6], x[7] = np.nan, -np.inf, np.inf
    arrays = {"x": x} | {n: np.zeros(k, np.int32) for n, k in (("top", 13), ("low", 13), ("column", length))}
    function = function_of(extremes, {"F": getattr(zl, name)})
    want = compare(function, {"M": 13, "N": length}, arrays, rtol=0, atol=0)
    np.testing.assert_array_equal(want["top"], x.argmax(1))
    np.testing.assert_array_equal(want["low"], x.argmin(1))
    for target in ("host", "avx2", "generic"):
        check(function, {"M": 13, "N": length}, arrays, target=target)


@zl.kernel
def extremes_of_what_there_may_be(x: zl.In[F, M, N], *, top: zl.Out[i32, M], low: zl.Out[i32, M]) -> None:
    m = zl.grid(1)
    top[:] = zl.where(zl.argmax(x[:, :], axis=1) == 0, 7, 3).to(i32)
    low[:] = zl.where(zl.argmin(x[:, :], axis=1) == 0, 7, 3).to(i32)


@pytest.mark.parametrize("name", ["f32", "f64"])
def test_the_extreme_position_of_nothing_is_0(name: str) -> None:
    arrays = {"x": np.zeros((13, 0), NUMPY[name])} | {n: np.zeros(13, np.int32) for n in ("top", "low")}
    function = function_of(extremes_of_what_there_may_be, {"F": getattr(zl, name)})
    want = compare(function, {"M": 13, "N": 0}, arrays, rtol=0, atol=0)
    assert (want["top"] == 7).all() and (want["low"] == 7).all()
    for target in ("host", "avx2", "generic"):
        check(function, {"M": 13, "N": 0}, arrays, target=target)
