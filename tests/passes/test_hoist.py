"""Loads of constants in front: well formed, the same meaning, and nothing moved that something else decides."""

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
from zellige.ir.walk import specialise, walk
from zellige.kernels.decode import linear_residual, norm_linear
from zellige.passes.hoist import UNROLLED, constants_first, unroll_short_loops

N, D, V = zl.dims("N D V")


def results_of(function: Function, seed: int, m: int) -> dict[str, Any]:
    dims, arrays, scalars = random_arguments(function, seed, m)
    arrays["out"][...] = 0
    run(function, dims, arrays, scalars)
    return {"out": arrays["out"], "best": arrays["best"]}


@pytest.mark.parametrize("seed", range(60))
def test_random_functions_keep_their_meaning(seed: int) -> None:
    function = specialise(random_function(seed, size=20), {"M": 13})
    constant = frozenset(a.name for a in function.arrays if a.name not in ("out", "best"))
    moved = constants_first(unroll_short_loops(function), constant)
    spec.check(moved)
    wanted, got = results_of(function, seed, 13), results_of(moved, seed, 13)
    np.testing.assert_array_equal(got["out"], wanted["out"])
    np.testing.assert_array_equal(got["best"], wanted["best"])


def first_loads(function: Function) -> list[str]:
    """Arrays loaded at the top level before anything that is no part of an address."""
    found = []
    for op in function.body.ops:
        if isinstance(op, ops.Load):
            found.append(op.array)
        elif isinstance(op, ops.For | ops.If | ops.While | ops.Reduce | ops.Cast):
            break
    return found


def lowered(kernel: Any, dims: dict[str, int], **statics: int) -> Function:
    return specialise(kernel.lower({**kernel.signature.statics, **statics}, {"Y": bf16, "X": bf16}), dims)


def test_weights_of_all_iterations_come_before_the_activations_and_before_what_is_made_of_them() -> None:
    function = lowered(linear_residual, {"T": 1, "N": 64, "D": 384}, BN=4, BK=128)
    moved = constants_first(unroll_short_loops(function), frozenset("w"))
    spec.check(moved)
    assert first_loads(moved)[:3] == ["w", "w", "w"]
    assert not any(isinstance(op, ops.For) for op in walk(moved.body))


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_loads_of_an_array_go_ahead_than_asked_for(most: int) -> None:
    function = lowered(linear_residual, {"T": 1, "N": 64, "D": 384}, BN=4, BK=128)
    moved = constants_first(unroll_short_loops(function), frozenset("w"), most)
    spec.check(moved)
    loads = [op.array for op in moved.body.ops if isinstance(op, ops.Load)]
    assert loads[: most + 1] == ["w"] * most + ["h"]
    assert loads.count("w") == 3


def test_an_array_that_something_writes_stays_where_it_was() -> None:
    function = unroll_short_loops(lowered(norm_linear, {"T": 1, "N": 64, "D": 128}, BN=4, BK=128))
    assert set(first_loads(constants_first(function, frozenset("gw")))) >= {"g", "w"}
    moved = constants_first(function, frozenset("w"))
    order = [op.array for op in moved.body.ops if isinstance(op, ops.Load)]
    assert order == ["w", "h", "g"], "only w may go before the others"
    assert constants_first(function, frozenset()).body.ops == function.body.ops


def test_what_a_load_of_another_array_addresses_is_not_moved_before_it() -> None:
    @zl.kernel
    def pick(at: zl.In[zl.Index[V], N], table: zl.In[f32, V], *, y: zl.Out[f32, N]):
        i = zl.grid(N)
        y[i] = table[at[i]]

    function = specialise(pick.lower({}, {}), {"N": 4, "V": 9})
    assert first_loads(constants_first(function, frozenset({"table"}))) == ["at", "table"]
    spec.check(constants_first(function, frozenset({"table", "at"})))


def test_long_loops_and_loops_around_matrix_products_stay() -> None:
    @zl.kernel
    def total(x: zl.In[f32, N, D], *, y: zl.Out[f32, N], BK: zl.Static):
        i = zl.grid(N)
        acc = zl.zeros((BK,), f32)
        for d in D.tiles(BK):
            acc = acc + x[i, d]
        y[i] = zl.sum(acc)

    def loops(turns: int) -> int:
        function = specialise(total.lower({"BK": 8}, {}), {"N": 2, "D": 8 * turns})
        return sum(isinstance(op, ops.For) for op in walk(unroll_short_loops(function).body))

    assert [loops(turns) for turns in (1, UNROLLED, UNROLLED + 1)] == [0, 0, 1]

    @zl.kernel
    def product(a: zl.In[f32, N, D], b: zl.In[f32, D, N], *, y: zl.Out[f32, N, N], BM: zl.Static, BK: zl.Static):
        rows, cols = zl.grid(N.tiles(BM), N.tiles(BM))
        acc = zl.zeros((BM, BM), f32)
        for d in D.tiles(BK):
            acc = zl.dot(a[rows, d], b[d, cols], acc)
        y[rows, cols] = acc

    function = specialise(product.lower({"BM": 16, "BK": 16}, {}), {"N": 16, "D": 32})
    assert any(isinstance(op, ops.For) for op in walk(unroll_short_loops(function).body))
