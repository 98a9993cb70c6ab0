"""Two kernels as one: what is refused, and what nearly is."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from tests.passes.fusion_kernels import (
    BACKENDS,
    F,
    K,
    M,
    N,
    P,
    accumulate,
    arrays,
    compare,
    exponentials,
    lowered,
    negated,
    plus,
    products,
    refused,
    row_sum,
    scale,
    tile_means,
    to_bf16,
)
from zellige import ZelligeError, f32, i32
from zellige.diagnostics.findings import VerificationError
from zellige.ir import ops
from zellige.ir.walk import walk
from zellige.kernels.linear import linear_vector
from zellige.kernels.norm import rms_norm


# --- what is refused
def test_arrays_that_do_not_exist_or_do_not_fit():
    assert "has no array 'z'" in refused("ZL0531", lambda: zl.fuse(scale, plus, {"z": "x"})).message
    assert "has no array 'z'" in refused("ZL0531", lambda: zl.fuse(scale, plus, {"y": "z"})).message
    refused("ZL0531", lambda: zl.fuse(scale, plus, {"y": "x", "x": "x"}))
    refused("ZL0531", lambda: zl.fuse(row_sum, plus, {"y": "x"}))
    refused("ZL0531", lambda: zl.fuse(to_bf16, plus, {"y": "x"}))
    refused("ZL0531", lambda: zl.fuse(tile_means, fixed, {"y": "x"}))
    refused("ZL0531", lambda: zl.fuse(scale, plus, {"y": "x"}, keep=["x"]))


@zl.kernel
def fixed(x: zl.In[f32, M, 2 * K + 1], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = zl.sum(x[m, :])


@zl.kernel
def total(x: zl.In[f32, M, N], *, s: zl.Acc[f32, M], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    s.add(m, zl.sum(x[m, n]))


@zl.kernel
def double_vector(s: zl.In[f32, M], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = s[m] * 2.0


def test_an_accumulator_is_complete_only_when_all_programs_have_ended():
    assert "accumulator" in refused("ZL0531", lambda: zl.fuse(total, double_vector, {"s": "s"})).message


def test_an_accumulator_beside_the_array_between_the_two_is_no_obstacle():
    fused = zl.fuse(doubled_with_total, plus, {"y": "x"})
    x, b = arrays((3, 20), (3, 20))
    s = np.zeros(3, F)
    np.testing.assert_array_equal(fused(x, b, s=s).numpy(), 2 * x + b)
    np.testing.assert_allclose(s, x.sum(1), rtol=1e-5)


@zl.kernel
def doubled_with_total(x: zl.In[f32, M, N], *, s: zl.Acc[f32, M], y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    s.add(m, zl.sum(x[m, n]))
    y[m, n] = x[m, n] * 2.0


@zl.kernel
def shares(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, n] / zl.sum(x[m, :])


def test_a_reduction_over_what_several_programs_stored_is_refused():
    error = refused("ZL0532", lambda: zl.fuse(linear_vector, shares, {"y": "x"}))
    assert "x[m, :]" in error.render()


@zl.kernel
def neighbours(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, zl.minimum(n + 1, N - 1)]


def test_the_neighbours_element_is_another_programs():
    refused("ZL0532", lambda: zl.fuse(linear_vector, neighbours, {"y": "x"}))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_neighbours_element_of_a_function_of_coordinates_is_computed(backend):
    fused = zl.fuse(exponentials, neighbours, {"y": "x"})
    (x,) = arrays((3, 21))
    compare(fused, lambda x: neighbours(exponentials(x)), (x,), backend)


def test_other_tiles_show_nothing_if_neither_kernel_is_a_function_of_coordinates():
    fused = zl.fuse(linear_vector, row_maximum, {"y": "x"})  # shared BN: the same tiles
    with pytest.raises(ZelligeError) as caught:
        zl.fuse(linear_vector, row_maximum_of_8, {"y": "x"})
    assert caught.value.code in ("ZL0532", "ZL0533") and fused is not None


@zl.kernel
def row_maximum(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 32):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, n] - zl.max(x[m, n], pad=-zl.inf)


@zl.kernel
def row_maximum_of_8(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BC: zl.Static = 8):
    m, n = zl.grid(M, N.tiles(BC))
    y[m, n] = x[m, n] - zl.max(x[m, n], pad=-zl.inf)


@zl.kernel
def stored_in_a_loop(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m = zl.grid(M)
    carried = zl.zeros((), f32)
    for n in N.tiles(BN):
        carried = carried + zl.sum(x[m, n])
        y[m, n] = x[m, n] + carried


@zl.kernel
def stored_in_a_while(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M, N]):
    m = zl.grid(M)
    k = zl.zeros((), f32)
    while zl.bounded(k < 3.0, limit=4):
        k = k + 1.0
        y[m, :] = x[m, :] * k


@zl.kernel
def stored_on_one_path(x: zl.In[f32, M, N], flag: f32, *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    if flag > 0.0:
        y[m, :] = x[m, :]
    else:
        y[m, :] = -x[m, :]


@zl.kernel
def cleared_in_a_loop(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    for _ in range(3):
        y[m, :] = zl.zeros((N,), f32)
    y[m, :] = x[m, :] * 2.0


@zl.kernel
def sum_of_rows(x: zl.In[f32, M, N], *, y: zl.Out[f32, N]):
    zl.grid(1)
    total = zl.zeros((N,), f32)
    for m in range(M):
        total = total + x[m, :]
    y[:] = total


def test_what_a_loop_stored_first_is_not_all_that_is_stored():
    """The loop was copied into each program of the consumer, the store after it was not: y was an output, of zeros."""
    refused("ZL0532", lambda: zl.fuse(cleared_in_a_loop, sum_of_rows, {"y": "x"}))


@pytest.mark.parametrize("producer", [stored_in_a_loop, stored_on_one_path])
def test_a_store_in_a_loop_or_on_one_path_is_refused(producer):
    error = refused("ZL0532", lambda: zl.fuse(producer, row_sum, {"y": "x"}))
    assert "in a loop or on one path" in error.message and error.span is not None


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_stays_in_memory_may_be_stored_in_a_while(backend):
    """The consumer's program reads from memory what its own program wrote; the verifier proves that no other one did."""
    fused = zl.fuse(stored_in_a_while, row_sum, {"y": "x"}, keep=["y"])
    assert any(isinstance(op, ops.Load) and op.array == "y_stored_in_a_while" for op in walk(lowered(fused).body))
    (x,) = arrays((3, 20))
    y = np.zeros((3, 20), F)
    with zl.using(backend):
        sums = fused(x, y_stored_in_a_while=y)
        np.testing.assert_array_equal(sums.numpy(), row_sum(y).numpy())
    np.testing.assert_array_equal(y, 3 * x)


