"""Launches of a recorded step that become one: what ownership allows, what it forbids, and that the bits stay."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, f32
from zellige.kernels.linear import add, linear_vector, silu_mul
from zellige.kernels.norm import rms_norm
from zellige.runtime.fusion_search import table

M, N = zl.dims("M N")
F = np.float32


@zl.kernel
def double(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, n] * 2.0


@zl.kernel
def plus(a: zl.In[f32, M, N], b: zl.In[f32, M, N], *, c: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    c[m, n] = a[m, n] + b[m, n]


@zl.kernel
def into(x: zl.In[f32, M, N], *, h: zl.Mut[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    h[m, n] = h[m, n] + x[m, n]


@zl.kernel
def increase(by: f32, *, x: zl.Mut[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    x[m, n] = x[m, n] + by


@zl.kernel
def row_maxima(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    m = zl.grid(M)
    row = x[m, :]
    for n in range(N):
        y[m, n] = x[m, n] - zl.max(row)


@zl.kernel
def sums(x: zl.In[f32, M, N], *, s: zl.Acc(init=0)[f32, M], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    s.add(m, zl.sum(x[m, n]))


def tensor(*shape, seed=0):
    return zl.tensor(np.random.default_rng(seed).standard_normal(shape).astype(F))


def names(graph):
    return [step.launch.instance.function.name for step in graph._steps]


def after(graph, *tensors):
    graph.replay()
    return [t.numpy().copy() for t in tensors]


def block(h, weights, temporaries):
    """A feed-forward block of a transformer in plain kernels."""
    norm, gate, up, down = weights
    x = rms_norm(h, norm, 1e-5)
    a, b = linear_vector(x, gate), linear_vector(x, up)
    y = silu_mul(a, b)
    d = linear_vector(y, down)
    add(d, h=h)
    temporaries += [x, a, b, y, d]


def step(layers=2, rows=3, width=48, inner=80):
    weights = [
        (
            tensor(width),
            tensor(inner, width, seed=i),
            tensor(inner, width, seed=i + 9),
            tensor(width, inner, seed=i + 5),
        )
        for i in range(layers)
    ]
    h, start, temporaries = tensor(rows, width), tensor(rows, width).numpy().copy(), []
    with zl.record() as graph:
        for layer in weights:
            block(h, layer, temporaries)
    return graph, h, start, temporaries


# --- what is found
@pytest.mark.parametrize("everything", [False, True])
def test_a_block_of_plain_kernels_becomes_what_one_would_write_by_hand_with_the_same_bits(everything):
    graph, h, start, temporaries = step()
    (plain,) = after(graph, h)
    fused = graph.fused(temporaries, (lambda p: True) if everything else (lambda p: p.bytes_again == 0))
    assert len(graph) == 12 and len(fused) == (4 if everything else 6)
    gated = "linear_vector_then_linear_vector_then_silu_mul"
    assert (gated in names(fused)) is not everything and "linear_vector_then_add" in names(fused)
    h.write(start)
    np.testing.assert_array_equal(after(fused, h)[0], plain)
    h.write(start)
    np.testing.assert_array_equal(after(graph, h)[0], plain)  # the graph that was fused is as it was


def test_proposals_are_data_that_say_what_is_saved():
    graph, _, _, temporaries = step(layers=3)
    found = graph.fusions(temporaries, lambda p: p.bytes_again == 0)
    assert len(found) == 9 and len(graph) == 18
    first = found[0]
    assert first.producer == "linear_vector" and first.consumers == ("silu_mul",) and first.launches == (1, 3)
    assert first.dropped == ("y",) and 2 * 3 * 80 * 4 <= first.bytes_saved < first.gain
    shown = table(found)
    assert "goes into" in shown and "9 launches fewer" in shown and shown.count("linear_vector_then_silu_mul") == 1


def test_only_what_is_accepted_is_fused():
    graph, _, _, temporaries = step()
    fused = graph.fused(temporaries, lambda p: p.consumers == ("add",))
    assert len(fused) == 10 and names(fused).count("linear_vector_then_add") == 2
    assert len(graph.fused(temporaries, lambda p: False)) == 12


def test_an_equal_pair_of_another_layer_is_the_same_kernel():
    fused = (lambda g, _h, _s, t: g.fused(t))(*step(layers=3))
    adds = [s.launch for s in fused._steps if s.launch.instance.function.name == "linear_vector_then_add"]
    assert len(adds) == 3 and len({id(launch.instance) for launch in adds}) == len({id(a.kernel) for a in adds}) == 1


# --- what ownership forbids
def test_what_the_host_may_read_afterwards_is_still_written():
    x = tensor(3, 20)
    with zl.record() as graph:
        y = double(x)
        z = double(y)
    fused = graph.fused()
    assert len(fused) == 1
    for value, factor in zip(after(fused, y, z), (2, 4), strict=True):
        np.testing.assert_array_equal(value, factor * x.numpy())


def test_a_temporary_that_is_not_written_is_not_readable():
    x = tensor(3, 20)
    with zl.record() as graph:
        y = double(x)
        z = double(y)
    fused = graph.fused([y])
    np.testing.assert_array_equal(after(fused, z)[0], 4 * x.numpy())
    with pytest.raises(ZelligeError) as caught:
        y.numpy()
    assert caught.value.code == "ZL0504"


def test_a_temporary_that_is_a_part_of_a_tensor_gives_leave_for_that_part_only():
    x, y = tensor(4, 20), tensor(4, 20, seed=2)
    with zl.record() as graph:
        double(x, y=y)
        z = double(y)
    fused = graph.fused([y[:1]])
    y_, z_ = after(fused, y, z)
    np.testing.assert_array_equal(y_, 2 * x.numpy())
    np.testing.assert_array_equal(z_, 4 * x.numpy())
    assert graph.fusions([y[:1]])[0].dropped == () and graph.fusions([y[:4]])[0].dropped == ("y",)


def test_a_value_that_is_overwritten_later_in_the_step_needs_no_permission():
    x, buffer = tensor(3, 20), tensor(3, 20)
    with zl.record() as graph:
        double(x, y=buffer)
        z = double(buffer)
        double(z, y=buffer)
    fused = graph.fused()
    assert graph.fusions()[0].dropped == ("y",)
    z_, buffer_ = after(fused, z, buffer)
    np.testing.assert_array_equal(z_, 4 * x.numpy())
    np.testing.assert_array_equal(buffer_, 8 * x.numpy())


def test_a_value_that_another_launch_reads_is_still_written():
    x = tensor(3, 20)
    with zl.record() as graph:
        y = double(x)
        z = plus(y, x)
        m = row_maxima(y)
    fused = graph.fused([y], lambda p: "row_maxima" not in p.consumers)
    assert names(fused) == ["double_then_plus", "row_maxima"]
    y_, z_, m_ = after(fused, y, z, m)
    np.testing.assert_array_equal(y_, 2 * x.numpy())
    np.testing.assert_array_equal(z_, y_ + x.numpy())
    np.testing.assert_array_equal(m_, y_ - y_.max(1, keepdims=True))


def test_accumulators_are_cleared_first_as_before():
    x = tensor(3, 20)
    with zl.record() as graph:
        y = double(x)
        s = sums(y)
    fused = graph.fused([y])
    assert names(fused) == ["fill", "double_then_sums"]
    for _ in range(2):
        np.testing.assert_allclose(after(fused, s)[0], 2 * x.numpy().sum(1), rtol=1e-5)


def test_a_value_of_the_last_replay_is_not_a_temporary():
    """The second replay reads what the first one left."""
    x, state = tensor(3, 20), tensor(3, 20, seed=4)
    with zl.record() as graph:
        y = plus(state, x)
        double(y, y=state)
        w = double(state)
    fused = graph.fused([y, state, w])
    before = state.numpy().copy()
    assert names(fused) == ["plus_then_double_then_double"]
    for _ in range(2):
        state_, w_ = after(fused, state, w)
        before = 2 * (before + x.numpy())
        np.testing.assert_array_equal(state_, before)
        np.testing.assert_array_equal(w_, 2 * before)


def test_a_launch_does_not_move_past_one_that_writes_what_it_reads():
    x = tensor(3, 20)
    with zl.record() as graph:
        y = double(x)
        increase(1.0, x=x)
        z = plus(y, x)
    before = x.numpy().copy()
    fused = graph.fused([y])
    assert names(fused) == ["double_then_increase_then_plus"]
    np.testing.assert_array_equal(after(fused, z)[0], 2 * before + (before + 1))


def test_a_launch_does_not_move_past_one_that_writes_what_it_writes():
    x, buffer = tensor(3, 20), tensor(3, 20)
    with zl.record() as graph:
        double(x, y=buffer)
        increase(1.0, x=buffer)
        z = plus(buffer, x)
    fused = graph.fused([buffer])
    assert names(fused) == ["double_then_increase_then_plus"]
    np.testing.assert_array_equal(after(fused, z)[0], (2 * x.numpy() + 1) + x.numpy())


def test_another_view_of_the_memory_between_is_another_array():
    x, y = tensor(4, 20), tensor(4, 20)
    with zl.record() as graph:
        double(x, y=y)
        upper = double(y[:2])
        whole = double(y.reshape(2, 40))
    fused = graph.fused([y])
    assert names(fused) == ["double", "double", "double"]
    a, b = after(fused, upper, whole)
    np.testing.assert_array_equal(a, 4 * x.numpy()[:2])
    np.testing.assert_array_equal(b, (4 * x.numpy()).reshape(2, 40))


def test_a_part_that_is_overwritten_does_not_end_the_whole():
    x, y = tensor(4, 20), tensor(4, 20, seed=9)
    with zl.record() as graph:
        double(x, y=y)
        z = double(y)
        double(x[:2], y=y[:2])
        w = double(y)
    fused = graph.fused([y])
    assert names(fused) == ["double_then_double", "double", "double"]
    z_, w_ = after(fused, z, w)
    np.testing.assert_array_equal(z_, 4 * x.numpy())
    np.testing.assert_array_equal(w_, 4 * x.numpy())


def test_views_that_overlap_are_not_taken_for_two_arrays():
    x, buffer = tensor(3, 20), tensor(4, 20, seed=9)
    start = buffer.numpy().copy()
    with zl.record() as graph:
        double(x, y=buffer[:3])
        z = double(buffer[1:])
    fused = graph.fused([buffer])
    assert names(fused) == ["double", "double"]
    np.testing.assert_array_equal(after(fused, z)[0], 2 * np.concatenate([2 * x.numpy()[1:], start[3:]]))


def test_a_value_is_not_computed_again_from_an_input_that_its_first_reader_changes():
    x, b = tensor(3, 20), tensor(3, 20, seed=5)
    start = x.numpy().copy()
    with zl.record() as graph:
        y = double(x)
        into(y, h=x)
        z = plus(y, b)
    fused = graph.fused([y], lambda p: True)
    np.testing.assert_array_equal(after(fused, z)[0], 2 * start + b.numpy())
    np.testing.assert_array_equal(x.numpy(), start + 2 * start)


def test_inputs_that_are_one_tensor_are_one_parameter():
    x = tensor(3, 20)
    with zl.record() as graph:
        y = double(x)
        z = plus(y, x)
    fused = graph.fused([y])
    assert [a.name for a in fused._steps[0].launch.instance.function.arrays] == ["b", "c"]
    np.testing.assert_array_equal(after(fused, z)[0], 3 * x.numpy())


# --- the fused graph is a graph
def test_scalars_are_still_changed_by_the_name_of_the_kernel_that_has_them():
    x = tensor(3, 20)
    start = x.numpy().copy()
    with zl.record() as graph:
        increase(1.0, x=x)
        increase(10.0, x=x)
        y = double(x)
    fused = graph.fused()
    assert len(fused) == 1
    np.testing.assert_allclose(after(fused, y)[0], 2 * (start + 11), rtol=1e-6)
    fused.set_scalars("increase", by=2.0)
    x.write(start)
    np.testing.assert_allclose(after(fused, y)[0], 2 * (start + 4), rtol=1e-6)
    for scalars in ({"of": 1.0}, {"by": "much"}):
        with pytest.raises(ZelligeError):
            fused.set_scalars("increase", **scalars)


def test_it_is_resized_by_the_same_dims():
    graph, h, start, temporaries = step(rows=5)
    fused = graph.fused(temporaries)
    for todo in (graph, fused):
        h.write(start)
        todo.resize(T=2)
        todo.replay()
        if todo is graph:
            want = h.numpy().copy()
    np.testing.assert_array_equal(h.numpy(), want)
    np.testing.assert_array_equal(want[2:], start[2:])


P, Q = zl.dims("P Q")


@zl.kernel
def halved(a: zl.In[f32, P, Q], *, b: zl.Out[f32, P, Q], BQ: zl.Static = 16):
    p, q = zl.grid(P, Q.tiles(BQ))
    b[p, q] = a[p, q] * 0.5


def test_a_dim_that_two_kernels_call_differently_is_resized_under_both_names():
    x = tensor(4, 20)
    with zl.record() as graph:
        y = double(x)
        z = halved(y)
    fused = graph.fused()
    assert len(fused) == 1
    for todo in (graph, fused):
        todo.resize(M=2, P=2)
    for dims in ({"P": 3}, {"M": 3}, {"M": 3, "P": 4}):
        with pytest.raises(ZelligeError) as caught:
            fused.resize(**dims)
        assert caught.value.code == "ZL0521"
    y_, z_ = after(fused, y, z)
    np.testing.assert_array_equal(z_[:2], x.numpy()[:2])
    np.testing.assert_array_equal(y_, np.where(np.arange(4)[:, None] < 2, 2 * x.numpy(), 0))


def test_a_value_is_not_dropped_for_what_is_written_over_it_and_may_be_resized_alone():
    x, buffer = tensor(4, 20), tensor(4, 20)
    with zl.record() as graph:
        double(x, y=buffer)
        z = double(buffer)
        halved(z, b=buffer)
    apart = lambda p: "halved" not in p.consumers
    fused = graph.fused((), apart)
    assert graph.fusions((), apart)[0].dropped == ()
    for todo in (graph, fused):
        todo.resize(P=2)
        (buffer_,) = after(todo, buffer)
        np.testing.assert_array_equal(buffer_[2:], 2 * x.numpy()[2:])


def test_only_a_complete_graph_at_its_own_size_can_be_fused():
    graph, _, _, temporaries = step()
    graph.resize(T=1)
    with pytest.raises(ZelligeError) as caught:
        graph.fused(temporaries)
    assert caught.value.code == "ZL0521"
    with pytest.raises(ZelligeError), zl.record() as open_graph:
        open_graph.fusions()


def test_contracts_that_one_launch_gives_another_are_kept_inside():
    x, table_ = tensor(4, 9), zl.tensor(np.arange(9, dtype=F))
    with zl.record() as graph:
        at = best(x)
        y = looked_up(at, table_)
    fused = graph.fused([at])
    assert len(fused) == 1
    np.testing.assert_array_equal(after(fused, y)[0], x.numpy().argmax(1))


V = zl.dims("V")


@zl.kernel
def best(x: zl.In[f32, M, V], *, at: zl.Out[zl.Index[V], M]):
    zl.requires(V >= 1)
    m = zl.grid(M)
    at[m] = zl.argmax(x[m, :])


@zl.kernel
def looked_up(at: zl.In[zl.Index[N], M], of: zl.In[f32, N], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = of[at[m]]
