"""Which arrays bulk copies may move: those whose accesses need no order among each other."""

from __future__ import annotations

from typing import Any

import pytest
from tests.backends.cuda.interpreted import function_of

import zellige as zl
from zellige import bf16
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.ir.walk import specialise

M, N = zl.dims("M N")


@zl.kernel
def once(x: zl.In[bf16, M, N], *, y: zl.Out[bf16, M, N]):
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    y[rows, cols] = x[rows, cols] + x[rows, cols]


@zl.kernel
def twice(x: zl.In[bf16, M, N], *, y: zl.Out[bf16, M, N]):
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    y[rows, cols] = x[rows, cols]
    if rows.start == 0:
        y[rows, cols] = x[rows, cols] + x[rows, cols]


@zl.kernel
def over_and_over(x: zl.In[bf16, M, N], *, y: zl.Out[bf16, M, N]):
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    tile = x[rows, cols]
    for _ in range(3):
        tile = tile + x[rows, cols]
        y[rows, cols] = tile


@zl.kernel
def in_place(x: zl.In[bf16, M, N], *, y: zl.Mut[bf16, M, N]):
    rows, cols = zl.grid(M.tiles(16), N.tiles(16))
    y[rows, cols] = y[rows, cols] + x[rows, cols]


@pytest.mark.parametrize(
    ("kernel", "stores"), [(once, True), (twice, False), (over_and_over, False), (in_place, False)]
)
def test_an_array_is_stored_by_boxes_if_nothing_has_to_come_before_or_after(kernel: Any, stores: bool) -> None:
    options = Options(descriptors=frozenset("xy"))
    text = lower(specialise(function_of(kernel), {"M": 64, "N": 64}), options).text
    assert ("y_box.store" in text) == stores
    assert "x_box.load" in text
