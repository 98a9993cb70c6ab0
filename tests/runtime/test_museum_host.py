"""Exhibits 5 to 8 of the bug museum: host programs of real engines that must be stopped, or cannot go wrong."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import zellige as zl
from tests.runtime.kernels import Gate, add_one, double, ints, vector
from zellige import ZelligeError, f32, i32

B, PAGES, P, NB = zl.dims("B PAGES P NB")


@zl.kernel
def sum_pages(values: zl.In[f32, NB, P], table: zl.In[zl.Index[NB], B, PAGES], length: zl.In[zl.UpTo[PAGES * P], B], *,
              out: zl.Out[f32, B]):  # fmt: skip
    b = zl.grid(B)
    acc = 0.0
    for pos in zl.tiles(length[b], 4):
        acc = acc + zl.sum(values[table[b, pos // P], pos % P])
    out[b] = acc


def test_5_lengths_longer_than_the_block_table_are_refused_before_capture():
    values, table = zl.tensor(np.ones((4, 4), np.float32)), zl.index([[0, 1], [2, 3]], below=4)
    lengths = zl.tensor(ints(8, 9))  # a dummy batch for the capture: 9 > 2 · 4
    with pytest.raises(ZelligeError) as caught, zl.record():
        sum_pages(values, table, lengths)
    assert caught.value.code == "ZL0505" and "element 1 is 9" in caught.value.message
    lengths.write(ints(8, 3))
    with zl.record() as graph:
        out = sum_pages(values, table, lengths)
    graph.replay()
    np.testing.assert_array_equal(out.numpy(), [8, 3])
    with pytest.raises(ZelligeError) as caught:  # and so are those written later
        graph.update(lengths, ints(8, 9))
    assert caught.value.code == "ZL0505"


def test_6_the_host_cannot_see_a_copy_before_it_has_ended():
    s = zl.stream()
    result, host = vector(4), zl.empty((4,), i32)
    gate = Gate(s)
    s.copy(result, host)  # "device to host", behind the gate
    seen: list[np.ndarray] = []
    reader = threading.Thread(target=lambda: seen.append(host.numpy().copy()))
    reader.start()
    reader.join(0.05)
    assert not seen
    gate.open()
    reader.join(10)
    np.testing.assert_array_equal(seen[0], [0, 1, 2, 3])
    early = host.numpy()  # an array taken in time cannot be written behind the reader's back, either
    with pytest.raises(zl.AliasError):
        s.copy(result, host)
    del early


def test_7_a_staging_buffer_belongs_to_its_copy():
    s = zl.stream()
    staging, device = zl.tensor(ints(1, 1, 1)), zl.empty((3,), i32)
    gate = Gate(s)
    s.copy(staging, device)
    with s:
        step = double(device)
    writer = threading.Thread(target=lambda: staging.write(ints(2, 2, 2)))  # step N + 1
    writer.start()
    writer.join(0.05)
    assert writer.is_alive()  # it waits for step N's copy
    gate.open()
    writer.join(10)
    np.testing.assert_array_equal(step.numpy(), [2, 2, 2])
    np.testing.assert_array_equal(staging.numpy(), [2, 2, 2])


def test_7_an_array_given_to_a_copy_is_the_callers_again_at_once():
    s = zl.stream()
    staging, device = ints(1, 1, 1), zl.empty((3,), i32)
    gate = Gate(s)
    s.copy(staging, device)
    staging[:] = 2
    gate.open()
    np.testing.assert_array_equal(device.numpy(), [1, 1, 1])


class PagePool:
    """Pages that come back after the step that could read them."""

    def __init__(self, pages: int) -> None:
        self.free = list(range(pages))

    def release_after(self, event: zl.Event, pages: list[int]) -> None:
        event.then(lambda: self.free.extend(pages))


def test_8_pages_come_back_after_the_step_in_flight():
    s, pool = zl.stream(), PagePool(2)
    cache = vector(8).reshape(2, 4)
    mine = [pool.free.pop(), pool.free.pop()]
    gate = Gate(s)
    with s:
        y = double(cache[0])
    pool.release_after(s.event(), mine)  # the request has finished; its last step is in flight
    assert pool.free == []
    gate.open()
    s.synchronize()
    assert sorted(pool.free) == [0, 1]
    np.testing.assert_array_equal(y.numpy(), [0, 2, 4, 6])


def test_8_even_a_page_given_out_too_early_is_not_written_under_its_reader():
    a, b = zl.stream(), zl.stream()
    cache = vector(8).reshape(2, 4)
    gate = Gate(a)
    with a:
        y = double(cache[0])
    with b:
        add_one(y=cache[0])  # the next owner of the page
    assert not b.event().wait(0.05)
    gate.open()
    np.testing.assert_array_equal(y.numpy(), [0, 2, 4, 6])
