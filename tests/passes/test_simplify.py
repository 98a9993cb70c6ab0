"""Simplified functions are well formed, mean the same, and are smaller where they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zellige as zl
from tests.ir.programs import random_arguments, random_function
from zellige import bf16, f32
from zellige.backends.reference import run
from zellige.ir import ops, spec
from zellige.ir.ops import Function
from zellige.ir.walk import walk
from zellige.passes.simplify import simplify

M, N, K = zl.dims("M N K")


def results_of(function: Function, seed: int, m: int) -> dict[str, Any]:
    dims, arrays, scalars = random_arguments(function, seed, m)
    arrays["out"][...] = 0
    run(function, dims, arrays, scalars)
    return {"out": arrays["out"], "best": arrays["best"]}


@pytest.mark.parametrize("seed", range(150))
def test_random_functions_keep_their_meaning(seed: int) -> None:
    function = random_function(seed, size=20)
    for m in (0, 1, 8, 13):
        small = simplify(function, {"M": m})
        spec.check(small)
        wanted, got = results_of(function, seed, m), results_of(small, seed, m)
        np.testing.assert_array_equal(got["out"], wanted["out"])
        np.testing.assert_array_equal(got["best"], wanted["best"])
    general = simplify(function)
    spec.check(general)
    np.testing.assert_array_equal(results_of(general, seed, 9)["out"], results_of(function, seed, 9)["out"])


@zl.kernel
def matmul(
    a: zl.In[bf16, M, K], b: zl.In[bf16, K, N], *, c: zl.Out[f32, M, N], BM: zl.Static, BN: zl.Static, BK: zl.Static
):
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(a[rows, depth], b[depth, cols], acc)
    c[rows, cols] = acc


def masks(function: Function) -> list[int]:
    return [len(op.masks) for op in walk(function.body) if isinstance(op, ops.Load | ops.Store)]


def test_masks_go_where_tiles_divide_extents_and_stay_where_they_do_not() -> None:
    function = matmul.lower({"BM": 16, "BN": 16, "BK": 32}, {})
    assert masks(function) == [2, 2, 2]
    assert masks(simplify(function)) == [2, 2, 2]
    assert masks(simplify(function, {"M": 32, "N": 48, "K": 64})) == [0, 0, 0]
    assert masks(simplify(function, {"M": 33, "N": 48, "K": 64})) == [1, 0, 1]
    assert masks(simplify(function, {"M": 32, "N": 48, "K": 65})) == [1, 1, 0]


def test_dead_code_goes() -> None:
    function = matmul.lower({"BM": 16, "BN": 16, "BK": 32}, {})
    small = simplify(function, {"M": 32, "N": 48, "K": 64})
    compares = [op for op in walk(small.body) if isinstance(op, ops.Binary) and op.op is ops.BinaryOp.LT]
    assert compares == [] and not any(isinstance(op, ops.ExtentValue) for op in walk(small.body))


@zl.kernel
def branching(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if t < M:
        value = x[t] * 2.0
    else:
        value = x[t] * 3.0
    y[t] = value


def test_branches_that_are_known_are_taken() -> None:
    small = simplify(branching.lower({}, {}), {"M": 4})
    assert not any(isinstance(op, ops.If) for op in walk(small.body))
    x, y = np.arange(4, dtype=np.float32), np.zeros(4, np.float32)
    run(small, {}, {"x": x, "y": y}, {})
    np.testing.assert_array_equal(y, 2 * x)


def test_loops_without_iterations_go() -> None:
    small = simplify(matmul.lower({"BM": 16, "BN": 16, "BK": 32}, {}), {"M": 32, "N": 48, "K": 0})
    assert not any(isinstance(op, ops.For) for op in walk(small.body))
