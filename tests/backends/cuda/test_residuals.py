"""Sums that start at what they replace in memory are added to it instead, where nothing else could tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.backends.cuda.interpreted import function_of

import zellige as zl
from zellige import bf16, f32
from zellige.backends.cuda.residuals import added_to_memory
from zellige.backends.reference.launch import run
from zellige.ir import ops, spec
from zellige.ir.ops import Function, UpdateOp
from zellige.ir.types import Role
from zellige.ir.walk import walk
from zellige.kernels import batch
from zellige.runtime.element_types import numpy_dtype

M, N, K = zl.dims("M N K")
TILE = dict(BM=16, BN=32, BK=16)


def rewritten(kernel: Any, **statics: Any) -> Function:
    return added_to_memory(function_of(kernel, **statics))


@pytest.mark.parametrize("sizes", [{"T": 16, "N": 32, "K": 16}, {"T": 33, "N": 72, "K": 50}], ids=str)
def test_the_residual_is_added_where_it_lies(sizes: dict[str, int]) -> None:
    plain, made = function_of(batch.linear_rows_add, **TILE), rewritten(batch.linear_rows_add, **TILE)
    spec.check(made)
    kinds = [type(op) for op in walk(made.body) if getattr(op, "array", None) == "h"]
    assert kinds == [ops.Update] and made.array("h").role is Role.ACC
    random = np.random.default_rng(0)
    arrays = {
        a.name: random.standard_normal([e.evaluate(sizes) for e in a.shape]).astype(numpy_dtype(a.dtype))
        for a in plain.arrays
    }
    found, expected = ({name: array.copy() for name, array in arrays.items()} for _ in range(2))
    run(plain, sizes, expected, {})
    run(made, sizes, found, {})
    np.testing.assert_allclose(found["h"], expected["h"], rtol=1e-5, atol=1e-5)
    assert np.abs(expected["h"] - arrays["h"]).max() > 1


@zl.kernel
def elsewhere(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, h: zl.Mut[f32, 2, M, N]):
    """What is stored lies beside what was loaded."""
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    acc = h[0, rows, cols]
    for depth in K.tiles(16):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    h[1, rows, cols] = acc


@zl.kernel
def other_array(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], h: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    acc = h[rows, cols]
    for depth in K.tiles(16):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    y[rows, cols] = acc


@zl.kernel
def seen_again(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, h: zl.Mut[f32, M, N], y: zl.Out[f32, M, N]):
    """What was loaded is also stored as it is."""
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    before = h[rows, cols]
    acc = before
    for depth in K.tiles(16):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    h[rows, cols] = acc
    y[rows, cols] = before


@zl.kernel
def sums_kept(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, h: zl.Mut[f32, M, N], y: zl.Out[f32, M, N]):
    """The sums themselves are wanted, too."""
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    acc = h[rows, cols]
    for depth in K.tiles(16):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    h[rows, cols] = acc
    y[rows, cols] = acc


@zl.kernel
def doubled_after(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, h: zl.Mut[f32, M, N]):
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    acc = h[rows, cols]
    for depth in K.tiles(16):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    h[rows, cols] = acc + acc


@zl.kernel
def decayed(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, h: zl.Mut[f32, M, N]):
    """Each turn halves what was there before."""
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    acc = h[rows, cols]
    for depth in K.tiles(16):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc * 0.5)
    h[rows, cols] = acc


@zl.kernel
def read_in_the_loop(x: zl.In[bf16, M, K], w: zl.In[bf16, K, K], *, h: zl.Mut[f32, M, K]):
    """Turns read the array that the sums go to."""
    rows, cols = zl.grid(M.tiles(16), K.tiles(16))
    acc = h[rows, cols]
    for depth in K.tiles(16):
        acc = zl.dot(x[rows, depth] + h[rows, depth].to(bf16), w[cols, depth].T, acc)
    h[rows, cols] = acc


@zl.kernel
def narrow(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, h: zl.Mut[bf16, M, N]):
    """Sums are rounded when they are stored, not each addend."""
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    acc = h[rows, cols].to(f32)
    for depth in K.tiles(16):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    h[rows, cols] = acc.to(bf16)


@zl.kernel
def twice(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, h: zl.Mut[f32, M, N]):
    """A second loop goes on with the sums of the first."""
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    acc = h[rows, cols]
    for depth in K.tiles(16):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    for depth in K.tiles(16):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    h[rows, cols] = acc


@pytest.mark.parametrize(
    "kernel",
    [elsewhere, other_array, seen_again, sums_kept, doubled_after, decayed, read_in_the_loop, narrow, twice],
    ids=lambda kernel: kernel.name,
)
def test_others_stay_as_they_are(kernel: Any) -> None:
    function = function_of(kernel)
    assert added_to_memory(function) is function


@pytest.mark.parametrize("change", ["masks", "index"])
def test_other_lanes_than_those_loaded_are_not_added_to(change: str) -> None:
    function = function_of(batch.linear_rows_add, **TILE)
    assert added_to_memory(function) is not function
    top = function.body.ops
    (store,) = (op for op in top if isinstance(op, ops.Store))
    fewer = store.masks[:1] if change == "masks" else store.index[::-1]
    top[top.index(store)] = replace(store, **{change: fewer})
    assert added_to_memory(function) is function


def test_the_update_adds() -> None:
    (update,) = (op for op in rewritten(batch.linear_rows_add, **TILE).body.ops if isinstance(op, ops.Update))
    assert update.op is UpdateOp.ADD
