"""Asynchronous CPU streams: order, waiting, errors, memory that outlives its name."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import numpy as np
import pytest

import zellige as zl
from tests.runtime.kernels import Gate, add_one, double, guarded, ints, scale_add, take, vector
from zellige import ZelligeError, i32
from zellige.runtime import admission
from zellige.runtime.guards import GuardError


def in_thread(call) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_a_launch_on_a_stream_returns_before_it_has_run_and_reading_waits():
    s = zl.stream()
    gate = Gate(s)
    with s:
        y = double(vector(4))
    assert not s.done
    seen = []
    reader = in_thread(lambda: seen.append(y.numpy().copy()))
    reader.join(0.05)
    assert reader.is_alive() and not seen  # nothing to see before the writer has run
    gate.open()
    reader.join(10)
    np.testing.assert_array_equal(seen[0], [0, 2, 4, 6])


def test_launches_of_one_stream_run_in_order():
    with zl.stream() as s:
        y = double(vector(4))
        for _ in range(5):
            add_one(y=y)
    s.synchronize()
    np.testing.assert_array_equal(y.numpy(), 2 * np.arange(4) + 5)


def test_another_stream_waits_for_the_writer_and_for_the_readers():
    a, b = zl.stream(), zl.stream()
    gate = Gate(a)
    x = vector(4)
    with a:
        y = double(x)
    with b:
        z = double(y)  # reads what a writes
        add_one(y=x)  # writes what a reads
    assert not b.event().wait(0.05)
    gate.open()
    np.testing.assert_array_equal(z.numpy(), 4 * np.arange(4))
    np.testing.assert_array_equal(y.numpy(), 2 * np.arange(4))
    np.testing.assert_array_equal(x.numpy(), 1 + np.arange(4))


def test_readers_on_two_streams_do_not_wait_for_each_other():
    a, b = zl.stream(), zl.stream()
    gate = Gate(a)
    x = vector(4)
    with a:
        double(x)
    with b:
        y = double(x)
    assert b.event().wait(10)
    np.testing.assert_array_equal(y.numpy(), 2 * np.arange(4))
    gate.open()


def test_disjoint_parts_of_one_tensor_are_written_independently():
    a, b = zl.stream(), zl.stream()
    gate = Gate(a)
    t = vector(8)
    with a:
        add_one(y=t[:4])
    with b:
        add_one(y=t[4:])
    assert b.event().wait(10)
    gate.open()
    np.testing.assert_array_equal(t.numpy(), 1 + np.arange(8))


def test_a_synchronous_call_waits_for_streams():
    s = zl.stream()
    gate = Gate(s)
    with s:
        y = double(vector(4))
    opener = threading.Timer(0.02, gate.open)
    opener.start()
    z = double(y)
    np.testing.assert_array_equal(z.numpy(), 4 * np.arange(4))


def test_a_call_that_is_interrupted_while_it_waits_lets_nobody_overtake(monkeypatch):
    s = zl.stream()
    gate = Gate(s)
    t = vector(4)
    with s:
        add_one(y=t)

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(admission, "wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        add_one(y=t)
    monkeypatch.undo()
    seen = []
    reader = in_thread(lambda: seen.append(t.numpy().copy()))
    reader.join(0.05)
    assert not seen  # the interrupted call stood for the launch behind the gate, and still does
    gate.open()
    reader.join(10)
    np.testing.assert_array_equal(seen[0], [1, 2, 3, 4])


def test_memory_outlives_its_name_until_the_stream_is_done_with_it():
    s = zl.stream()
    gate = Gate(s)
    x = vector(1000)
    memory = weakref.ref(x.memory)
    with s:
        y = double(x)
    del x
    gc.collect()
    assert memory() is not None
    gate.open()
    np.testing.assert_array_equal(y.numpy(), 2 * np.arange(1000))
    s.synchronize()
    Gate(s).open()  # the worker has let go of the launch when it takes up the next thing
    s.synchronize()
    gc.collect()
    assert memory() is None


def test_a_plain_array_is_copied_when_it_goes_in_and_refused_when_it_comes_out():
    s = zl.stream()
    gate = Gate(s)
    data = ints(1, 2, 3)
    with s:
        y = double(data)
        data[:] = 100
        with pytest.raises(zl.AliasError):
            double(data, y=np.zeros(3, np.int32))
    gate.open()
    np.testing.assert_array_equal(y.numpy(), [2, 4, 6])


def test_contracts_are_checked_on_what_the_stream_will_have_written():
    s = zl.stream()
    at = zl.empty((2,), i32)
    gate = Gate(s)
    with s:
        double(ints(1, 1), y=at)
        threading.Timer(0.02, gate.open).start()
        y = take(vector(4), at)  # the check waits for the writer: 2, 2
        double(ints(3, 3), y=at)
        with pytest.raises(ZelligeError) as caught:
            take(vector(4), at)  # 6, 6
    assert caught.value.code == "ZL0505"
    np.testing.assert_array_equal(y.numpy(), [2, 2])
    s.synchronize()  # a refused launch is no error of the stream's


def test_an_error_stops_the_stream_until_it_has_been_told():
    s = zl.stream()
    gate = Gate(s)
    y = vector(2)
    with s:
        bad = guarded(vector(4), ints(1, 9))
        behind = double(bad)
        add_one(y=y)
    gate.open()
    with pytest.raises(GuardError):
        s.synchronize()
    with pytest.raises(ZelligeError) as caught:
        behind.numpy()
    assert caught.value.code == "ZL0504"  # it did not run
    np.testing.assert_array_equal(y.numpy(), [0, 1])
    with s:
        add_one(y=y)
    s.synchronize()
    np.testing.assert_array_equal(y.numpy(), [1, 2])


def test_reading_what_a_failed_launch_should_have_written_raises_its_error():
    s, other = zl.stream(), zl.stream()
    with s:
        bad = guarded(vector(4), ints(1, 9))
    s.event().completion.wait()
    with pytest.raises(GuardError), other:
        double(bad)


def test_an_error_reaches_the_stream_that_depends_on_it():
    a, b = zl.stream(), zl.stream()
    gate = Gate(a)
    with a:
        bad = guarded(vector(4), ints(1, 9))
    with b:
        worse = double(bad)
    gate.open()
    with pytest.raises(GuardError):
        worse.numpy()
    for s in (a, b):
        with pytest.raises(GuardError):
            s.synchronize()
        s.synchronize()


def test_streams_and_events_are_awaited():
    async def work() -> np.ndarray:
        s = zl.stream()
        gate = Gate(s)
        with s:
            y = double(vector(4))
        event = s.event()
        asyncio.get_running_loop().call_later(0.01, gate.open)
        await event
        assert event.done
        await s
        return y.numpy().copy()

    np.testing.assert_array_equal(asyncio.run(work()), [0, 2, 4, 6])


def test_awaiting_raises_the_error():
    async def work() -> None:
        with zl.stream() as s:
            guarded(vector(4), ints(9))
        await s

    with pytest.raises(GuardError):
        asyncio.run(work())


def test_each_asyncio_task_has_its_own_stream():
    async def work(k: int) -> int:
        with zl.stream():
            y = vector(4, k)
            await asyncio.sleep(0)
            add_one(y=y)
            await asyncio.sleep(0)
            return int(y.numpy()[0])

    async def both() -> list[int]:
        return await asyncio.gather(*(work(k) for k in range(5)))

    assert asyncio.run(both()) == [1, 2, 3, 4, 5]


def test_an_event_of_one_stream_holds_up_another():
    a, b = zl.stream(), zl.stream()
    gate = Gate(a)
    b.wait(a.event())
    with b:
        y = double(vector(2))
    assert not b.event().wait(0.05)
    gate.open()
    np.testing.assert_array_equal(y.numpy(), [0, 2])


def test_a_stream_shared_by_threads_keeps_its_order():
    s = zl.stream()
    y = zl.tensor(np.zeros(64, np.int32))

    def work() -> None:
        with s:
            for _ in range(50):
                add_one(y=y)

    threads = [in_thread(work) for _ in range(4)]
    [t.join() for t in threads]
    s.synchronize()
    assert (y.numpy() == 200).all()


def test_waiting_for_oneself_is_an_error_and_not_a_deadlock():
    s, seen = zl.stream(), []

    def wait_for_what_comes_later() -> None:
        with s:
            later = double(vector(2))
        try:
            later.numpy()
        except ZelligeError as error:
            seen.append(error.code)

    s.submit("callback", lambda _: (), wait_for_what_comes_later, lambda: None)
    s.synchronize()
    assert seen == ["ZL0523"]


def test_a_closed_stream_takes_no_work():
    s = zl.stream()
    with s:
        y = double(vector(2))
    s.close()
    np.testing.assert_array_equal(y.numpy(), [0, 2])
    with pytest.raises(ZelligeError) as caught, s:
        double(vector(2))
    assert caught.value.code == "ZL0523"


def test_a_stream_that_nobody_holds_finishes_its_work():
    s = zl.stream()
    gate = Gate(s)
    thread = s._worker.thread
    with s:
        y = double(vector(2))
    del s
    gc.collect()
    gate.open()
    np.testing.assert_array_equal(y.numpy(), [0, 2])
    thread.join(10)
    assert not thread.is_alive()


def test_three_ways_to_run_have_one_meaning():
    x = vector(40)

    def run(y: zl.Tensor) -> zl.Tensor:
        scale_add(x, 5, y=y)
        scale_add(x, -2, y=y)
        return double(y)

    now = run(vector(40, 3))
    with zl.stream():
        later = run(vector(40, 3))
    with zl.record() as graph:
        recorded = run(vector(40, 3))
    graph.replay()
    with zl.record() as again:
        on_stream = run(vector(40, 3))
    with zl.stream():
        again.replay()
    for other in (later, recorded, on_stream):
        np.testing.assert_array_equal(other.numpy(), now.numpy())


def test_an_array_given_to_a_copy_is_the_callers_again_at_once():
    s = zl.stream()
    staging, device = ints(1, 1, 1), zl.empty((3,), i32)
    gate = Gate(s)
    s.copy(staging, device)
    staging[:] = 2
    gate.open()
    np.testing.assert_array_equal(device.numpy(), [1, 1, 1])


def test_a_part_of_a_tensor_is_not_written_under_its_reader():
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


def test_a_copy_to_memory_that_is_read_only_is_refused_at_once():
    array = np.zeros(4, np.float32)
    array.flags.writeable = False
    with zl.stream() as s, pytest.raises(ZelligeError) as caught:
        s.copy(np.ones(4, np.float32), zl.borrow(array))
    assert caught.value.code == "ZL0503"
    s.close()
