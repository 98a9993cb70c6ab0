"""The interpreter reports each misuse, with the array, the coordinate and the programs, at the line that does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import f32, i32
from zellige.backends.reference import LaunchRefused, Report, Trip, Violation, run

M, N, B = zl.dims("M N B")


def launch(kernel: Any, statics: dict[str, Any], /, order_seed: int | None = None, **arguments: Any) -> Report:
    """Runs an unverified kernel; dims come from the arrays' shapes."""
    function = kernel.lower(statics, {})
    arrays = {a.name: arguments[a.name] for a in function.arrays}
    scalars = {s.name: arguments[s.name] for s in function.scalars}
    dims: dict[str, int] = {d: arguments[d] for d in function.dims() if d in arguments}
    for a in function.arrays:
        for extent, size in zip(a.shape, arrays[a.name].shape, strict=True):
            if extent.dims() == {str(extent)}:
                dims[str(extent)] = size
    return run(function, dims, arrays, scalars, order_seed=order_seed)


def trip(kernel: Any, statics: dict[str, Any], /, **arguments: Any) -> Violation:
    with pytest.raises(Violation) as caught:
        launch(kernel, statics, **arguments)
    return caught.value


def empty(*shape: int) -> np.ndarray[Any, Any]:
    return np.full(shape, np.nan, np.float32)


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


