"""Pointers that loops carry: what is computed stays the same, and loads that move otherwise keep their own addresses."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
from tests.backends.cuda.interpreted import compare, function_of

import zellige as zl
from zellige import f32
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.ir.ops import Function
from zellige.ir.walk import specialise
from zellige.kernels import batch, gpu_linear

bf16 = ml_dtypes.bfloat16
rng = np.random.default_rng(3)
CARRIED = Options(carried=True)
M, N, K = zl.dims("M N K")


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(bf16)


def carried(function: Function, dims: dict[str, int]) -> dict[str, int]:
    """The arrays whose pointers are carried, with the elements from turn to turn."""
    text = lower(specialise(function, dims), CARRIED).text
    return {name: int(step) for name, step in re.findall(r"(\w+)_next = \1_next \+ (\d+)", text)}


@pytest.mark.parametrize("persistent", [0, 1])
@pytest.mark.parametrize(("m", "n", "k"), [(16, 16, 16), (17, 33, 40), (5, 70, 3)])
def test_a_product_is_the_same(m: int, n: int, k: int, persistent: int) -> None:
    arrays = {"a": normal(m, k), "b": normal(k, n), "c": np.full((m, n), np.nan, bf16)}
    function, sizes = function_of(gpu_linear.matmul, BM=16, BN=32, BK=16), {"M": m, "N": n, "K": k}
    compare(function, sizes, arrays, options=Options(carried=True, persistent=persistent), rtol=1e-2, atol=1e-2)
    assert carried(function, sizes) == {"a": 16, "b": 16 * n}


def test_a_stretch_of_the_depth_begins_where_it_begins() -> None:
    arrays = {"x": normal(5, 90), "w": normal(20, 90), "part": np.full((3, 5, 20), np.nan, np.float32)}
    function, sizes = (
        function_of(batch.linear_parts, BM=16, BN=16, BK=16, DEPTH=32),
        {"T": 5, "N": 20, "K": 90, "PARTS": 3},
    )
    compare(function, sizes, arrays, options=CARRIED, rtol=1e-2, atol=1e-2)
    assert carried(function, sizes) == {"x": 16, "w": 16}


@zl.kernel
def late(x: zl.In[f32, M, K], start: zl.UpTo[K], *, y: zl.Out[f32, M, 8]):
    """Turns from a run-time start, in steps of 3, over every second column."""
    zl.requires(K >= 64)
    zl.requires(M >= 16)
    rows = zl.grid(M.tiles(16))
    acc = zl.zeros((16, 8), f32)
    for k in range(zl.minimum(start, 7), 20, 3):
        cols = 2 * k + zl.arange(8)
        acc = acc + x[rows, cols]
    y[rows, zl.arange(8)] = acc


@pytest.mark.parametrize("start", [0, 1, 5, 64])
def test_a_loop_from_anywhere_in_any_steps(start: int) -> None:
    arrays = {"x": rng.standard_normal((20, 70)).astype(np.float32), "y": np.full((20, 8), np.nan, np.float32)}
    compare(function_of(late), {"M": 20, "K": 70}, arrays, {"start": start}, options=CARRIED)
    assert carried(function_of(late), {"M": 20, "K": 70}) == {"x": 6}


@zl.kernel
def paged(x: zl.In[f32, N, 16, K], table: zl.In[zl.Index[N], M], *, y: zl.Out[f32, 16, K]):
    """Which page a turn reads is read itself."""
    zl.requires(K == 16)
    zl.grid(1)
    acc = zl.zeros((16, 16), f32)
    for m in range(M):
        acc = acc + x[table[m], zl.arange(16), zl.arange(16)]
    y[zl.arange(16), zl.arange(16)] = acc


def test_addresses_that_are_read_are_not_carried() -> None:
    arrays = {
        "x": rng.standard_normal((4, 16, 16)).astype(np.float32), "table": np.array([2, 0, 3], np.int32),
        "y": np.full((16, 16), np.nan, np.float32),
    }  # fmt: skip
    sizes = {"N": 4, "K": 16, "M": 3}
    compare(function_of(paged), sizes, arrays, options=CARRIED)
    assert carried(function_of(paged), sizes) == {}
