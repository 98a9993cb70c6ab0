"""Recorded graphs: what they rely on, other sizes, exceptions while recording, replays beside other work."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import zellige as zl
from tests.runtime.kernels import (
    Gate,
    M,
    N,
    add_one,
    best,
    double,
    guarded,
    ints,
    plus,
    scale_add,
    scatter,
    take,
    total,
    vector,
)
from zellige import ZelligeError, f32, i32
from zellige.ir.types import ContractKind
from zellige.runtime.contracts import Fact
from zellige.runtime.guards import GuardError


def refused(call, code: str) -> str:
    with pytest.raises(ZelligeError) as caught:
        call()
    assert caught.value.code == code, caught.value
    return caught.value.render()


# --- recording
def test_nothing_is_written_by_recording():
    old = zl.index([0, 1], below=2)
    out = vector(2)
    with zl.record() as graph:
        best(np.array([[1, 5, 2], [7, 0, 0]], np.float32), at=old)
        y = double(vector(2))
        double(y, y=out)
        refused(lambda: y.numpy(), "ZL0504")
    assert old.facts == (Fact(ContractKind.INDEX, 2),)  # not yet Index[3]
    np.testing.assert_array_equal(out.numpy(), [0, 1])
    refused(lambda: y.numpy(), "ZL0504")
    graph.replay()
    assert old.facts == (Fact(ContractKind.INDEX, 3),)
    np.testing.assert_array_equal(old.numpy(), [1, 0])
    np.testing.assert_array_equal(out.numpy(), [0, 4])


def test_an_exception_while_recording_leaves_everything_as_it_was():
    x, out = vector(4), zl.empty((4,), i32)
    with pytest.raises(KeyError), zl.record() as graph:
        double(x, y=out)
        raise KeyError("the user's")
    refused(lambda: out.numpy(), "ZL0504")
    refused(graph.replay, "ZL0521")
    np.testing.assert_array_equal(double(x).numpy(), [0, 2, 4, 6])  # at once again


def test_a_launch_that_is_refused_is_not_part_of_the_graph():
    with zl.record() as graph:
        y = double(vector(4))
        refused(lambda: take(y, ints(0, 9)), "ZL0505")
        refused(lambda: double(zl.empty((4,), i32)), "ZL0504")
    assert len(graph) == 1
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [0, 2, 4, 6])


def test_contracts_flow_through_views_inside_a_graph():
    x = zl.tensor(np.array([[1, 5, 2], [7, 0, 0]], np.float32))
    with zl.record() as graph:
        at = best(x)
        y = take(vector(3, 10), at.reshape(1, 2)[0])
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [11, 10])


def test_a_contract_that_the_graph_itself_breaks_is_refused_at_capture():
    at = zl.index([0, 1], below=2)
    with zl.record():
        take(vector(2), at)
        double(ints(5, 5), y=at)
        refused(lambda: take(vector(2), at), "ZL0505")
        refused(lambda: take(vector(2), at[:1]), "ZL0505")


def test_an_input_that_the_graph_overwrites_is_checked_before_the_next_replay():
    at, x = zl.index([0, 1], below=2), zl.tensor(ints(0, 0))
    with zl.record() as graph:
        y = take(vector(2, 5), at)
        double(x, y=at)
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [5, 6])
    x.write(ints(7, 7))
    graph.replay()  # read 0, 0; wrote 14, 14
    np.testing.assert_array_equal(y.numpy(), [5, 5])
    assert "element 0 is 14" in refused(graph.replay, "ZL0505")
    np.testing.assert_array_equal(y.numpy(), [5, 5])


def test_borrowed_inputs_are_checked_at_every_replay():
    data = ints(0, 1)
    with zl.record() as graph:
        y = take(vector(2, 5), data)
    graph.replay()
    data[0] = 2
    refused(graph.replay, "ZL0505")
    data[0] = 1
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [6, 6])


def test_update_checks_what_the_graph_relies_on_and_loses_nothing():
    at = zl.tensor(ints(0, 1))
    with zl.record() as graph:
        y = take(vector(2, 5), at)
    assert "element 1 is 2" in refused(lambda: graph.update(at, ints(0, 2)), "ZL0505")
    np.testing.assert_array_equal(at.numpy(), [0, 1])
    graph.update(at, ints(1, 0))
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [6, 5])


def test_accumulators_are_cleared_in_every_replay():
    x, s = vector(10), zl.empty((1,), i32)
    with zl.record() as graph:
        total(x, s=s)
        y = double(s)
    for _ in range(3):
        graph.replay()
    assert s.numpy() == 45 and y.numpy() == 90


# --- sizes
def test_a_smaller_graph_checks_only_the_rows_that_it_reads():
    place = zl.tensor(ints(3, 2, 1, 0))
    with zl.record() as graph:
        y = scatter(vector(4, 10), place)
    graph.replay()
    graph.resize(N=2)
    refused(graph.replay, "ZL0505")  # 3, 2 is no permutation of 2
    place.write(ints(1, 0, 3, 2))
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [11, 10, 11, 10])
    graph.resize(N=4)
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [11, 10, 13, 12])


def test_a_size_at_which_one_launch_does_not_give_the_next_its_contract_is_refused():
    other = vector(4)

    @zl.kernel
    def spread(x: zl.In[i32, N], at: zl.In[zl.Index[N], N], *, y: zl.Out[i32, N]):
        i = zl.grid(N)
        y[i] = x[at[i]]

    @zl.kernel
    def index_of(x: zl.In[i32, M], *, at: zl.Out[zl.Index[M], M]):
        i = zl.grid(M)
        at[i] = i

    with zl.record() as graph:
        at = index_of(other)
        y = spread(other, at)
    graph.replay()
    refused(lambda: graph.resize(N=2), "ZL0521")  # four indices below 4 for an array of 2
    refused(lambda: graph.resize(M=2), "ZL0521")  # two indices where four are read
    np.testing.assert_array_equal(y.numpy(), np.arange(4))
    graph.resize(M=2, N=2)
    other.write(ints(7, 8, 9, 9))
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [7, 8, 2, 3])


def test_a_size_that_one_launch_refuses_changes_none():
    @zl.kernel
    def at_least_two(x: zl.In[i32, M], *, y: zl.Out[i32, M]):
        zl.requires(M >= 2)
        i = zl.grid(M)
        y[i] = x[i] + 1

    x = vector(4)
    with zl.record() as graph:
        y = double(x)
        z = at_least_two(y)
    graph.replay()
    refused(lambda: graph.resize(M=1), "ZL0507")
    x.write(ints(5, 5, 5, 5))
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [10] * 4)
    np.testing.assert_array_equal(z.numpy(), [11] * 4)
    refused(lambda: graph.resize(M=5), "ZL0521")
    refused(lambda: graph.resize(Q=1), "ZL0521")


def test_the_contract_of_a_scalar_is_checked_at_the_new_size():
    x, like = vector(2), vector(8)
    with zl.record() as graph:
        y = plus(x, 6, like)
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [6, 8])
    refused(lambda: graph.resize(N=7), "ZL0505")  # 6 is not up to 7 − 2
    refused(lambda: graph.set_scalars("plus", start=7), "ZL0505")
    graph.set_scalars("plus", start=1)
    graph.resize(N=7)
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), [1, 3])


@zl.kernel
def ranks_by_rows(x: zl.In[f32, N], *, at: zl.Out[zl.Index[N], N]):
    n = zl.grid(N)
    at[n] = n


def test_what_a_smaller_graph_established_is_not_believed_of_all_rows():
    x = zl.tensor(np.array([0, 0, 0, 9], np.float32))
    with zl.record() as graph:
        at = ranks_by_rows(x)
    graph.resize(N=2)
    graph.replay()
    assert at.facts == ()
    np.testing.assert_array_equal(at.numpy(), [0, 1, 0, 0])  # rows that no replay wrote are zeros
    graph.resize(N=4)
    graph.replay()
    assert at.facts == (Fact(ContractKind.INDEX, 4),)


# --- beside other work
def test_a_replay_on_a_stream_waits_and_is_waited_for():
    s, other = zl.stream(), zl.stream()
    x = vector(4)
    with zl.record() as graph:
        y = double(x)
    gate = Gate(s)
    with s:
        add_one(y=x)
        graph.replay()
    with other:
        z = double(y)
        add_one(y=x)  # what the replay reads
    assert not other.event().wait(0.05)
    gate.open()
    np.testing.assert_array_equal(z.numpy(), 4 * np.arange(1, 5))
    np.testing.assert_array_equal(x.numpy(), np.arange(2, 6))


def test_graphs_that_share_tensors_run_one_after_the_other_and_others_do_not_wait():
    a, b, c = zl.stream(), zl.stream(), zl.stream()
    x = vector(4)
    with zl.record() as first:
        y = double(x)
    first.replay()
    with zl.record() as second:
        z = double(y)
    with zl.record() as apart:
        w = double(vector(4))
    gate = Gate(a)
    with a:
        first.replay()
    with b:
        second.replay()
    with c:
        apart.replay()
    assert c.event().wait(10) and w.numpy()[1] == 2
    assert not b.event().wait(0.05)
    gate.open()
    b.synchronize()
    np.testing.assert_array_equal(z.numpy(), 4 * np.arange(4))


def test_a_graph_is_changed_only_when_no_replay_is_in_flight():
    s = zl.stream()
    x, y = vector(2), vector(2)
    with zl.record() as graph:
        scale_add(x, 1, y=y)
    gate = Gate(s)
    with s:
        graph.replay()
    done = []
    changing = threading.Thread(target=lambda: done.append(graph.set_scalars("scale_add", a=100)))
    changing.start()
    changing.join(0.05)
    assert not done
    gate.open()
    changing.join(10)
    np.testing.assert_array_equal(y.numpy(), [0, 4])  # 3·y + 1·x


def test_while_the_host_holds_an_array_a_replay_on_a_stream_is_refused():
    x = vector(2)
    with zl.record() as graph:
        y = double(x)
    graph.replay()
    seen = y.numpy()
    with zl.stream():
        refused(graph.replay, "ZL0503")
    graph.replay()  # at once, by the thread that holds it: no race
    np.testing.assert_array_equal(seen, [0, 2])


def test_a_guard_that_fails_in_a_graph_on_a_stream_is_told():
    with zl.record() as graph:
        y = guarded(vector(4), ints(1, 9))
    with zl.stream() as s:
        graph.replay()
    with pytest.raises(GuardError):
        s.synchronize()
    with pytest.raises(GuardError):
        graph.replay()
    assert y.shape == (2,)


def test_threads_replay_one_graph():
    y = zl.tensor(np.zeros(40, np.int32))
    with zl.record() as graph:
        for _ in range(3):
            add_one(y=y)
    threads = [threading.Thread(target=lambda: [graph.replay() for _ in range(20)]) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert (y.numpy() == 240).all()


def test_a_graph_that_is_gone_is_waited_for_by_nobody():
    x = vector(2)
    with zl.record() as graph:
        double(x)
    graph.replay()
    del graph
    at = zl.index([0], below=2)
    take(x, at)
    with zl.record() as again:
        double(x)
    again.replay()
    assert len([use for use in x.memory.graphs if not use.alive]) <= 1


def test_the_interpreter_records_nothing():
    with zl.using("reference"):
        refused(lambda: zl.record().__enter__(), "ZL0521")
    np.testing.assert_array_equal(double(vector(2)).numpy(), [0, 2])


# --- what a replay writes, and what it does not
def test_a_graph_that_writes_a_part_leaves_the_rest_unwritten():
    for part in (slice(0, 4), slice(None, None, 2)):
        whole = zl.empty((8,), i32)
        with zl.record() as graph:
            double(vector(4), y=whole[part])
        graph.replay()
        np.testing.assert_array_equal(whole[part].numpy(), [0, 2, 4, 6])
        refused(lambda whole=whole: whole.numpy(), "ZL0504")
        refused(lambda whole=whole: double(whole), "ZL0504")


def test_a_smaller_graph_clears_what_nobody_has_written_and_nothing_else():
    whole = zl.empty((12,), i32)
    whole[:4].write(np.full(4, 7, np.int32))
    with zl.record() as graph:
        add_one(y=whole[:4])
        double(vector(4), y=whole[4:8])
        double(vector(4), y=whole[8:])
    graph.resize(M=2)
    graph.replay()
    np.testing.assert_array_equal(whole.numpy(), [8, 8, 7, 7, 0, 2, 0, 0, 0, 2, 0, 0])


def test_a_replay_that_does_not_run_has_written_nothing():
    middle, out = vector(2), zl.empty((2,), i32)
    with zl.record() as graph:
        double(middle, y=out)
    with zl.stream() as stream:
        guarded(vector(4), ints(1, 9), y=middle)  # fails, so the replay behind it does not run
        graph.replay()
    with pytest.raises(GuardError):
        stream.synchronize()
    refused(lambda: out.numpy(), "ZL0504")
    graph.replay()
    np.testing.assert_array_equal(out.numpy(), 2 * middle.numpy())


def test_a_size_is_no_truth_value():
    with zl.record() as graph:
        double(vector(4))
    refused(lambda: graph.resize(M=True), "ZL0521")
