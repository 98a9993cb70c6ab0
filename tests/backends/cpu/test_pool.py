"""The thread pool: order of launches, every program once, any number of threads, idle and busy machines."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

import zellige as zl
from zellige.backends.cpu.compile import compile
from zellige.backends.cpu.objects import load, object_code
from zellige.backends.cpu.pool import Pool, Recording
from zellige.backends.cpu.target import target
from zellige.kernels import linear

# slots: array, factor. Each program p does array[p] = array[p] * factor + p.
STEP = """
define void @step(ptr %slots, i64 %begin, i64 %end) {
entry:
  %array = load ptr, ptr %slots
  %factor_at = getelementptr i64, ptr %slots, i64 1
  %factor = load i64, ptr %factor_at
  br label %loop
loop:
  %p = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %at = getelementptr i64, ptr %array, i64 %p
  %old = load i64, ptr %at
  %scaled = mul i64 %old, %factor
  %new = add i64 %scaled, %p
  store i64 %new, ptr %at
  %next = add i64 %p, 1
  %more = icmp ult i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}

; slots: from, to, count. Program p stores the sum of all of `from` to to[p]: right only if the launch before is complete.
define void @total(ptr %slots, i64 %begin, i64 %end) {
entry:
  %from = load ptr, ptr %slots
  %to_at = getelementptr i64, ptr %slots, i64 1
  %to = load ptr, ptr %to_at
  %count_at = getelementptr i64, ptr %slots, i64 2
  %count = load i64, ptr %count_at
  br label %program
program:
  %p = phi i64 [ %begin, %entry ], [ %p_next, %store ]
  br label %loop
loop:
  %i = phi i64 [ 0, %program ], [ %i_next, %loop ]
  %sum = phi i64 [ 0, %program ], [ %sum_next, %loop ]
  %at = getelementptr i64, ptr %from, i64 %i
  %x = load i64, ptr %at
  %sum_next = add i64 %sum, %x
  %i_next = add i64 %i, 1
  %more = icmp ult i64 %i_next, %count
  br i1 %more, label %loop, label %store
store:
  %out = getelementptr i64, ptr %to, i64 %p
  store i64 %sum_next, ptr %out
  %p_next = add i64 %p, 1
  %again = icmp ult i64 %p_next, %end
  br i1 %again, label %program, label %done
done:
  ret void
}
"""


@pytest.fixture(scope="module")
def code():
    return load(object_code(STEP, lambda: STEP, target(), None), ("step", "total"))


@pytest.fixture(params=[1, 2, 3, 8])
def pool(request):
    pool = Pool(request.param)
    yield pool
    pool.close()


@pytest.mark.parametrize("programs", [0, 1, 2, 7, 64, 1000])
def test_every_program_runs_once_in_every_launch(code, pool, programs):
    array = np.zeros(max(1, programs), np.int64)
    recording = Recording()
    for _ in range(20):
        recording.add(code["step"], [array.ctypes.data, 3], programs)
    for _ in range(10):
        pool.replay(recording)
    expected = np.zeros_like(array)
    for _ in range(200):
        expected = expected * 3 + np.arange(len(array))
    np.testing.assert_array_equal(array[:programs], expected[:programs])


def test_a_launch_sees_all_that_earlier_ones_wrote(code, pool):
    a, b = np.ones(37, np.int64), np.zeros(37, np.int64)
    recording = Recording()
    for _ in range(30):
        recording.add(code["total"], [a.ctypes.data, b.ctypes.data, 37], 37)
        recording.add(code["total"], [b.ctypes.data, a.ctypes.data, 37], 37)
        recording.add(code["step"], [a.ctypes.data, 0], 37)  # keeps the numbers small
        recording.add(code["step"], [b.ctypes.data, 0], 37)
    for _ in range(20):
        pool.replay(recording)
    np.testing.assert_array_equal(a, np.arange(37))
    check = Recording()
    check.add(code["total"], [a.ctypes.data, b.ctypes.data, 37], 37)
    pool.replay(check)
    np.testing.assert_array_equal(b, np.full(37, 37 * 36 // 2))


def test_independent_launches_all_complete_before_the_next(code, pool):
    arrays = [np.zeros(50, np.int64) for _ in range(4)]
    out = np.zeros(4, np.int64)
    recording = Recording()
    for i, array in enumerate(arrays):
        recording.add(code["step"], [array.ctypes.data, 1], 50, independent=i > 0)
    for i, array in enumerate(arrays):
        recording.add(code["total"], [array.ctypes.data, out[i:].ctypes.data, 50], 1, independent=i > 0)
    for round_ in range(1, 200):
        pool.replay(recording)
        np.testing.assert_array_equal(out, np.full(4, round_ * 50 * 49 // 2))


def test_slots_and_sizes_may_change_between_replays(code, pool):
    array = np.zeros(10, np.int64)
    recording = Recording()
    position = recording.add(code["step"], [array.ctypes.data, 1], 10)
    pool.replay(recording)
    recording.slots(position)[1] = 0
    recording.set_programs(position, 5)
    pool.replay(recording)
    np.testing.assert_array_equal(array, np.arange(10))
    recording.slots(position)[1] = 2
    recording.set_programs(position, 10)
    pool.replay(recording)
    np.testing.assert_array_equal(array, 3 * np.arange(10))


def test_threads_of_the_caller_take_turns(code, pool):
    arrays = [np.zeros(100, np.int64) for _ in range(4)]

    def work(array):
        recording = Recording()
        for _ in range(50):
            recording.add(code["step"], [array.ctypes.data, 1], 100)
        for _ in range(20):
            pool.replay(recording)

    threads = [threading.Thread(target=work, args=(array,)) for array in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for array in arrays:
        np.testing.assert_array_equal(array, 1000 * np.arange(100))


def test_an_idle_pool_sleeps_and_wakes(code):
    pool = Pool(2)
    array = np.zeros(64, np.int64)
    recording = Recording()
    recording.add(code["step"], [array.ctypes.data, 1], 64)
    pool.replay(recording)
    asleep = np.frombuffer(pool._state, np.int32)[3:4]
    limit = time.monotonic() + 60  # it spins first, and the machine may be busy with something else
    while asleep[0] != 1:
        assert time.monotonic() < limit
        time.sleep(0.001)
    pool.replay(recording)
    np.testing.assert_array_equal(array, 2 * np.arange(64))
    pool.close()


def test_results_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 300), np.float32), rng.standard_normal((70, 300), np.float32)
    kernels = [
        compile(linear.linear_vector.lower({"BN": 8}, {"W": zl.f32}), {"K": 300}, cache=None),
        compile(linear.linear_matrix.lower({"BM": 4, "BN": 16}, {"W": zl.f32}), {"K": 300}, cache=None),
    ]
    dims = {"T": 5, "N": 70}
    for kernel in kernels:
        bits = set()
        for threads in (1, 2, 5):
            pool, y = Pool(threads), np.zeros((5, 70), np.float32)
            addresses = {"x": x.ctypes.data, "w": w.ctypes.data, "y": y.ctypes.data}
            pool.launch(kernel.entry_address, kernel.pack(addresses, dims), kernel.num_programs(dims))
            pool.close()
            bits.add(y.tobytes())
        assert len(bits) == 1


def test_too_many_programs_are_refused():
    with pytest.raises(ValueError, match="2\\*\\*31"):
        Recording().add(0, [], 2**31)


def test_a_forked_child_makes_a_pool_of_its_own(code):
    from zellige.backends.cpu.pool import default_pool

    array = np.zeros(64, np.int64)
    default_pool().launch(code["step"], [array.ctypes.data, 1], 64)
    child = os.fork()
    if child == 0:
        default_pool().launch(code["step"], [array.ctypes.data, 1], 64)
        os._exit(0 if (array == 2 * np.arange(64)).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
