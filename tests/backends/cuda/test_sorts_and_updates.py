"""Sorts of wide numbers and updates of narrow ones: the generated code in Triton's interpreter, and its instructions."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from tests.backends.cpu.differential import check
from tests.backends.cuda.interpreted import compare, function_of

import zellige as zl
from zellige import i32
from zellige.backends.cuda.compiler import compile
from zellige.diagnostics.errors import ZelligeError

M, N, K = zl.dims("M N K")
T = zl.dtypes("T", zl.i8, zl.i16, zl.u16, zl.i64, zl.u64, zl.f16, zl.f32, zl.f64)
NUMPY = {"i8": np.int8, "i16": np.int16, "u16": np.uint16, "i64": np.int64, "u64": np.uint64, "f16": np.float16, "f32": np.float32, "f64": np.float64}  # fmt: skip


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


@pytest.mark.parametrize(("count", "bins"), [(0, 0), (1, 1), (21, 3)])
@pytest.mark.parametrize("name", ["i16", "u16", "f16"])
def test_updates_of_16_bits_lose_nothing_and_touch_nothing_else(name: str, count: int, bins: int) -> None:
    """Lanes that meet, lanes that are inactive, an empty array: the arrays stand between guard zones."""
    rng = np.random.default_rng(count)
    arrays: dict[str, Any] = {
        "x": rng.integers(0, 6, count).astype(NUMPY[name]),
        "at": rng.integers(0, max(bins, 1), count).astype(np.int32),
    }
    arrays |= {
        "total": np.zeros(bins, NUMPY[name]),
        "most": np.ones(bins, NUMPY[name]),
        "least": np.full(bins, 5, NUMPY[name]),
    }
    compare(function_of(updated, {"T": getattr(zl, name)}), {"M": count, "K": bins}, arrays, rtol=0, atol=0)


def test_a_narrow_update_is_a_swap_of_its_own_16_bits() -> None:
    swaps = re.findall(r"atom\S*", compile(function_of(updated, {"T": zl.i16}), {"M": 64, "K": 8}, "sm_90").ptx)
    assert swaps and all(s.endswith("cas.b16") for s in swaps)


def test_updates_of_8_bits_are_refused() -> None:
    with pytest.raises(ZelligeError, match="ZL0907"):
        compile(function_of(updated, {"T": zl.i8}), {"M": 64, "K": 8}, "sm_90")


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
