"""Two kernels as one: what is fused and how, that the bits are those of the two, and that the result is a kernel as any other."""

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
    V,
    W,
    accumulate,
    arrays,
    compare,
    exponentials,
    limited,
    lowered,
    negated,
    plus,
    plus_other_tiles,
    products,
    refused,
    row_sum,
    scale,
    tile_means,
    to_bf16,
)
from zellige import bf16, f32, i32
from zellige.diagnostics.findings import VerificationError
from zellige.ir import ops, spec
from zellige.ir.printer import listing, text
from zellige.ir.types import Role
from zellige.ir.walk import walk
from zellige.kernels.linear import add_bias, linear_matrix, linear_vector, silu_mul
from zellige.kernels.norm import head_norm, rms_norm
from zellige.kernels.rope import rope
from zellige.verify import verify


# --- what is fused
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 16), (5, 37), (0, 4), (2, 0)])
def test_an_elementwise_consumer_on_the_same_tiles(backend, shape):
    fused = zl.fuse(scale, plus, {"y": "x"})
    x, b = arrays(shape, shape)
    (s,) = arrays(shape[1:])
    with zl.using(backend):
        np.testing.assert_array_equal(fused(x, s, b).numpy(), plus(scale(x, s), b).numpy())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 16), (9, 37)])
def test_an_elementwise_consumer_with_other_tiles_goes_onto_the_producers(backend, shape):
    fused = zl.fuse(linear_vector, plus_other_tiles, {"y": "x"})
    x, w, b = arrays((shape[0], 24), (shape[1], 24), shape)
    compare(fused, lambda x, w, b: plus_other_tiles(linear_vector(x, w), b), (x, w, b), backend)
    assert [axis.tile for axis in lowered(fused).grid] == [axis.tile for axis in lowered(linear_vector).grid]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("consumer", [linear_vector, linear_matrix, products])
