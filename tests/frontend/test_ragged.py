"""Ragged grids and loops: what they compute on both backends, what is proved of them, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, f32
from zellige.verify.verifier import verify

T, S, H, M = zl.dims("T S H M")

CUTS = ([0, 3, 3, 20, 29], [0, 0, 0], [0, 8, 16], [0, 1], [0], [0, 0, 0, 5, 5], [0, 40, 41, 80])
"""Segments that are empty, whole tiles, several tiles, one element; no segment at all."""


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Any:
    with zl.using(request.param):
        yield


@zl.kernel
def scale_segments(
    x: zl.In[f32, T, H],
    w: zl.In[f32, S, H],
    offsets: zl.In[zl.Offsets[T], S + 1],
    *,
    y: zl.Out[f32, T, H],
    B: zl.Static = 8,
):
    seg, rows, h = zl.grid(offsets.tiles(B), H)
    y[rows, h] = x[rows, h] * w[seg, h]


@zl.kernel
def scale_by_loop(
    x: zl.In[f32, T, H],
    w: zl.In[f32, S, H],
    offsets: zl.In[zl.Offsets[T], S + 1],
    *,
    y: zl.Out[f32, T, H],
    B: zl.Static = 8,
):
    seg, h = zl.grid(S, H)
    for rows in zl.tiles(offsets[seg], offsets[seg + 1], B):
        y[rows, h] = x[rows, h] * w[seg, h]


@zl.kernel
def scale_by_element(
    x: zl.In[f32, T, H], w: zl.In[f32, S, H], offsets: zl.In[zl.Offsets[T], S + 1], *, y: zl.Out[f32, T, H]
):
    seg, h = zl.grid(S, H)
    for row in range(offsets[seg], offsets[seg + 1]):
        y[row, h] = x[row, h] * w[seg, h]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("kernel", [scale_segments, scale_by_loop, scale_by_element], ids=lambda k: k.name)
def test_each_segment_meets_its_own_weights(backend: None, kernel: Any, cuts: list[int]) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.random((cuts[-1], 3), np.float32), rng.random((len(cuts) - 1, 3), np.float32)
    y = kernel(x, w, np.array(cuts, np.int32)).numpy()
    np.testing.assert_array_equal(y, x * np.repeat(w, np.diff(cuts), axis=0))


@zl.kernel
def grouped_matmul(
    a: zl.In[f32, T, H], b: zl.In[f32, S, H, M], offsets: zl.In[zl.Offsets[T], S + 1], *,
    c: zl.Out[f32, T, M], BT: zl.Static = 8, BM: zl.Static = 16, BH: zl.Static = 8,
):  # fmt: skip
    group, rows, cols = zl.grid(offsets.tiles(BT), M.tiles(BM))
    acc = zl.zeros((BT, BM), f32)
    for depth in H.tiles(BH):
        acc = zl.dot(a[rows, depth], b[group, depth, cols], acc)
    c[rows, cols] = acc


def test_grouped_matmul(backend: None) -> None:
    rng = np.random.default_rng(2)
    cuts = [0, 5, 5, 21]
    a, b = rng.random((21, 12), np.float32), rng.random((3, 12, 20), np.float32)
    c = grouped_matmul(a, b, np.array(cuts, np.int32)).numpy()
    for g in range(3):
        rows = slice(cuts[g], cuts[g + 1])
        np.testing.assert_allclose(c[rows], a[rows] @ b[g], rtol=1e-5)


@zl.kernel
def segment_sums(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S + 1], *, total: zl.Out[f32, S], B: zl.Static = 8):
    seg = zl.grid(S)
    acc = zl.zeros((), f32)
    for rows in zl.tiles(offsets[seg], offsets[seg + 1], B):
        acc = acc + zl.sum(x[rows])
    total[seg] = acc


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_sums_of_segments(backend: None, cuts: list[int]) -> None:
    x = np.arange(cuts[-1], dtype=np.float32)
    total = segment_sums(x, np.array(cuts, np.int32)).numpy()
    np.testing.assert_array_equal(total, [x[a:b].sum() for a, b in pairwise(cuts)])


@zl.kernel
def early_return_in_a_ragged_grid(
    x: zl.In[f32, T],
    skip: zl.In[zl.i32, S],
    offsets: zl.In[zl.Offsets[T], S + 1],
    *,
    y: zl.Mut[f32, T],
    B: zl.Static = 4,
):
    seg, rows = zl.grid(offsets.tiles(B))
    if skip[seg] != 0:
        return
    y[rows] = x[rows]


def test_a_program_of_a_ragged_grid_may_return_early(backend: None) -> None:
    x, y = np.arange(1, 10, dtype=np.float32), np.zeros(9, np.float32)
    early_return_in_a_ragged_grid(x, np.array([0, 1, 0], np.int32), np.array([0, 2, 7, 9], np.int32), y=y)
    np.testing.assert_array_equal(y, [1, 2, 0, 0, 0, 0, 0, 8, 9])


# --- what must be refused --------------------------------------------------------------------------------------------


def one_result_per_tile(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S + 1], *, y: zl.Mut[f32, S]):
    seg, rows = zl.grid(offsets.tiles(8))
    y[seg] = zl.sum(x[rows])


def shifted_by_one(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S + 1], *, y: zl.Mut[f32, T]):
    seg, rows = zl.grid(offsets.tiles(8))
    y[rows + 1] = x[rows]


def shifted_within_a_longer_output(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S + 1], *, y: zl.Out[f32, T + 1]):
    seg, rows = zl.grid(offsets.tiles(8))
    y[rows + 1] = x[rows]


def output_longer_than_the_segments(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S + 1], *, y: zl.Out[f32, 2 * T]):
    seg, rows = zl.grid(offsets.tiles(8))
    y[rows] = x[rows]


def beyond_the_segment(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S + 1], *, y: zl.Mut[f32, T]):
    seg = zl.grid(S)
    for rows in zl.tiles(offsets[seg], offsets[seg] + 8, 8):
        y[rows] = x[rows]


def one_element_beyond_the_segment(
    x: zl.In[f32, T + 1], offsets: zl.In[zl.Offsets[T], S + 1], *, y: zl.Mut[f32, T + 1]
):
    seg = zl.grid(S)
    for rows in zl.tiles(offsets[seg], offsets[seg + 1] + 1, 8):
        y[rows] = x[rows]


def segment_without_its_first(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S + 1], *, y: zl.Out[f32, T]):
    seg = zl.grid(S)
    for rows in zl.tiles(offsets[seg] + 1, offsets[seg + 1], 8):
        y[rows] = x[rows]


def next_segment(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S + 1], w: zl.In[f32, S], *, y: zl.Out[f32, T]):
    seg, rows = zl.grid(offsets.tiles(8))
    y[rows] = x[rows] * w[seg + 1]


def offset_past_the_last(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S], *, y: zl.Mut[f32, T]):
    seg = zl.grid(S)
    for rows in zl.tiles(offsets[seg], offsets[seg + 1], 8):
        y[rows] = x[rows]


@pytest.mark.parametrize(
    ("function", "codes"),
    [
        (one_result_per_tile, {"ZL0301"}),
        (shifted_by_one, {"ZL0201"}),
        (shifted_within_a_longer_output, {"ZL0303"}),
        (output_longer_than_the_segments, {"ZL0303"}),
        (beyond_the_segment, {"ZL0201", "ZL0301"}),
        (one_element_beyond_the_segment, {"ZL0301"}),
        (segment_without_its_first, {"ZL0303"}),
        (next_segment, {"ZL0201"}),
        (offset_past_the_last, {"ZL0201"}),
    ],
)
def test_the_nearly_right_is_refused(function: Callable[..., Any], codes: set[str]) -> None:
    verdict = verify(zl.kernel(function).lower({}, {}))
    assert {finding.code for finding in verdict.findings} == codes


def tiles_of_no_offsets(x: zl.In[f32, T], n: zl.In[zl.UpTo[T], S], *, y: zl.Mut[f32, T]):
    seg, rows = zl.grid(n.tiles(8))
    y[rows] = x[rows]


def precondition_after_a_ragged_grid(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S + 1], *, y: zl.Out[f32, T]):
    seg, rows = zl.grid(offsets.tiles(8))
    zl.requires(S > 1)
    y[rows] = x[rows]


def one_name_too_few(x: zl.In[f32, T], offsets: zl.In[zl.Offsets[T], S + 1], *, y: zl.Out[f32, T]):
    seg, rows = zl.grid(offsets.tiles(8), S)
    y[rows] = x[rows]


@pytest.mark.parametrize(
    ("function", "code", "says"),
    [
        (tiles_of_no_offsets, "ZL0110", "zl.Offsets[T], S + 1"),
        (precondition_after_a_ragged_grid, "ZL0110", "before"),
        (one_name_too_few, "ZL0104", "a tuple of 3"),
    ],
)
def test_mistakes_with_ragged_grids_have_their_messages(function: Callable[..., Any], code: str, says: str) -> None:
    with pytest.raises(ZelligeError) as caught:
        zl.kernel(function).lower({}, {})
    assert caught.value.code == code and says in caught.value.render()
