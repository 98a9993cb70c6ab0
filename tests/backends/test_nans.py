"""Extrema with NaNs are NumPy's, on every backend: an extremum of a NaN is one."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zellige as zl
from tests.backends.cpu.differential import run_cpu
from tests.backends.cuda.interpreted import compare, function_of
from zellige import f32
from zellige.backends.cuda.compiler import compile as compile_for_gpu
from zellige.backends.cuda.options import Options
from zellige.ir.types import Role

M, N = zl.dims("M N")
W = zl.dtypes("W", zl.f32, zl.f64, zl.f16, zl.bf16)
NUMPY = {zl.f32: np.float32, zl.f64: np.float64, zl.f16: np.float16, zl.bf16: ml_dtypes.bfloat16}


@zl.kernel
def pairs(
    x: zl.In[W, M, N], y: zl.In[W, M, N], *, larger: zl.Out[W, M, N], smaller: zl.Out[W, M, N], inside: zl.Out[W, M, N]
):
    rows, columns = zl.grid(M.tiles(4), N.tiles(16))
    a, b = x[rows, columns], y[rows, columns]
    larger[rows, columns] = zl.maximum(a, b)
    smaller[rows, columns] = zl.minimum(a, b)
    inside[rows, columns] = zl.clamp(a, -1.0, 1.0)


@zl.kernel
def rows_of(
    x: zl.In[W, M, N], *, top: zl.Out[W, M], low: zl.Out[W, M], running: zl.Out[W, M, N], falling: zl.Out[W, M, N]
):
    m = zl.grid(M)
    row = x[m, :]
    top[m], low[m] = zl.max(row), zl.min(row)
    running[m, :], falling[m, :] = zl.cummax(row), zl.cummin(row)


@zl.kernel
def columns_of(x: zl.In[W, M, N], *, top: zl.Out[W, N], low: zl.Out[W, N], running: zl.Out[W, M, N]):
    n = zl.grid(N.tiles(16))
    tile = x[:, n]
    top[n], low[n] = zl.max(tile, axis=0), zl.min(tile, axis=0)
    running[:, n] = zl.cummax(tile, axis=0)


def _with_nans(seed: int, shape: tuple[int, int], dtype: Any) -> Any:
    """Small numbers, a third of them NaNs of either sign; whole rows with and without."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, shape).astype(np.float64)
    some = rng.random(shape) < rng.choice([0.0, 0.05, 0.4, 1.0], shape[0])[:, None]
    x[some] = np.where(rng.random(int(some.sum())) < 0.5, np.nan, -np.nan)
    x[rng.random(shape) < 0.1] = np.inf
    return x.astype(dtype)


@np.errstate(invalid="ignore")
def _wanted(name: str, x: Any, y: Any) -> tuple[Any, ...]:
    if name == "pairs":
        one = x.dtype.type(1)
        return np.maximum(x, y), np.minimum(x, y), np.minimum(np.maximum(x, -one), one)
    axis = 1 if name == "rows_of" else 0
    found = (np.maximum.reduce(x, axis), np.minimum.reduce(x, axis), np.maximum.accumulate(x, axis))
    return (*found, np.minimum.accumulate(x, axis)) if name == "rows_of" else found


KERNELS = {"pairs": pairs, "rows_of": rows_of, "columns_of": columns_of}


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (9, 67), (40, 16), (3, 300)], ids=str)
@pytest.mark.parametrize("dtype", NUMPY, ids=str)
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_an_extremum_of_a_nan_is_one(backend: str, name: str, dtype: Any, shape: tuple[int, int]) -> None:
    x, y = (_with_nans(seed, shape, NUMPY[dtype]) for seed in (1, 2))
    with zl.using(backend):
        found = KERNELS[name](x, y) if name == "pairs" else KERNELS[name](x)
    for got, want in zip(found, _wanted(name, x, y), strict=True):
        np.testing.assert_array_equal(got.numpy().astype(np.float64), want.astype(np.float64))


@pytest.mark.parametrize("target", ["generic", "avx2", "avx512"])
def test_on_every_instruction_set(target: str) -> None:
    x = _with_nans(3, (9, 67), np.float32)
    for name, kernel in KERNELS.items():
        function = function_of(kernel, {"W": f32})
        wanted = _wanted(name, x, x[::-1])
        outputs = [a for a in function.arrays if a.role is Role.OUT]
        arrays = {"x": x, "y": x[::-1].copy()} if name == "pairs" else {"x": x}
        arrays |= {a.name: np.zeros_like(w) for a, w in zip(outputs, wanted, strict=True)}
        run_cpu(function, {"M": 9, "N": 67}, arrays, {}, target=target)
        for a, want in zip(outputs, wanted, strict=True):
            np.testing.assert_array_equal(arrays[a.name], want)


@pytest.mark.parametrize("name", KERNELS)
def test_gpu_code_propagates(name: str) -> None:
    """In one instruction each; Triton's own default, which its interpreter does not have, gives the other operand."""
    made = compile_for_gpu(function_of(KERNELS[name], {"W": f32}), {"M": 32, "N": 64}, "sm_90", Options())
    for which in ("max", "min"):
        if which in made.ptx:
            assert f"{which}.NaN.f32" in made.ptx
            assert f"{which}.f32" not in made.ptx


@pytest.mark.parametrize("name", KERNELS)
def test_triton_means_the_same(name: str) -> None:
    x = _with_nans(4, (5, 16), np.float32)
    wanted = _wanted(name, x, x[::-1])
    function = function_of(KERNELS[name], {"W": f32})
    arrays = {"x": x, "y": x[::-1].copy()} if name == "pairs" else {"x": x}
    names = [a.name for a in function.arrays if a.name not in arrays]
    compare(function, {"M": 5, "N": 16}, arrays | dict(zip(names, map(np.zeros_like, wanted), strict=True)))