def test_an_elementwise_producer_is_computed_where_it_is_loaded_also_in_a_loop(backend, consumer):
    fused = zl.fuse(limited, consumer, {"y": "x"})
    gate, up, w = arrays((5, 64), (5, 64), (19, 64))
    compare(fused, lambda g, u, w: consumer(limited(g, u), w), (gate, up, w), backend)
    assert {a.name for a in lowered(fused).arrays} == {"gate", "up", "w", "y"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_of_a_norm_is_computed_again_by_every_tile_of_a_product(backend):
    fused = zl.fuse(rms_norm, linear_vector, {"y": "x"})
    x, g, w = arrays((3, 32), (32,), (70, 32))
    with zl.using(backend):
        want = linear_vector(rms_norm(x, g, 1e-5), w).numpy()
        np.testing.assert_array_equal(fused(x, g, 1e-5, w).numpy(), want)


@zl.kernel
def sum_of_tiles(x: zl.In[f32, M, 8 * K], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    total = zl.zeros((), f32)
    for k in range(K):
        total = total + zl.max(x[m, k * 8 + zl.arange(8)])
    y[m] = total


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_program_is_computed_again_in_each_iteration_that_loads_its_tile(backend):
    fused = zl.fuse(tile_means, sum_of_tiles, {"y": "x"})
    (x,) = arrays((3, 40))
    with zl.using(backend):
        want = sum_of_tiles(tile_means(x, K=5), K=5).numpy()
        np.testing.assert_array_equal(fused(x, K=5).numpy(), want)
    loop = next(op for op in lowered(fused).body.ops if isinstance(op, ops.For))
    assert any(isinstance(op, ops.Reduce) and op.op is ops.ReduceOp.SUM for op in walk(loop.body))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("schedule", [linear_vector, linear_matrix])
def test_gate_up_and_swiglu_become_one_kernel_that_reads_its_input_once(backend, schedule):
    first = zl.fuse(schedule, silu_mul, {"y": "gate"})
    swiglu = zl.fuse(schedule, first, {"y": "up", "x": "x"}, name="swiglu")
    assert swiglu.name == lowered(swiglu).name == "swiglu"
    x, up, gate = arrays((5, 64), (33, 64), (33, 64))
    compare(swiglu, lambda x, u, g: silu_mul(schedule(x, g), schedule(x, u)), (x, up, gate), backend)
    loads = [op for op in walk(lowered(swiglu).body) if isinstance(op, ops.Load)]
    assert sorted(op.array for op in loads) == ["w", f"w_{schedule.name}", "x"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("producer", [linear_vector, linear_matrix])
def test_a_residual_is_added_at_the_end_of_a_product(backend, producer):
    fused = zl.fuse(producer, accumulate, {"y": "x"})
    x, w, h = arrays((5, 64), (33, 64), (5, 33))
    with zl.using(backend):
        want, ours = h.copy(), h.copy()
        accumulate(producer(x, w), h=want)
        fused(x, w, h=ours)
    np.testing.assert_array_equal(ours, want)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_update_of_the_producers_output_makes_it_the_fused_kernels_output(backend):
    fused = zl.fuse(linear_vector, add_bias, {"y": "y"})
    assert lowered(fused).array("y").role is Role.OUT
    x, w, bias = arrays((3, 16), (37, 16), (37,))
    with zl.using(backend):
        want = linear_vector(x, w)
        add_bias(bias, y=want)
        np.testing.assert_array_equal(fused(x, w, bias).numpy(), want.numpy())


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_updates_in_place_by_the_same_program(backend):
    fused = zl.fuse(head_norm, rope, {"x": "x"})
    x, w, angle = arrays((4, 3, 16), (16,), (9, 8))
    position = zl.index([3, 0, 8, 1], below=9)
    with zl.using(backend):
        want, ours = x.copy(), x.copy()
        head_norm(w, 1e-5, x=want)
        rope(position, np.cos(angle), np.sin(angle), x=want)
        fused(w, 1e-5, position, np.cos(angle), np.sin(angle), x=ours)
    np.testing.assert_array_equal(ours, want)


@pytest.mark.parametrize("backend", BACKENDS)
def test_independent_kernels_with_one_grid_run_side_by_side(backend):
    fused = zl.fuse(scale, negated, {"x": "a"})
    (x,), (s,) = arrays((3, 20)), arrays((20,), seed=1)
    with zl.using(backend):
        y, z = fused(s=s, a=x)
    with zl.using(backend):
        np.testing.assert_array_equal(y.numpy(), scale(x, s).numpy())
    np.testing.assert_array_equal(z.numpy(), -x)


def test_what_others_read_as_well_is_still_written_under_its_own_name():
    fused = zl.fuse(scale, negated, {"y": "a"}, keep=["y"])
    (x,), (s,) = arrays((3, 20)), arrays((20,), seed=1)
    y, z = fused(x, s)
    np.testing.assert_array_equal(y.numpy(), x * s)
    np.testing.assert_array_equal(z.numpy(), -(x * s))


# --- what the value is
@zl.kernel
def from_bf16(x: zl.In[bf16, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, n].to(f32) * 3.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_rounding_of_the_stored_type_is_kept(backend):
    fused = zl.fuse(to_bf16, from_bf16, {"y": "x"})
    (x,) = arrays((3, 100))
    compare(fused, lambda x: from_bf16(to_bf16(x)), (x,), backend)
    with zl.using(backend):
        assert not np.array_equal(fused(x).numpy(), x * F(1.7) * F(3))


@zl.kernel
def scaled_rows(x: zl.In[f32, M, N], s: zl.In[f32, N], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    y[m, :] = x[m, :] * s[:]


@zl.kernel
def added_rows(x: zl.In[f32, M, N], b: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    y[m, :] = x[m, :] + b[m, :]


def test_a_product_and_a_sum_of_two_kernels_are_rounded_one_by_one():
    fused = zl.fuse(scaled_rows, added_rows, {"y": "x"})
    x, b = arrays((20, 50), (20, 50))
    (s,) = arrays((50,), seed=3)
    with zl.using("cpu"):
        np.testing.assert_array_equal(fused(x, s, b).numpy(), x * s + b)  # NumPy rounds twice


@zl.kernel
def even_doubled(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    even = zl.only(n, n % 2 == 0)
    y[m, even] = x[m, even] * 2.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_lanes_that_the_producer_did_not_store_hold_what_was_there(backend):
    fused = zl.fuse(even_doubled, negated, {"y": "a"})
    x, old = arrays((3, 21), (3, 21))
    with zl.using(backend):
        want, ours = old.copy(), old.copy()
        even_doubled(x, y=want)
        np.testing.assert_array_equal(fused(x, a=ours).numpy(), negated(want).numpy())
    np.testing.assert_array_equal(ours, want)


@zl.kernel
def even_increased(*, y: zl.Mut[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    even = zl.only(n, n % 2 == 0)
    y[m, even] = y[m, even] + 1.0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("producer", [exponentials, even_doubled])
def test_a_store_that_is_overwritten_in_part_is_kept(backend, producer):
    fused = zl.fuse(producer, even_increased, {"y": "y"})
    (x,) = arrays((3, 21))
    with zl.using(backend):
        want, ours = np.zeros((3, 21), F), np.zeros((3, 21), F)
        producer(x, y=want)
        even_increased(y=want)
        fused(x, y=ours)
    np.testing.assert_array_equal(ours, want)


@zl.kernel
def doubled_three_times(*, y: zl.Mut[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    for _ in range(3):
        y[m, n] = y[m, n] * 2.0


def test_what_an_iteration_wrote_is_not_what_the_producer_stored():
    fused = zl.fuse(even_doubled, doubled_three_times, {"y": "y"})
    x, old = arrays((3, 21), (3, 21))
    want, ours = old.copy(), old.copy()
    even_doubled(x, y=want)
    fused(x, y=ours)
    np.testing.assert_array_equal(ours, 8 * want)
    refused("ZL0532", lambda: zl.fuse(exponentials, doubled_three_times, {"y": "y"}))


@zl.kernel
def table_of(x: zl.In[f32, N, N], *, y: zl.Out[f32, N, N]):
    i, j = zl.grid(N, N)
    y[i, j] = x[i, j] * 3.0 + zl.max(x[i, :])


@zl.kernel
def mirrored(x: zl.In[f32, N, N], *, y: zl.Out[f32, N, N]):
    i, j = zl.grid(N, N)
    y[i, j] = x[j, i]


@zl.kernel
def with_its_mirror(x: zl.In[f32, N, N], *, y: zl.Out[f32, N, N]):
    i, j = zl.grid(N, N)
    y[i, j] = x[i, j] - 2.0 * x[j, i]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("consumer", [mirrored, with_its_mirror])
def test_axes_of_the_grid_are_told_apart_by_what_they_index_not_by_their_size(backend, consumer):
    fused = zl.fuse(table_of, consumer, {"y": "x"})
    (x,) = arrays((5, 5))
    compare(fused, lambda x: consumer(table_of(x)), (x,), backend)


@zl.kernel
def lowest(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    tile = x.load(m, n, pad=9.0)
    y[m, n] = zl.where(n.active, tile, tile * 0.0) + zl.min(tile, pad=7.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_lanes_past_the_end_hold_the_loads_pad_and_not_what_was_computed_there(backend):
    fused = zl.fuse(exponentials, lowest, {"y": "x"})
    (x,) = arrays((3, 21))
    compare(fused, lambda x: lowest(exponentials(x)), (x,), backend)


@zl.kernel
def every_other(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    even = zl.only(n, n % 2 == 0)
    y[m, n] = x.load(m, even, pad=5.0) + 1.0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("producer", [exponentials, linear_vector])
def test_a_mask_of_the_consumer_is_kept(backend, producer):
    fused = zl.fuse(producer, every_other, {"y": "x"})
    args = arrays((3, 21)) if producer is exponentials else arrays((3, 8), (21, 8))
    compare(fused, lambda *a: every_other(producer(*a)), args, backend)


@zl.kernel
def at_least(x: zl.In[f32, M, N], least: f32, *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    zl.requires(N >= 4)
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = zl.maximum(x[m, n], least)


@pytest.mark.parametrize(("first", "second"), [(at_least, plus), (scale, at_least), (at_least, linear_vector)])
def test_preconditions_of_both_are_checked(first, second):
    fused = zl.fuse(first, second, {"y": "x"})
    assert [op for op in lowered(fused).body.ops if isinstance(op, ops.Require)]
    shapes = {a: s.shape for a, s in fused.signature.arrays.items() if s.role is Role.IN}
    given = {a: np.ones([3 if str(e) in ("N", "K") else 2 for e in shape], F) for a, shape in shapes.items()}
    refused("ZL0507", lambda: fused(**given, least=0.0))


# --- the result is a kernel as any other
def test_it_is_proved_again_and_reads_as_both_sources():
    fused = zl.fuse(rms_norm, linear_vector, {"y": "x"})
    function = lowered(fused)
    spec.check(function)
    verdict = verify(function)
    assert verdict.proved and verdict.kernel == "rms_norm_then_linear_vector"
    files = {op.span.file.rsplit("/", 1)[-1] for op in walk(function.body)}
    assert files == {"norm.py", "linear.py"}
    shown = listing(function)
    assert "row = x[t, :]" in shown and "zl.sum(w[cols, :]" in shown


def test_it_is_bound_checked_and_configured_as_any_other():
    fused = zl.fuse(linear_matrix, plus_other_tiles, {"y": "x"})
    assert {frozenset(c) for c in fused.configs} == {frozenset({"BM", "BN"})}
    assert all(verify(fused.lower(statics, bindings)).proved for statics, bindings in list(fused.variants())[:2])
    refused("ZL0502", lambda: fused(np.zeros((2, 3), F), np.zeros((5, 4), F), np.zeros((2, 5), F)))


def test_a_part_that_is_not_proved_is_refused_first():
    @zl.kernel
    def past_the_end(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
        m = zl.grid(M)
        y[m, :] = x[m + 1, :]

    fused = zl.fuse(past_the_end, row_sum, {"y": "x"})
    with pytest.raises(VerificationError) as caught:
        fused(np.zeros((2, 3), F))
    assert caught.value.code == "ZL0201" and "past_the_end" in repr(caught.value)


@zl.kernel
def halved(x: zl.In[W, M, N], *, y: zl.Out[W, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = (x[m, n].to(f32) * 0.5).to(W)


def test_dtype_variables_become_one_where_they_meet_and_stay_apart_elsewhere():
    both = zl.fuse(halved, halved, {"y": "x"})
    assert set(both.signature.dtype_vars) == {"W"}
    x = arrays((3, 20))[0].astype(np.float16)
    np.testing.assert_array_equal(both(x).numpy(), halved(halved(x)).numpy())
    narrowed = zl.fuse(halved, plus, {"y": "x"})
    assert not narrowed.signature.dtype_vars
    refused("ZL0501", lambda: narrowed(x, x))


def test_contracts_travel_with_the_value():
    @zl.kernel
    def best(x: zl.In[f32, M, V], *, at: zl.Out[zl.Index[V], M]):
        zl.requires(V >= 1)
        m = zl.grid(M)
        at[m] = zl.argmax(x[m, :])

    @zl.kernel
    def looked_up(at: zl.In[zl.Index[V], M], table: zl.In[i32, V], *, y: zl.Out[i32, M]):
        m = zl.grid(M)
        y[m] = table[at[m]]

    fused = zl.fuse(best, looked_up, {"at": "at"})
    (x,), table = arrays((4, 9)), np.arange(9, dtype=np.int32) * 3
    np.testing.assert_array_equal(fused(x, table).numpy(), table[x.argmax(1)])

    @zl.kernel
    def unproved(at: zl.In[i32, M], *, y: zl.Out[i32, M]):
        m = zl.grid(M)
        y[m] = at[m] + 1

    refused("ZL0531", lambda: zl.fuse(best, unproved, {"at": "at"}))


def test_one_text_for_one_fusion():
    assert text(lowered(zl.fuse(scale, plus, {"y": "x"}))) == text(lowered(zl.fuse(scale, plus, {"y": "x"})))
