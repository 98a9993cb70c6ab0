"""Contracts that relate elements: established by kernels, used by kernels, refused where they do not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import f32, i32
from zellige.runtime import admission
from zellige.verify.verifier import verify

N, S, T, D = zl.dims("N S T D")


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Any:
    with zl.using(request.param):
        yield


@zl.kernel
def cut(lengths: zl.In[i32, S], marker: zl.In[f32, T], *, offsets: zl.Out[zl.Offsets[T], S + 1]):
    zl.requires(S >= 1)
    offsets[:] = zl.offsets(lengths[:], total=T)


@pytest.mark.parametrize(
    ("lengths", "total", "expected"),
    [
        ([3, 0, 4], 7, [0, 3, 3, 7]),
        ([3, -5, 4], 10, [0, 3, 3, 10]),
        ([3, 9, 4], 5, [0, 3, 5, 5]),
        ([2**31 - 1, 2**31 - 1, 1], 5, [0, 5, 5, 5]),
        ([7], 0, [0, 0]),
    ],
)
def test_offsets_saturate_and_end_at_their_total(backend: None, lengths: Any, total: int, expected: Any) -> None:
    out = cut(np.array(lengths, np.int32), np.zeros(total, np.float32)).numpy()
    np.testing.assert_array_equal(out, expected)


@zl.kernel
def sort_order(key: zl.In[i32, N], *, order: zl.Out[zl.Permutation[N], N]):
    order[:] = zl.sort(key[:])[1]


@zl.kernel
def inverse(order: zl.In[zl.Permutation[N], N], *, place: zl.Out[zl.Permutation[N], N], B: zl.Static = 4):
    i = zl.grid(N.tiles(B))
    place[order[i]] = i


@zl.kernel
def scatter_rows(x: zl.In[f32, N, D], order: zl.In[zl.Permutation[N], N], *, y: zl.Out[f32, N, D], B: zl.Static = 4):
    i = zl.grid(N.tiles(B))
    y[order[i], :] = x[i, :]


def scatter_through_distinct(x: zl.In[f32, N], slot: zl.In[zl.Index[N, zl.distinct], N], *, y: zl.Out[f32, N]):
    i = zl.grid(N.tiles(4))
    y[slot[i]] = x[i]


def scatter_through_distinct_of_more(
    x: zl.In[f32, N], slot: zl.In[zl.Index[2 * N, zl.distinct], N], *, y: zl.Out[f32, 2 * N]
):
    i = zl.grid(N.tiles(4))
    y[slot[i]] = x[i]


def scatter_through_optional(
    x: zl.In[f32, N], slot: zl.In[zl.Index[N, zl.distinct, zl.optional], N], *, y: zl.Out[f32, N]
):
    i = zl.grid(N.tiles(4))
    y[zl.only(slot[i], slot[i].present)] = x[i]


def test_as_many_distinct_indices_as_elements_cover() -> None:
    assert verify(zl.kernel(scatter_through_distinct).lower({}, {})).proved
    for function in (scatter_through_distinct_of_more, scatter_through_optional):
        assert {f.code for f in verify(zl.kernel(function).lower({}, {})).findings} == {"ZL0303"}


def test_a_permutation_is_made_inverted_and_scattered_through(backend: None) -> None:
    key = np.array([5, 1, 3, 1, 9, 0], np.int32)
    x = np.random.default_rng(0).random((6, 3), np.float32)
    order = sort_order(key)
    np.testing.assert_array_equal(order.numpy(), np.argsort(key, kind="stable"))
    place = inverse(order)
    np.testing.assert_array_equal(place.numpy()[order.numpy()], np.arange(6))
    np.testing.assert_array_equal(scatter_rows(x, place).numpy(), x[order.numpy()])


@zl.kernel
def ragged_scatter(
    x: zl.In[f32, T], w: zl.In[f32, S], order: zl.In[zl.Permutation[T], T], offsets: zl.In[zl.Offsets[T], S + 1], *,
    y: zl.Out[f32, T], B: zl.Static = 4,
):  # fmt: skip
    seg, rows = zl.grid(offsets.tiles(B))
    y[order[rows]] = x[rows] * w[seg]


def test_a_scatter_through_a_permutation_in_a_ragged_grid_covers(backend: None) -> None:
    order, cuts = np.array([4, 0, 3, 1, 2], np.int32), np.array([0, 1, 1, 5], np.int32)
    x, w = np.arange(1, 6, dtype=np.float32), np.array([10, 20, 30], np.float32)
    expected = np.zeros(5, np.float32)
    expected[order] = x * np.repeat(w, np.diff(cuts))
    np.testing.assert_array_equal(ragged_scatter(x, w, order, cuts).numpy(), expected)


@zl.kernel
def fresh_slots(marker: zl.In[f32, N], *, slot: zl.Out[zl.Index[2 * N, zl.distinct], N], B: zl.Static = 4):
    zl.requires(N < 2**30)
    i = zl.grid(N.tiles(B))
    slot[i] = 2 * i + 1


def test_distinct_values_are_proved(backend: None) -> None:
    np.testing.assert_array_equal(fresh_slots(np.zeros(5, np.float32)).numpy(), [1, 3, 5, 7, 9])


@zl.kernel
def chunks(x: zl.In[f32, T], *, cuts: zl.Out[zl.Offsets[T], zl.ceildiv(T, 4) + 1], B: zl.Static = 2):
    i = zl.grid((zl.ceildiv(T, 4) + 1).tiles(B))
    cuts[i] = zl.minimum(i * 4, T)


def test_offsets_that_a_kernel_ensures_reach_the_next_one_unchecked(
    backend: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, w, order = np.arange(1, 7, dtype=np.float32), np.array([10, 20], np.float32), np.arange(6, dtype=np.int32)
    cuts = chunks(x)
    np.testing.assert_array_equal(cuts.numpy(), [0, 4, 6])
    checked: list[str] = []
    monkeypatch.setattr(admission, "broken", lambda fact, values: checked.append(str(fact)))
    y = ragged_scatter(x, w, zl.tensor(order), cuts)
    assert checked == ["Permutation[6]"]  # the order, which comes from the host; not the cuts
    np.testing.assert_array_equal(y.numpy(), x * [10, 10, 10, 10, 20, 20])


# --- what must be refused --------------------------------------------------------------------------------------------


def wrong_total(lengths: zl.In[i32, S], x: zl.In[f32, T], *, offsets: zl.Out[zl.Offsets[T], S + 1]):
    offsets[:] = zl.offsets(lengths[:], total=S)


def running_sum_by_hand(lengths: zl.In[i32, S], x: zl.In[f32, T], *, offsets: zl.Out[zl.Offsets[T], S]):
    offsets[:] = zl.clamp(zl.cumsum(lengths[:]).to(zl.i64), 0, T)


def offsets_stored_backwards(lengths: zl.In[i32, S], x: zl.In[f32, T], *, offsets: zl.Out[zl.Offsets[T], S + 1]):
    offsets[S - zl.arange(S + 1)] = zl.offsets(lengths[:], total=T)


def offsets_on_one_path(lengths: zl.In[i32, S], n: i32, x: zl.In[f32, T], *, offsets: zl.Out[zl.Offsets[T], S + 1]):
    if n > 0:
        offsets[:] = zl.offsets(lengths[:], total=T)
    else:
        offsets[:] = zl.full((S + 1,), 0, i32)


def offsets_by_every_program(lengths: zl.In[i32, N, S], x: zl.In[f32, T], *, offsets: zl.Out[zl.Offsets[T], S + 1]):
    n = zl.grid(N)
    offsets[:] = zl.offsets(lengths[n, :], total=T)


def offsets_mended_afterwards(lengths: zl.In[i32, S], x: zl.In[f32, T], *, offsets: zl.Out[zl.Offsets[T], S + 1]):
    offsets[:] = zl.offsets(lengths[:], total=T)
    offsets[0] = T


def order_of_part(key: zl.In[i32, N, 4], *, order: zl.Out[zl.Permutation[4 * N], 4 * N]):
    n = zl.grid(N)
    order[4 * n + zl.arange(4)] = zl.sort(key[n, :])[1]


def constant_as_permutation(key: zl.In[i32, N], *, order: zl.Out[zl.Permutation[N], N]):
    i = zl.grid(N)
    order[i] = 0


def halves_as_distinct(key: zl.In[i32, N], *, slot: zl.Out[zl.Index[N, zl.distinct], N]):
    i = zl.grid(N.tiles(4))
    slot[i] = i // 2


def distinct_of_what_is_not(key: zl.In[zl.Index[N], N], *, slot: zl.Out[zl.Index[N, zl.distinct], N]):
    i = zl.grid(N.tiles(4))
    slot[i] = key[i]


def distinct_in_place(key: zl.In[zl.Index[N, zl.distinct], N], *, slot: zl.Mut[zl.Index[N, zl.distinct], N]):
    i = zl.grid(N.tiles(4))
    j = zl.only(i, i % 2 == 0)
    slot[j] = key[j]


def two_stores_that_clash(key: zl.In[i32, N], *, slot: zl.Out[zl.Index[2 * N, zl.distinct], 2 * N]):
    i = zl.grid(N.tiles(4))
    slot[i] = i
    slot[N + i] = i + N - 1


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (wrong_total, "ZL0406"),
        (running_sum_by_hand, "ZL0406"),
        (offsets_stored_backwards, "ZL0406"),
        (offsets_on_one_path, "ZL0406"),
        (offsets_by_every_program, "ZL0301"),
        (offsets_mended_afterwards, "ZL0406"),
        (order_of_part, "ZL0406"),
        (constant_as_permutation, "ZL0406"),
        (halves_as_distinct, "ZL0406"),
        (distinct_of_what_is_not, "ZL0406"),
        (distinct_in_place, "ZL0406"),
        (two_stores_that_clash, "ZL0406"),
    ],
)
def test_a_relation_that_does_not_hold_is_refused(function: Callable[..., Any], code: str) -> None:
    verdict = verify(zl.kernel(function).lower({}, {}))
    assert code in {finding.code for finding in verdict.findings}
