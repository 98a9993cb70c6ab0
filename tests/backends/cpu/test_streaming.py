"""Stores past the caches: only where they pay, only where they may, and with the results of ordinary ones."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from zellige import f32
from zellige.backends.cpu.compile import listing
from zellige.backends.cpu.streaming import _LARGE
from zellige.runtime.tensor import borrow

T, D = zl.dims("T D")
WIDTH = 1040
"""Of a row: longer than what is worth it, and no whole number of vectors."""


@zl.kernel
def doubled(x: zl.In[f32, T, D], *, y: zl.Out[f32, T, D]):
    t = zl.grid(T)
    y[t, :] = x[t, :] * 2.0


@zl.kernel
def raised(x: zl.In[f32, T, D], *, y: zl.Out[f32, T, D]):
    """A row that is kept before it is stored."""
    t = zl.grid(T)
    row = zl.exp(x[t, :])
    y[t, :] = row * zl.sum(row)


@zl.kernel
def doubled_in_place(*, y: zl.Mut[f32, T, D]):
    t = zl.grid(T)
    y[t, :] = y[t, :] * 2.0


@zl.kernel
def doubled_columns(x: zl.In[f32, T, D], *, y: zl.Out[f32, T, D]):
    d = zl.grid(D)
    y[:, d] = x[:, d] * 2.0


def machine_code(kernel, width: int, target: str) -> str:
    fixed = {"D": width} if kernel is not doubled_columns else {"T": width}
    return listing(kernel.lower({}, {}), fixed, target).asm_text


@pytest.mark.parametrize("kernel", [doubled, raised])
@pytest.mark.parametrize(
    ("target", "store"), [("avx512", "vmovntps\t%zmm"), ("avx2", "vmovntps\t%ymm"), ("generic", "movntps")]
)
def test_long_rows_of_an_output_are_stored_both_ways_and_fenced(kernel, target, store) -> None:
    text = machine_code(kernel, WIDTH, target)
    assert store in text and "movups" in text
    assert text.count("sfence") == 1


@pytest.mark.parametrize(
    ("kernel", "width", "target"),
    [
        (doubled_in_place, WIDTH, "avx512"),
        (doubled_columns, WIDTH, "avx512"),
        (doubled, 128, "avx512"),
        (doubled, WIDTH, "aarch64"),
    ],
    ids=["read before", "by columns", "short", "no such store"],
)
def test_other_stores_go_through_the_caches(kernel, width, target) -> None:
    text = machine_code(kernel, width, target)
    assert "movnt" not in text and "sfence" not in text


@pytest.mark.parametrize("kernel", [doubled, raised])
@pytest.mark.parametrize("skip", [0, 1], ids=["on lines", "beside lines"])
@pytest.mark.parametrize("width", [1024, WIDTH, 1056])
def test_large_results_are_those_of_small_ones(kernel, width, skip) -> None:
    rows = _LARGE // (4 * width) + 1
    x = np.random.default_rng(width).standard_normal((rows, width), dtype=np.float32)
    room = np.full(rows * width + 32, np.nan, np.float32)
    first = -room.ctypes.data % 64 // 4 + skip
    y = room[first : first + rows * width].reshape(rows, width)
    kernel(x, y=borrow(y))
    few = np.asarray(kernel(x[:8]).numpy())
    np.testing.assert_array_equal(y[:8], few)
    last = np.asarray(kernel(x[-8:]).numpy())
    np.testing.assert_array_equal(y[-8:], last)
    assert not np.isnan(y).any()
