"""The affine form of an index predicts every lane, and its bounds hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zellige as zl
from tests.ir.programs import random_arguments, random_function
from zellige import f32
from zellige.backends.reference.interpreter import Interpreter
from zellige.ir import dtypes, ops
from zellige.ir.ops import Function, Value
from zellige.ir.walk import operands, results, walk
from zellige.passes.affine import Affine, affine
from zellige.passes.bounds import bounds_of_values

M, N, K = zl.dims("M N K")


class Watcher(Interpreter):
    """Compares every value computed with what the analyses say of it."""

    forms: dict[Value, Affine]
    bounds: Any
    seen = 0

    def _execute(self, op: ops.Op) -> None:
        super()._execute(op)
        for value in {*operands(op), *results(op)}:
            array = self.values[value]
            if value in self.bounds and array.size:
                assert self.bounds[value].low <= array.min() and array.max() <= self.bounds[value].high
            if value in self.forms:
                form = self.forms[value]
                np.testing.assert_array_equal(array, self.predicted(form, array.shape))
                if form.alignment and array.size:
                    assert array.flat[0] % form.alignment == 0
                self.seen += 1

    def linear(self, form: Any) -> int:
        return form.constant + sum(c * int(self.values[v]) for v, c in form.terms)

    def predicted(self, form: Affine, shape: tuple[int, ...]) -> Any:
        total = np.full(shape, self.linear(form.base))
        for axis, stride in enumerate(form.strides):
            lane = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
            total = total + lane * self.linear(stride)
        return total


def watch(function: Function, dims: Any, arrays: Any, scalars: Any) -> int:
    made = {s.name: np.array(scalars[s.name]) for s in function.scalars}
    grid = tuple(a.programs.evaluate(dims) for a in function.grid)
    machine = Watcher(function, dims, arrays, made, grid, None)
    machine.forms, machine.bounds = affine(function), bounds_of_values(function)
    with np.errstate(all="ignore"):
        for number in range(int(np.prod(grid))):
            machine.run_program(number)
    return machine.seen


@pytest.mark.parametrize("seed", range(60))
def test_forms_and_bounds_hold_in_random_functions(seed: int) -> None:
    function = random_function(seed, size=16)
    assert watch(function, *random_arguments(function, seed, 11)) > 0


@zl.kernel
def paged(x: zl.In[f32, M], table: zl.In[zl.Index[N], K], pages: zl.In[f32, N, 16], *, y: zl.Out[f32, M, K]):
    t = zl.grid(M)
    for chunk in zl.tiles(K * 16, 4):
        page = table[chunk // 16]
        value = pages[page, chunk % 16]
        y[t, 0] = zl.sum(value) + x[t]


def test_quotients_that_move_from_page_to_page_are_not_affine() -> None:
    """A loop over spans of 4 passes through pages of 16: no linear form holds for every iteration."""
    function = paged.lower({}, {})
    forms = affine(function)
    quotients = [op for op in walk(function.body) if isinstance(op, ops.Binary) and op.op is ops.BinaryOp.FLOORDIV]
    assert quotients and all(op.result not in forms for op in quotients)
    dims = {"M": 1, "N": 3, "K": 2}
    arrays = {
        "x": np.zeros(1, np.float32), "table": np.array([2, 0], np.int32),
        "pages": np.zeros((3, 16), np.float32), "y": np.zeros((1, 2), np.float32),
    }  # fmt: skip
    watch(function, dims, arrays, {})


@zl.kernel
def tiles(x: zl.In[f32, M, 64], *, y: zl.Out[f32, M, 64], BM: zl.Static):
    rows = zl.grid(M.tiles(BM))
    y[rows, :] = x[rows, (zl.arange(64) + 64) % 64]


def test_strides_contiguity_and_alignment_of_accesses() -> None:
    function = tiles.lower({"BM": 8}, {})
    forms = affine(function)
    store = next(op for op in walk(function.body) if isinstance(op, ops.Store))
    load = next(op for op in walk(function.body) if isinstance(op, ops.Load))
    rows, cols = (forms[v] for v in store.index)
    assert [s.value for s in rows.strides] == [1, 0] and rows.alignment == 8
    assert [s.value for s in cols.strides] == [0, 1] and cols.base.value == 0
    assert [s.value for s in forms[load.index[1]].strides] == [0, 1]
    assert all(v.type.dtype is dtypes.index for v in forms)
