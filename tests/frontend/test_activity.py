"""Which lanes are active, and how kernels see and choose it: spans, derived tiles, conditions, optional entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import f32
from zellige.verify.verifier import verify

M, N, T, P, NB = zl.dims("M N T P NB")
rng = np.random.default_rng(4)


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Any:
    with zl.using(request.param):
        yield


@zl.kernel
def active_lanes(x: zl.In[f32, M, N], *, count: zl.Out[f32, 1], least: zl.Out[f32, 1], B: zl.Static = 4):
    total, low = zl.zeros((), f32), zl.full((), zl.inf, f32)
    for rows in M.tiles(B):
        for cols in N.tiles(B):
            part = x[rows, cols] * 2.0
            total = total + zl.sum(part.active.to(f32))
            low = zl.minimum(low, zl.min(zl.where(part.active, part, zl.inf)))
    count[0] = total
    least[0] = low


@pytest.mark.parametrize("shape", [(1, 1), (4, 8), (5, 7)])
def test_a_derived_tile_knows_its_active_lanes(backend: None, shape: tuple[int, int]) -> None:
    x = rng.random(shape, np.float32) + 1
    count, least = (t.numpy() for t in active_lanes(x))
    assert count[0] == x.size and least[0] == 2 * x.min()


@zl.kernel
def some_lanes(x: zl.In[f32, M], *, y: zl.Mut[f32, M], B: zl.Static = 4):
    i = zl.grid(M.tiles(B))
    chosen = zl.only(i, x[i] > 0.5)
    y[chosen] = x[chosen]


def test_a_store_touches_only_lanes_of_a_condition(backend: None) -> None:
    x, y = np.array([0, 1, 0.2, 0.7, 0.9], np.float32), np.full(5, -1, np.float32)
    some_lanes(x, y=y)
    np.testing.assert_array_equal(y, np.where(x > 0.5, x, -1))


@zl.kernel
def scatter_present(
    x: zl.In[f32, T], slot: zl.In[zl.Index[N, zl.distinct, zl.optional], T], *, y: zl.Mut[f32, N], B: zl.Static = 4
):
    t = zl.grid(T.tiles(B))
    s = slot[t]
    y[zl.only(s, s.present)] = x[t]


def test_absent_entries_of_a_tile_write_nothing(backend: None) -> None:
    x, y = np.arange(1, 6, dtype=np.float32), np.zeros(4, np.float32)
    scatter_present(x, np.array([2, -1, 0, -1, 3], np.int32), y=y)
    np.testing.assert_array_equal(y, [3, 0, 1, 5])


@zl.kernel
def gather_present(x: zl.In[f32, N], slot: zl.In[zl.Index[N, zl.optional], T], *, y: zl.Out[f32, T], B: zl.Static = 4):
    t = zl.grid(T.tiles(B))
    s = slot[t]
    y[t] = zl.where(s.present, x[zl.only(s, s.present)], -1.0)


def test_absent_entries_of_a_tile_read_nothing(backend: None) -> None:
    x = np.arange(1, 4, dtype=np.float32)
    y = gather_present(x, np.array([2, -1, 0, -1, 1], np.int32)).numpy()
    np.testing.assert_array_equal(y, [3, -1, 1, -1, 2])


def absent_read(x: zl.In[f32, N], slot: zl.In[zl.Index[N, zl.optional], T], *, y: zl.Out[f32, T]):
    t = zl.grid(T.tiles(4))
    y[t] = x[slot[t]]


def store_to_chosen_lanes_does_not_cover(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(4))
    y[zl.only(i, x[i] > 0.5)] = x[i]


def active_of_another_tile(x: zl.In[f32, M], y: zl.In[f32, N], *, z: zl.Out[f32, M]):
    i = zl.grid(M.tiles(4))
    z[i] = y[zl.only(zl.arange(4), x[i].active)]


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (absent_read, "ZL0201"),
        (store_to_chosen_lanes_does_not_cover, "ZL0303"),
        (active_of_another_tile, "ZL0201"),
    ],
)
def test_activity_that_does_not_suffice_is_refused(function: Any, code: str) -> None:
    assert code in {f.code for f in verify(zl.kernel(function).lower({}, {})).findings}