@zl.kernel
def copy(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BM: zl.Static, BN: zl.Static):
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN))
    y[rows, cols] = x[rows, cols]


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (8, 8), (9, 4)])
def test_a_tiled_copy_is_clean_in_any_order(shape: tuple[int, int]) -> None:
    x, y = np.random.default_rng(0).normal(size=shape).astype(np.float32), empty(*shape)
    report = launch(copy, {"BM": 4, "BN": 3}, order_seed=1, x=x, y=y)
    np.testing.assert_array_equal(x, y)
    assert report.programs == -(-shape[0] // 4) * -(-shape[1] // 3) and report.guards == ()


@zl.kernel
def shifted(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[t + 1]


def test_a_read_past_the_end_is_reported_with_its_index_and_line() -> None:
    violation = trip(shifted, {}, x=ones(3), y=empty(3))
    assert (violation.trip, violation.array, violation.coordinate) == (Trip.OUT_OF_BOUNDS, "x", (3,))
    assert violation.program == (2,)
    assert violation.span.file.endswith("test_trips.py") and violation.span.line > 1


@zl.kernel
def unmasked(x: zl.In[f32, M], *, y: zl.Out[f32, M], BM: zl.Static):
    p = zl.grid(zl.ceildiv(M, BM))
    lanes = p * BM + zl.arange(BM)
    y[lanes] = x[lanes]


def test_a_negative_or_too_large_lane_is_out_of_bounds_whatever_its_value_is_used_for() -> None:
    assert trip(unmasked, {"BM": 4}, x=ones(6), y=empty(6)).coordinate == (6,)
    launch(unmasked, {"BM": 4}, x=ones(8), y=empty(8))


@zl.kernel
def same_row(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    t = zl.grid(M)
    y[t // 2, :] = x[t, :]


def test_two_programs_writing_one_row_race() -> None:
    violation = trip(same_row, {}, x=ones(2, 3), y=empty(2, 3))
    assert (violation.trip, violation.coordinate) == (Trip.RACE, (0, 0))
    assert {violation.program, violation.other_program} == {(0,), (1,)}


@zl.kernel
def neighbour(*, y: zl.Mut[f32, M]):
    t = zl.grid(M)
    y[t] = y[(t + 1) % M] * 2.0


@pytest.mark.parametrize("order_seed", [None, 0, 1, 2, 3])
def test_a_read_of_what_another_program_writes_races_in_any_order(order_seed: int | None) -> None:
    with pytest.raises(Violation) as caught:
        launch(neighbour, {}, order_seed=order_seed, y=ones(3))
    assert caught.value.trip is Trip.RACE and caught.value.other_program is not None


def test_the_second_of_two_readers_is_remembered() -> None:
    @zl.kernel
    def late(*, y: zl.Mut[f32, M]):
        t = zl.grid(M)
        first = y[0]
        if t == 0:
            y[0] = first + 1.0

    # Program 0 reads y[0] before program 1 does and writes it after: only the second reader conflicts.
    with pytest.raises(Violation):
        launch(late, {}, y=ones(2))
    launch(late, {}, y=ones(1))


@zl.kernel
def half(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M // 2)
    y[t] = x[t]


def test_an_element_that_nobody_writes_is_reported() -> None:
    violation = trip(half, {}, x=ones(3), y=empty(3))
    assert (violation.trip, violation.array, violation.coordinate) == (Trip.UNWRITTEN, "y", (1,))


@zl.kernel
def scatter(x: zl.In[f32, M], slot: zl.In[zl.Index[N], M], *, y: zl.Mut[f32, N]):
    zl.grid()
    y[slot[:]] = x[:]


def test_two_lanes_of_one_store_on_one_element() -> None:
    slot = np.array([2, 0, 2], np.int32)
    violation = trip(scatter, {}, x=ones(3), slot=slot, y=empty(4))
    assert (violation.trip, violation.coordinate) == (Trip.DUPLICATE_LANES, (2,))
    launch(scatter, {}, x=ones(3), slot=np.array([2, 0, 1], np.int32), y=empty(4))


def test_contracts_are_checked_on_entry() -> None:
    for wrong in ([0, 4, 1], [0, -1, 1]):
        with pytest.raises(LaunchRefused, match="Index"):
            launch(scatter, {}, x=ones(3), slot=np.array(wrong, np.int32), y=empty(4))


@zl.kernel
def produce(x: zl.In[i32, M], *, y: zl.Out[zl.Index[N, zl.distinct], M]):
    t = zl.grid(M)
    y[t] = x[t]


def test_contracts_of_stored_values_are_checked() -> None:
    def of(*values: int) -> Trip:
        return trip(produce, {}, x=np.array(values, np.int32), y=np.zeros(len(values), np.int32), N=3).trip

    assert of(0, 3) is Trip.CONTRACT
    assert of(-1, 1) is Trip.CONTRACT
    assert of(1, 1) is Trip.CONTRACT
    launch(produce, {}, x=np.array([2, 0], np.int32), y=np.zeros(2, np.int32), N=3)


@zl.kernel
def divide(x: zl.In[i32, M], n: i32, *, y: zl.Out[i32, M]):
    t = zl.grid(M)
    y[t] = x[t] // n


def test_integer_division_by_zero() -> None:
    x = np.array([-7, 7], np.int32)
    y = np.zeros(2, np.int32)
    assert trip(divide, {}, x=x, n=0, y=y).trip is Trip.DIVISION_BY_ZERO
    launch(divide, {}, x=x, n=2, y=y)
    assert y.tolist() == [-4, 3]


@zl.kernel(index_bits=32)
def narrow(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    big = (t + 70_000) * 70_000
    y[t] = x[t + big - big]


def test_index_arithmetic_that_leaves_its_width() -> None:
    violation = trip(narrow, {}, x=ones(2), y=empty(2))
    assert violation.trip is Trip.INDEX_OVERFLOW and "32-bit" in violation.detail
    wide = zl.kernel(narrow.function)
    launch(wide, {}, x=ones(2), y=empty(2))


@zl.kernel
def huge(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    big = (t + 4_000_000_000) * 4_000_000_000
    y[t] = x[t + big - big]


def test_index_arithmetic_that_leaves_64_bits() -> None:
    assert trip(huge, {}, x=ones(1), y=empty(1)).trip is Trip.INDEX_OVERFLOW


@zl.kernel
def guarded(x: zl.In[f32, M], pick: zl.In[i32, N], *, y: zl.Out[f32, N]):
    t = zl.grid(N)
    i = zl.guard(pick[t], below=M)
    y[t] = 0.0
    y[t] = x[i]


def test_guards_that_fail_are_collected_and_their_lanes_are_inactive() -> None:
    y = empty(3)
    report = launch(guarded, {}, x=ones(4), pick=np.array([0, 9, 3], np.int32), y=y)
    assert [g.program for g in report.guards] == [(1,)]
    assert y.tolist() == [1, 0, 1]


@zl.kernel
def needs(x: zl.In[f32, M], n: i32, *, y: zl.Out[f32, M]):
    zl.requires(n > 2)
    t = zl.grid(M)
    y[t] = x[t]


def test_preconditions_are_checked_even_if_there_are_no_programs() -> None:
    launch(needs, {}, x=ones(3), n=3, y=empty(3))
    for m in (0, 3):
        with pytest.raises(LaunchRefused, match="requires"):
            launch(needs, {}, x=ones(m), n=2, y=empty(m))


@zl.kernel
def histogram(x: zl.In[zl.Index[B], M], *, count: zl.Acc(init=0)[i32, B]):
    zl.grid()
    count.add(x[:], 1)


def test_updates_of_equal_lanes_combine_from_the_initial_value() -> None:
    count = np.full(3, 99, np.int32)
    launch(histogram, {}, x=np.array([2, 0, 2, 2], np.int32), count=count)
    assert count.tolist() == [1, 0, 3]


def test_exclusive_arrays_may_not_overlap() -> None:
    memory = ones(6)
    with pytest.raises(LaunchRefused, match="shares memory"):
        launch(shifted, {}, x=memory[:3], y=memory[2:5])
    with pytest.raises(LaunchRefused, match="overlap"):
        launch(half, {}, x=ones(2), y=np.lib.stride_tricks.as_strided(memory, (2,), (0,)))


def test_arrays_of_another_shape_or_dtype_are_refused() -> None:
    function = half.lower({}, {})
    for x in (ones(4), np.ones(3)):
        with pytest.raises(LaunchRefused, match="x is"):
            run(function, {"M": 3}, {"x": x, "y": empty(3)}, {})
