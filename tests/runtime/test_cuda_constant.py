"""Which inputs of a recorded launch may be read before the wait for the launches in flight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zellige as zl
from zellige import f32
from zellige.runtime.cuda import tuned
from zellige.runtime.cuda.array import DeviceArray
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.prepared import Earlier, constant_inputs
from zellige.runtime.cuda.sequence import SequenceExecutor
from zellige.runtime.tensor import Tensor

M = zl.dims("M")


@zl.kernel
def add(x: zl.In[f32, M], w: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i] + w[i]


def at(address: int) -> Tensor:
    """Four floats of device memory that starts at ``address``."""
    executor = CudaExecutor(None, "sm_90")
    return Tensor(DeviceArray(executor, None, address, (4,), np.dtype(np.float32)), f32, (4,))


@pytest.mark.parametrize(
    ("written", "constant"),
    [
        ((), {"x", "w"}),
        (((1000, 1016),), {"w"}),
        (((1012, 1020),), {"w"}),  # the last element of x, from inside
        (((990, 1001),), {"w"}),
        (((900, 1000), (1016, 2000)), {"x"}),  # both sides of x and not x itself; all of w
    ],
)
def test_an_input_that_overlaps_what_is_written_is_not_constant(written, constant):
    tensors = {"x": at(1000), "w": at(1500), "y": at(5000)}
    assert constant_inputs(add.lower({}, {}), tensors, written) == constant


class Recorder(SequenceExecutor):
    """Records launches; compiles nothing."""

    def finish(self, recording):
        pass


def test_what_an_earlier_launch_writes_is_not_constant_and_what_a_later_one_writes_is():
    executor = CudaExecutor(None, "sm_90")
    x, w, held, y = (executor.tensor(np.ones(4, np.float32), f32) for _ in range(4))
    with zl.using(Recorder(executor)), zl.record() as graph:
        add(x, w, y=y)
        add(y, held, y=x)  # reads y, which was written; held is written by the next one only
        add(w, x, y=held)
        add(held, w, y=y)
    earlier, found = Earlier(), []
    for launch in graph._recording.launches:
        found.append(constant_inputs(launch.instance.function, launch.binding.tensors, earlier.written))
        earlier.add(launch)
    assert found == [{"x", "w"}, {"w"}, {"x"}, {"w"}]


def test_what_a_launch_wrote_is_in_flight_until_one_that_holds_back_has_come_after_it():
    """The launch behind one that holds starts when all before that one have ended; those behind it, too."""
    executor = CudaExecutor(None, "sm_90")
    x, w, held, y = (executor.tensor(np.ones(4, np.float32), f32) for _ in range(4))
    with zl.using(Recorder(executor)), zl.record() as graph:
        add(x, x, y=w)
        add(x, x, y=held)
        add(w, held, y=y)
    first, second, third = graph._recording.launches
    function, tensors = third.instance.function, third.binding.tensors

    def constant(*holding):
        earlier = Earlier()
        for launch in (first, second):
            earlier.add(launch, holds=launch in holding)
        assert constant_inputs(function, tensors, earlier.written) == set()
        return constant_inputs(function, tensors, earlier.in_flight)

    assert constant() == set()
    assert constant(second) == {"x"}, "what the first wrote, and not what the second one writes"
    assert constant(first) == set(), "the first may still run: it has only started when those before it had ended"
    assert constant(first, second) == {"x"}


@pytest.mark.parametrize("holds", [False, True])
def test_a_recorded_launch_reads_early_what_was_there_before_the_one_that_holds(holds, monkeypatch):
    """And past the first cache, since it was written since the recording began; a launch without programs holds nothing back."""
    chosen = tuned.options
    monkeypatch.setattr(tuned, "options", lambda *given, **how: replace(chosen(*given, **how), holds=holds))
    executor = CudaExecutor(None, "sm_90")
    x, w, held, y, z = (executor.tensor(np.ones(4, np.float32), f32) for _ in range(5))
    none, empty = (executor.tensor(np.ones(0, np.float32), f32) for _ in range(2))
    compiled = []
    scheduled = executor._scheduled

    def kept(*given):
        compiled.append(scheduled(*given))
        return compiled[-1]

    monkeypatch.setattr(executor, "_scheduled", kept)
    with zl.using(executor), zl.record():
        add(x, x, y=w)
        add(x, x, y=held)
        add(w, held, y=y)
        add(none, none, y=empty)
        add(y, x, y=z)
    found = [(set(kernel.options.constant), set(kernel.options.fresh)) for kernel in compiled]
    both = ({"x", "w"}, set())
    early = ({"x"}, {"x"}) if holds else (set(), set())
    assert found == [both, both, early, both, ({"w"}, set())]
    assert [kernel.holds for kernel in compiled] == [holds, holds, holds, False, holds]


def endings(holds, work):
    """When launches start at the earliest, and end, under PDL as NVIDIA describes it: a launch starts when all programs of the one in
    front have let it, which they do when they start or, if they hold, after their wait, or have ended; a wait is over when the one in
    front has ended, and with it all before. ``work``: of each launch the time of a program before its wait and after it."""
    started, ended, let = [], [], 0
    for n, (before, after) in enumerate(work):
        started.append(let)
        waited = max(started[n] + before, ended[n - 1] if n else 0)
        ended.append(waited + after)
        let = waited if holds[n] else started[n]
    return started, ended


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 9), st.lists(st.integers(0, 4), min_size=3, max_size=3)),
        min_size=2, max_size=9,
    )
)  # fmt: skip
def test_no_timing_lets_an_early_read_meet_a_write(drawn):
    """Whatever takes how long: what a launch may read early is nothing that an earlier one may still write."""
    executor = CudaExecutor(None, "sm_90")
    arrays = [executor.tensor(np.ones(4, np.float32), f32) for _ in range(5)]
    with zl.using(Recorder(executor)), zl.record() as graph:
        drawn = [d for d in drawn if d[3][2] not in d[3][:2]]
        for *_, (x, w, y) in drawn:
            add(arrays[x], arrays[w], y=arrays[y])
    started, ended = endings([d[0] for d in drawn], [d[1:3] for d in drawn])
    earlier = Earlier()
    for n, (launch, (holds, _, _, (x, w, _))) in enumerate(zip(graph._recording.launches, drawn, strict=True)):
        constant = constant_inputs(launch.instance.function, launch.binding.tensors, earlier.in_flight)
        for name, which in (("x", x), ("w", w)):
            writers = [m for m in range(n) if drawn[m][3][2] == which]
            if name in constant:
                assert all(ended[m] <= started[n] for m in writers)
            elif writers:  # and nothing is held back for no reason: some timing would let them meet
                since = max([m for m in range(n) if drawn[m][0]], default=0)
                assert max(writers) >= since
        earlier.add(launch, holds=holds)
