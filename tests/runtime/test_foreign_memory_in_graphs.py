"""Graphs over memory that others have, too: each replay reads a copy, which is what it has checked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, f32
from zellige.runtime import admission
from zellige.runtime.graph import Graph

M, V = zl.dims("M V")
TABLE = np.array([3.0, 1.0, 2.0], np.float32)


@zl.kernel
def looked_up(i: zl.In[zl.Index[V], M], t: zl.In[f32, V], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = t[i[m]]


@zl.kernel
def counted_up(*, i: zl.Mut[zl.i32, M]):
    m = zl.grid(M)
    i[m] = zl.minimum(i[m] + 1, 2)


@zl.kernel
def scaled(x: zl.In[f32, M], by: f32, *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = x[m] * by


def broken(call: Callable[[], Any]) -> None:
    """The call is refused as the contents would break the contract."""
    with pytest.raises(ZelligeError) as caught:
        call()
    assert caught.value.code == "ZL0505"


@contextmanager
def written_after_the_check(values: Any) -> Iterator[None]:
    """Its owner writes the array as soon as it has been looked at: a launch would read the element after the table's last."""
    check = admission.broken

    def then_written(fact: Any, seen: Any) -> Any:
        problem = check(fact, seen)
        values[...] = len(TABLE)
        return problem

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admission, "broken", then_written)
        yield


@pytest.mark.parametrize("part", [slice(None), slice(None, None, 2), slice(None, None, -1), slice(1, 2)])
def test_what_a_replay_has_checked_is_what_it_reads(part: slice) -> None:
    array = np.array([2, 0, 1], np.int32)
    at = zl.borrow(array)
    with zl.record() as graph:
        y = looked_up(at[part], TABLE)
    for indices in ([2, 0, 1], [1, 1, 0]):
        array[:] = indices
        with written_after_the_check(array):
            graph.replay()
        np.testing.assert_array_equal(y.numpy(), TABLE[indices][part])
        broken(graph.replay)


def test_memory_that_others_get_after_the_recording_is_copied_from_then_on() -> None:
    at = zl.index([2, 0, 1], below=3)
    with zl.record() as graph:
        y = looked_up(at, TABLE)
    graph.replay()
    assert not graph._capture.copies  # ours alone: read in place
    array = np.from_dlpack(at)
    for indices in ([0, 1, 2], [1, 1, 0]):
        array[:] = indices
        with written_after_the_check(array):
            graph.replay()
        np.testing.assert_array_equal(y.numpy(), TABLE[indices])
        broken(graph.replay)
    array[:] = 0
    del array
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), TABLE[[0, 0, 0]])
    at.write(np.array([1, 2, 1], np.int32))
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), TABLE[[1, 2, 1]])


def test_a_replay_on_a_stream_reads_what_was_there_when_it_was_given() -> None:
    array = np.array([2, 0, 1], np.int32)
    with zl.record() as graph:
        y = looked_up(zl.borrow(array), TABLE)
    with zl.stream() as s:
        for _ in range(20):
            array[:] = 2, 0, 1
            graph.replay()
            array[:] = len(TABLE)
            s.synchronize()
            np.testing.assert_array_equal(y.numpy(), TABLE[[2, 0, 1]])
    s.close()


def test_what_the_graph_writes_later_is_in_the_next_replays_copy() -> None:
    array = np.array([0, 1, 1], np.int32)
    at = zl.borrow(array)
    with zl.record() as graph:
        y = looked_up(at, TABLE)
        counted_up(i=at)
    for indices in ([0, 1, 1], [1, 2, 2], [2, 2, 2]):
        graph.replay()
        np.testing.assert_array_equal(y.numpy(), TABLE[indices])


def test_a_fused_graph_copies_the_array_itself() -> None:
    array = np.array([2, 0, 1], np.int32)
    with zl.record() as graph:
        x = looked_up(zl.borrow(array), TABLE)
        y = scaled(x, 2.0)
    fused = graph.fused(temporaries=[x], accept=lambda _: True)
    assert len(fused) == 1
    for indices in ([2, 0, 1], [1, 1, 0]):
        for each in (fused, graph):
            array[:] = indices
            with written_after_the_check(array):
                each.replay()
            np.testing.assert_array_equal(y.numpy(), 2 * TABLE[indices])


def test_rows_that_are_not_read_are_not_checked_and_update_finds_the_array() -> None:
    array = np.array([2, 0, 7], np.int32)
    at = zl.borrow(np.array([2, 0, 1], np.int32))
    with zl.record() as graph:
        y = looked_up(at, TABLE)
    graph.resize(M=2)
    graph.replay()
    broken(lambda: graph.update(at, [0, 3, 1]))
    graph.update(at, array)  # the last row is not read
    graph.replay()
    np.testing.assert_array_equal(y.numpy()[:2], TABLE[[2, 0]])
    broken(lambda: graph.resize(M=3) or graph.replay())  # type: ignore[func-returns-value]


def test_scalars_of_a_launch_that_reads_a_copy_can_be_set() -> None:
    @zl.kernel
    def added(i: zl.In[zl.Index[V], M], t: zl.In[f32, V], more: f32, *, y: zl.Out[f32, M]):
        m = zl.grid(M)
        y[m] = t[i[m]] + more

    array = np.array([2, 0, 1], np.int32)
    with zl.record() as graph:
        y = added(zl.borrow(array), TABLE, 1.0)
    graph.replay()
    graph.set_scalars("added", more=5.0)
    with written_after_the_check(array):
        graph.replay()
    np.testing.assert_array_equal(y.numpy(), TABLE[[2, 0, 1]] + 5)


def test_graphs_of_one_array_each_have_a_copy_and_wait_for_its_writers() -> None:
    @zl.kernel
    def all_one(*, i: zl.Out[zl.i32, M]):
        m = zl.grid(M)
        i[m] = 1

    array = np.array([2, 0, 1], np.int32)
    at = zl.borrow(array)
    graphs: list[tuple[Graph, zl.Tensor]] = []
    for _ in range(2):
        with zl.record() as graph:
            y = looked_up(at, TABLE)
        graphs.append((graph, y))
    with zl.stream() as s:
        all_one(i=at)
        for graph, _ in graphs:
            graph.replay()
    s.synchronize()
    for _, y in graphs:
        np.testing.assert_array_equal(y.numpy(), TABLE[[1, 1, 1]])
    s.close()


SCRIBBLING = """
import threading
import numpy as np
import zellige as zl
from zellige import ZelligeError
from tests.runtime.test_foreign_memory_in_graphs import TABLE, looked_up

array = np.zeros(1 << 16, np.int32)
with zl.record() as graph:
    y = looked_up(zl.borrow(array), TABLE)
stop = threading.Event()

def scribble():
    while not stop.is_set():
        array[:] = 1 << 28
        array[:] = 2

thread = threading.Thread(target=scribble)
thread.start()
ran = 0
for _ in range(400):
    try:
        graph.replay()
        ran += 1
        assert set(y.numpy().tolist()) <= {3.0, 2.0}
    except ZelligeError as error:
        assert error.code == "ZL0505"
stop.set()
thread.join()
print("alive", ran)
"""


def test_a_thread_that_writes_indices_all_the_time_harms_nobody() -> None:
    """In a process of its own: reading far outside ends it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIBBLING], capture_output=True, text=True, env=os.environ, timeout=120, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith("alive"), done.stderr
