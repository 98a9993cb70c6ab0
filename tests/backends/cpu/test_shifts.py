"""Shifts by the width or more: LLVM's own are poison, and an index clamped from poison once read outside its array."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from zellige import f32, i32, u8

T = zl.dims("T")


@zl.kernel
def constant_amount(x: zl.In[f32, 8], v: zl.In[i32, T], *, y: zl.Out[f32, T]):
    t = zl.grid(T)
    y[t] = x[zl.clamp(zl.full((), 1, i32) << 32, 0, 7)] + v[t].to(f32)


@zl.kernel
def amounts_from_memory(
    v: zl.In[i32, T], w: zl.In[u8, T], *, left: zl.Out[i32, T], right: zl.Out[i32, T], low: zl.Out[u8, T]
):
    t = zl.grid(T.tiles(8))
    left[t], right[t] = zl.full((8,), 1, i32) << v[t], zl.full((8,), -5, i32) >> v[t]
    low[t] = zl.full((8,), 255, u8) >> w[t]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_shift_by_too_much_leaves_zero_or_the_sign(backend):
    amounts = np.array([0, 1, 31, 32, 33, 64, -1, 2**31 - 1], np.int32)
    with zl.using(backend):
        read = constant_amount(np.arange(8, dtype=np.float32), np.zeros(3, np.int32))
        left, right, low = amounts_from_memory(amounts, np.array([0, 1, 7, 8, 9, 31, 32, 255], np.uint8))
    np.testing.assert_array_equal(read.numpy(), [0, 0, 0])
    np.testing.assert_array_equal(left.numpy(), [1, 2, -(2**31), 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(right.numpy(), [-5, -3, -1, -1, -1, -1, -1, -1])
    np.testing.assert_array_equal(low.numpy(), [255, 127, 1, 0, 0, 0, 0, 0])