@zl.kernel
def smoothed(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M, N]):
    m = zl.grid(M)
    y[m, :] = x[m, :] * 0.5


@zl.kernel
def differences(y: zl.In[f32, M, N], *, z: zl.Out[f32, M, N]):
    m = zl.grid(M)
    z[m, :] = y[m, :] - y[zl.maximum(m - 1, 0), :]


def test_a_race_between_the_two_is_for_the_verifier_to_refuse():
    fused = zl.fuse(smoothed, differences, {"y": "y"})
    (x,) = arrays((3, 8))
    with pytest.raises(VerificationError) as caught:
        fused(x, y=np.zeros((3, 8), F))
    assert caught.value.code == "ZL0301"


@zl.kernel
def upper_half(x: zl.In[f32, M, 2 * N], *, h: zl.Mut[f32, M, 2 * N], BN: zl.Static = 8):
    m, n = zl.grid(M, N.tiles(BN))
    h[m, n] = h[m, n] + x[m, n]


def test_a_consumer_that_leaves_elements_alone_does_not_go_onto_all_tiles():
    with pytest.raises(ZelligeError) as caught:
        zl.fuse(products, upper_half, {"y": "x"})
    assert caught.value.code in ("ZL0532", "ZL0533")


@zl.kernel
def half_stored(x: zl.In[f32, M, 2 * N], *, y: zl.Mut[f32, M, 2 * N], BN: zl.Static = 8):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, n] * 2.0


def test_a_producer_that_leaves_elements_alone_does_not_take_a_consumer_of_all():
    with pytest.raises(ZelligeError) as caught:
        zl.fuse(half_stored, accumulate, {"y": "x"})
    assert caught.value.code in ("ZL0532", "ZL0533")


def test_more_programs_than_its_own_do_not_write_what_others_read():
    error = refused("ZL0533", lambda: zl.fuse(rms_norm, linear_vector, {"y": "x"}, keep=["y"]))
    assert error.facts


def test_an_input_that_the_consumer_overwrites_is_not_read_again_later():
    @zl.kernel
    def overwriting(x: zl.In[f32, M, N], *, h: zl.Mut[f32, M, N], BC: zl.Static = 8):
        m, n = zl.grid(M, N.tiles(BC))
        h[m, n] = x[m, n] + zl.sum(x[m, :])

    with pytest.raises(ZelligeError) as caught:
        zl.fuse(scale, overwriting, {"y": "x", "x": "h"})
    assert caught.value.code in ("ZL0532", "ZL0533")


@zl.kernel
def trusted(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    with zl.unsafe("a test"):
        y[m, n] = x[m, n]


@pytest.mark.parametrize(("first", "second"), [(trusted, plus), (exponentials, trusted)])
def test_where_nothing_is_proved_nothing_is_fused(first, second):
    error = refused("ZL0532", lambda: zl.fuse(first, second, {"y": "x"}))
    assert "zl.unsafe" in error.message


@zl.kernel
def picked(x: zl.In[f32, M, N], at: zl.In[i32, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, zl.guard(at[n], below=N)]


def test_a_guard_is_met_by_the_producers_own_programs_only():
    refused("ZL0533", lambda: zl.fuse(picked, row_sum, {"y": "x"}))
    fused = zl.fuse(picked, negated, {"y": "a"})  # the same programs
    (x,) = arrays((2, 3))
    np.testing.assert_array_equal(fused(x, np.array([2, 0, 1], np.int32)).numpy(), -x[:, [2, 0, 1]])
    refused("ZL0522", lambda: fused(x, np.array([2, 0, 3], np.int32)))


def test_statics_without_a_value_cannot_be_tried():
    @zl.kernel
    def bare(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BZ: zl.Static):
        m, n = zl.grid(M, N.tiles(BZ))
        y[m, n] = x[m, n]

    refused("ZL0508", lambda: zl.fuse(bare, plus, {"y": "x"}))


@zl.kernel
def skewed(x: zl.In[f32, N, N], *, y: zl.Out[f32, N, N]):
    zl.requires(N >= 1)
    i, j = zl.grid(N, N)
    y[i, (i + j) % N] = zl.max(x[i, :]) + x[i, j]


@zl.kernel
def skewed_otherwise(x: zl.In[f32, N, N], *, y: zl.Out[f32, N, N, N]):
    zl.requires(N >= 1)
    i, j, k = zl.grid(N, N, N)
    y[i, j, k] = x[i, (j + k) % N]


def test_one_program_id_is_one_value():
    refused("ZL0532", lambda: zl.fuse(skewed, skewed_otherwise, {"y": "x"}))


@zl.kernel
def numbered_tiles(x: zl.In[f32, 8 * K], *, y: zl.Out[f32, 8 * K]):
    zl.requires(K >= 1)
    k = zl.grid(K)
    lanes = (k * 8 + zl.arange(8)) % (8 * K)
    y[lanes] = x[lanes] + zl.sum(x[lanes]) * k.to(f32)


@zl.kernel
def twice_around(x: zl.In[f32, 8 * K], *, y: zl.Out[f32, P]):
    zl.requires(K >= 1)
    p = zl.grid(P)
    total = zl.zeros((), f32)
    for k in range(2 * K):
        total = total + zl.sum(x[(k * 8 + zl.arange(8)) % (8 * K)])
    y[p] = total


def test_a_number_that_is_no_program_of_the_producer_does_not_stand_for_one():
    assert (
        "which it may not be one of"
        in refused("ZL0532", lambda: zl.fuse(numbered_tiles, twice_around, {"y": "x"})).render()
    )


@zl.kernel
def reversed_in_place(y: zl.In[f32, M, N], *, h: zl.Mut[f32, M, N]):
    m = zl.grid(M)
    for k in range(N):
        h[m, k] = y[m, N - 1 - k]


def test_elements_are_not_computed_again_from_an_input_that_was_overwritten():
    error = refused("ZL0533", lambda: zl.fuse(exponentials, reversed_in_place, {"y": "y", "x": "h"}))
    assert "writes 'h', which it reads" in error.render() or "different grids" in error.message
    assert zl.fuse(exponentials, reversed_in_place, {"y": "y"}) is not None  # of another array it may


@zl.kernel
def with_its_transpose(x: zl.In[f32, N, N], *, y: zl.Out[f32, N, N], B: zl.Static = 8):
    i, j = zl.grid(N.tiles(B), N.tiles(B))
    tile = x[i, j]
    y[i, j] = tile + tile.T


@zl.kernel
def transpose_with_it(x: zl.In[f32, N, N], *, y: zl.Out[f32, N, N], B: zl.Static = 8):
    i, j = zl.grid(N.tiles(B), N.tiles(B))
    tile = x[i, j]
    y[i, j] = tile.T + tile


@pytest.mark.parametrize("producer", [with_its_transpose, transpose_with_it])
def test_a_tile_and_its_transpose_are_no_function_of_coordinates(producer):
    refused("ZL0532", lambda: zl.fuse(producer, row_sum, {"y": "x"}))


@zl.kernel
def seen_after(x: zl.In[f32, M, N], *, h: zl.Mut[f32, M, N], seen: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    h[m, n] = h[m, n] + x[m, n]
    seen[m, n] = h[m, n] * 2.0


@zl.kernel
def tripled(*, h: zl.Mut[f32, M, N], BC: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BC))
    h[m, n] = h[m, n] * 3.0


def test_what_the_producer_reads_after_its_store_is_not_overwritten_by_the_consumer():
    other_tiles = lambda: lowered(zl.fuse(seen_after, tripled, {"h": "h"}), BC=8)
    assert "after its store" in refused("ZL0532", other_tiles).message
    x, old = arrays((3, 21), (3, 21))
    ours = old.copy()
    seen = zl.fuse(seen_after, tripled, {"h": "h"})(x, h=ours)  # on equal tiles each store keeps its place
    np.testing.assert_array_equal(seen.numpy(), 2 * (old + x))
    np.testing.assert_array_equal(ours, 3 * (old + x))


@zl.kernel
def sevens(*, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = 7.0


def test_a_dim_that_only_the_dropped_array_tells_is_missed():
    assert "tells dim N" in refused("ZL0531", lambda: zl.fuse(sevens, row_sum, {"y": "x"})).message
    assert zl.fuse(sevens, plus, {"y": "x"}) is not None  # another array tells it


@zl.kernel
def looked_up(i: zl.In[zl.Index[N], M], x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = x[i[m]]


@zl.kernel
def increased(*, i: zl.Mut[i32, M]):
    m = zl.grid(M)
    i[m] = i[m] + 1


@zl.kernel
def cleared(*, i: zl.Out[i32, M]):
    m = zl.grid(M)
    i[m] = 0


@zl.kernel
def as_numbers(i: zl.In[i32, M], *, z: zl.Out[i32, M]):
    m = zl.grid(M)
    z[m] = i[m] * 2


@pytest.mark.parametrize("consumer", [increased, cleared, as_numbers])
def test_a_contract_that_one_kernel_relies_on_and_the_other_does_not_keep(consumer):
    refused("ZL0531", lambda: zl.fuse(looked_up, consumer, {"i": "i"}))


@zl.kernel
def starts_of(lengths: zl.In[i32, 1], *, starts: zl.Out[zl.Offsets[3], 2]):
    i = zl.grid(1)
    starts[:] = zl.offsets(lengths[:], 3 + 0 * i)


@zl.kernel
def by_segment(starts: zl.In[zl.Offsets[3], 2], x: zl.In[f32, 3], *, y: zl.Out[f32, 3]):
    s, rows = zl.grid(starts.tiles(4))  # one program, as the producer's
    y[rows] = x[rows] * 2.0


def test_offsets_that_the_grid_is_made_of_are_not_dropped():
    assert "searches offsets" in refused("ZL0532", lambda: zl.fuse(starts_of, by_segment, {"starts": "starts"})).message
