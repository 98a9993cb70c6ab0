"""Recorded launches as one kernel: what waits for what, and that it is enough, without a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.runtime.cuda.simulated import simulated

import zellige as zl
from zellige import f32
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.parameters import parameters
from zellige.backends.cuda.sequence import BEGIN
from zellige.backends.reference.interpreter import Interpreter
from zellige.diagnostics.errors import ZelligeError
from zellige.ir.ops import Function
from zellige.runtime.cuda.array import DeviceArray
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.launch import _SCALARS
from zellige.runtime.cuda.prepared import PreparedLaunch, memory_range, overlap
from zellige.runtime.cuda.sequence import (
    Form,
    Plan,
    SequenceExecutor,
    SequenceLaunch,
    _word,
    check_resident,
    make_plan,
    resident,
)
from zellige.runtime.tensor import Tensor

N, M, V = zl.dims("N M V")
BASE = 1 << 20
"""Where the executor's made-up addresses begin."""
PROGRAMS = 3


@zl.kernel
def twice(x: zl.In[f32, N], *, y: zl.Out[f32, N], BN: zl.Static = 2):
    i = zl.grid(N.tiles(BN))
    y[i] = x[i] * 2.0


@zl.kernel
def totals(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = zl.sum(x[:]) + i.to(f32)


@zl.kernel
def add(x: zl.In[f32, N], *, y: zl.Mut[f32, N]):
    i = zl.grid(N)
    y[i] = y[i] + x[i]


class Recorder(SequenceExecutor):
    """Records and plans; compiles nothing."""

    def finish(self, recording: Any) -> None:
        recording.plan = make_plan(recording.launches, self.form)


def planned(record: Callable[[Callable[[int], Tensor]], None]) -> tuple[Plan, CudaExecutor]:
    """The plan of what ``record`` launches; it gets a function that makes written tensors of f32."""
    executor = CudaExecutor(None, "sm_90")

    def tensor(size: int) -> Tensor:
        return executor.tensor(np.ones(size, np.float32), f32)

    with zl.using(Recorder(executor)), zl.record() as graph:
        record(tensor)
    return graph._recording.plan, executor


def part_of(whole: Tensor, start: int, size: int) -> Tensor:
    """Elements of a tensor on the device as a tensor of its own."""
    held = whole.storage
    return Tensor(DeviceArray(held.executor, None, held.address + 4 * start, (size,), held.dtype), f32, (size,))


# --- what waits for what
def test_a_launch_waits_for_the_one_that_writes_what_it_reads() -> None:
    def chain(tensor: Callable[[int], Tensor]) -> None:
        a = twice(tensor(8))
        b = twice(a)
        twice(b)

    assert planned(chain)[0].waits == ((), (0,), (1,)), "and not again for what that one has waited for"


def test_launches_that_share_only_what_they_read_do_not_wait() -> None:
    def fan(tensor: Callable[[int], Tensor]) -> None:
        x = tensor(8)
        a, b = twice(x), twice(x)
        add(a, y=b)

    assert planned(fan)[0].waits == ((), (), (1, 0))


def test_memory_is_written_again_only_after_everybody_has_read_it() -> None:
    def reuse(tensor: Callable[[int], Tensor]) -> None:
        x, y, z = tensor(8), tensor(8), tensor(8)
        twice(x, y=y)
        twice(y, y=z)
        twice(x, y=y)

    assert planned(reuse)[0].waits == ((), (0,), (1,))


def test_what_is_written_last_stays() -> None:
    def twofold(tensor: Callable[[int], Tensor]) -> None:
        y = tensor(8)
        twice(tensor(8), y=y)
        totals(tensor(8), y=y)

    assert planned(twofold)[0].waits == ((), (0,))


def test_parts_of_one_tensor_that_do_not_overlap_are_apart() -> None:
    def parts(tensor: Callable[[int], Tensor]) -> None:
        x, whole = tensor(8), tensor(16)
        twice(x, y=part_of(whole, 0, 8))
        twice(x, y=part_of(whole, 8, 8))
        twice(part_of(whole, 4, 8))

    assert planned(parts)[0].waits == ((), (), (1, 0))


def test_a_launch_without_programs_is_left_out() -> None:
    def nothing(tensor: Callable[[int], Tensor]) -> None:
        twice(tensor(8))
        twice(tensor(0))

    plan, _ = planned(nothing)
    assert len(plan.launches) == 1


# --- that it is enough: programs in any order that the waits permit
def arrays_of(launch: PreparedLaunch, memory: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for name, held in launch.binding.tensors.items():
        start, dtype = held.storage.address - BASE, np.dtype(held.storage.dtype)
        found[name] = memory[start : start + held.storage.nbytes].view(dtype).reshape(held.shape)
    return found


def machine(launch: PreparedLaunch, memory: np.ndarray[Any, Any]) -> Interpreter:
    function: Function = launch.instance.function
    grid = tuple(axis.programs.evaluate(launch.dims) for axis in function.grid)
    return Interpreter(function, launch.dims, arrays_of(launch, memory), {}, grid, None)


def in_order(plan: Plan, memory: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Memory after all launches, one after the other."""
    memory = memory.copy()
    for launch, number in zip(plan.launches, plan.numbers, strict=True):
        run = machine(launch, memory)
        for tile in range(plan.bodies[number].tiles):
            run.run_program(tile)
    return memory


def by_programs(
    plan: Plan, memory: np.ndarray[Any, Any], choose: Callable[[list[tuple[int, int]]], int], waits: Sequence[Any]
) -> np.ndarray[Any, Any]:
    """Memory after three programs have gone through the table as the kernel does; ``choose`` says which of those goes on that
    need not wait, given (launch, program) of each."""
    memory = memory.copy()
    table = plan.table(PROGRAMS)
    reported = [0] * len(plan.launches)
    begins = [int(row[BEGIN]) for row in table]
    at = [(0, (p - begins[0]) % PROGRAMS) for p in range(PROGRAMS)]  # launch, tile

    def settle(p: int) -> None:
        """Passes over launches in which program p has no tile left."""
        while at[p][0] < len(plan.launches) and at[p][1] >= plan.bodies[plan.numbers[at[p][0]]].tiles:
            launch, tile = at[p]
            if tile >= PROGRAMS:
                reported[launch] += 1
            at[p] = (launch + 1, (p - begins[launch + 1]) % PROGRAMS)

    def may_go(p: int) -> bool:
        launch, tile = at[p]
        if launch == len(plan.launches):
            return False
        first = plan.layout.waits_at
        needed = {
            int(table[launch, first + 2 * i]): int(table[launch, first + 2 * i + 1]) for i in range(len(waits[launch]))
        }
        return tile >= PROGRAMS or all(reported[earlier] >= programs for earlier, programs in needed.items())

    for p in range(PROGRAMS):
        settle(p)
    while ready := [(at[p][0], p) for p in range(PROGRAMS) if may_go(p)]:
        p = choose(ready)
        launch, tile = at[p]
        machine(plan.launches[launch], memory).run_program(tile)
        at[p] = (launch, tile + PROGRAMS)
        settle(p)
    assert all(launch == len(plan.launches) for launch, _ in at), "nobody waits for ever"
    return memory


def random_launches(seed: int) -> Callable[[Callable[[int], Tensor]], None]:
    def record(tensor: Callable[[int], Tensor]) -> None:
        rng = np.random.default_rng(seed)
        pool = [tensor(16) for _ in range(4)]

        def part() -> Tensor:
            return part_of(pool[rng.integers(len(pool))], 4 * int(rng.integers(0, 3)), 4 * int(rng.integers(1, 3)))

        launched = 0
        while launched < 12:
            x, y = part(), part()
            if overlap((memory_range(x),), (memory_range(y),)):
                continue
            match rng.integers(3):
                case 0:
                    totals(x, y=y)
                case 1 if x.shape == y.shape:
                    twice(x, y=y)
                case 2 if x.shape == y.shape:
                    add(x, y=y)
                case _:
                    continue
            launched += 1

    return record


def memory_of(executor: CudaExecutor) -> np.ndarray[Any, Any]:
    room = executor.made_up.next - BASE
    return np.arange(1, room // 4 + 1, dtype=np.float32).view(np.uint8)


def furthest(ready: list[tuple[int, int]]) -> int:
    return max(ready)[1]


def holding_back(late: int) -> Callable[[list[tuple[int, int]]], int]:
    """An order in which one program goes on only when no other can."""
    return lambda ready: max(ready, key=lambda at: (at[1] != late, at))[1]


ADVERSE = [furthest, *map(holding_back, range(PROGRAMS))]


@pytest.mark.parametrize("seed", range(12))
def test_any_order_that_the_waits_permit_gives_what_launches_in_order_give(seed: int) -> None:
    plan, executor = planned(random_launches(seed))
    memory = memory_of(executor)
    wanted = in_order(plan, memory)
    rng = np.random.default_rng(seed)
    orders: list[Callable[[list[tuple[int, int]]], int]] = [
        *ADVERSE, lambda ready: min(ready)[1], *[lambda ready: ready[rng.integers(len(ready))][1]] * 6
    ]  # fmt: skip
    for choose in orders:
        np.testing.assert_array_equal(by_programs(plan, memory, choose, plan.waits), wanted)


def test_without_its_waits_a_sequence_goes_wrong() -> None:
    wrong = 0
    for seed in range(12):
        plan, executor = planned(random_launches(seed))
        memory = memory_of(executor)
        got = by_programs(plan, memory, furthest, [()] * len(plan.launches))
        wrong += not np.array_equal(got, in_order(plan, memory))
    assert wrong >= 10


# --- the table
def test_each_kernel_is_written_once_however_often_it_is_launched() -> None:
    def layers(tensor: Callable[[int], Tensor]) -> None:
        h, x = tensor(8), tensor(8)
        twice(tensor(8), y=x)
        for _ in range(5):
            add(x, y=h)
            totals(h, y=x)

    plan, _ = planned(layers)
    assert [body.name for body in plan.bodies] == ["twice_0", "add_1", "totals_2"]
    assert plan.numbers == (0, *(1, 2) * 5)


def test_a_row_holds_addresses_scalars_and_who_reports() -> None:
    @zl.kernel
    def scaled(x: zl.In[f32, N], factor: f32, *, y: zl.Out[f32, N]):
        i = zl.grid(N)
        y[i] = x[i] * factor

    def two(tensor: Callable[[int], Tensor]) -> None:
        x, y, z = tensor(2), tensor(2), tensor(8)
        scaled(x, -1.5, y=y)
        totals(y, y=z)

    plan, _ = planned(two)
    table, layout = plan.table(PROGRAMS), plan.layout
    assert table.shape == (3, layout.words)
    assert not table[2].any(), "the row after the last, which is looked at and not run"
    addresses = [h.storage.address for h in plan.launches[0].binding.held]
    got = table[0, layout.arguments_at : layout.arguments_at + 3]
    assert list(got[:2]) == addresses
    assert got[2:].view(np.int32)[0] == np.float32(-1.5).view(np.int32)
    assert list(table[1, layout.waits_at : layout.waits_at + 2]) == [0, 2], (
        "two programs have tiles of the first launch"
    )
    assert list(plan.table(1)[1, layout.waits_at : layout.waits_at + 2]) == [0, 1]


@zl.kernel
def by_halves(a: zl.f16, b: zl.bf16, c: zl.f8e4m3, d: f32, *, y: zl.Out[f32, 1]):
    i = zl.grid(1)
    y[i] = a.to(f32) + b.to(f32) + c.to(f32) + d


def test_a_float_scalar_is_passed_by_its_bits_however_narrow() -> None:
    """Words of narrow ones were once cut to integers. The host has no f16: a kernel takes an f64, and rounds it."""
    given = {"a": 1.7, "b": -0.3, "c": 1.75, "d": 1e300}
    binding: Any = SimpleNamespace(scalars=given)
    found = parameters(by_halves.lower({}, {}), Options())
    words = {p.name: (p.type, _word(p, binding)) for p in found if p.kind == "scalar"}
    double = {name: int(np.float64(given[name]).view(np.int64)) for name in "abc"}
    assert words == {**{name: ("fp64", double[name]) for name in "abc"}, "d": ("fp32", 0x7F800000)}
    for p in found:
        assert p.kind != "scalar" or p.type in _SCALARS


def test_launches_take_turns_among_the_programs() -> None:
    """Each begins with the program after the last one of the launch before."""

    def three(tensor: Callable[[int], Tensor]) -> None:
        for size in (8, 4, 14):  # 4, 2 and 7 programs
            twice(tensor(size))

    assert list(planned(three)[0].table(5)[:3, BEGIN]) == [0, 4, 1]


# --- refusals
def test_a_kernel_with_a_guard_is_refused() -> None:
    @zl.kernel
    def guarded(at: zl.In[zl.i32, N], x: zl.In[f32, V], *, y: zl.Out[f32, N]):
        i = zl.grid(N)
        y[i] = x[zl.guard(at[i], below=V)]

    def record(tensor: Callable[[int], Tensor]) -> None:
        at = tensor(4).memory and CudaExecutor(None, "sm_90").tensor(np.zeros(4, np.int32), zl.i32)
        guarded(at, tensor(8))

    with pytest.raises(ZelligeError) as caught:
        planned(record)
    assert caught.value.code == "ZL0908"
    assert "guard" in caught.value.message


def test_an_array_with_gaps_is_refused() -> None:
    with pytest.raises(ZelligeError) as caught:
        planned(lambda tensor: twice(tensor(8)[::2]))
    assert caught.value.code == "ZL0908" and "gaps" in caught.value.message
    assert planned(lambda tensor: twice(tensor(8)[4:]))[0].launches


def test_backends_without_this_form_say_so() -> None:
    with pytest.raises(ZelligeError) as caught, zl.using("cpu"), zl.record(form="persistent"):
        pass
    assert caught.value.code == "ZL0521"


@pytest.mark.parametrize("change", [lambda g: g.resize(N=4), lambda g: g.set_scalars("twice", factor=2.0)])
def test_sizes_and_scalars_of_a_graph_on_the_gpu_are_fixed(change: Callable[[Any], None]) -> None:
    executor = CudaExecutor(None, "sm_90")
    x = executor.tensor(np.ones(8, np.float32), f32)
    with zl.using(Recorder(executor)), zl.record() as graph:
        twice(x)
    with pytest.raises(ZelligeError) as caught:
        change(graph)
    assert caught.value.code == "ZL0521"


def test_more_programs_than_run_at_once_are_refused() -> None:
    from zellige.backends.cuda.compiler import CompiledKernel
    from zellige.backends.cuda.options import Options
    from zellige.ir.extent import Const

    def kernel(registers: int, warps: int, shared: int) -> CompiledKernel:
        return CompiledKernel(
            "k", "sm_90", b"", "", "", (), Const(1), (), Options(), warps, shared, 0, registers, 0
        )  # fmt: skip

    assert [resident(kernel(*x)) for x in ((128, 8, 0), (129, 8, 0), (255, 8, 0), (32, 8, 0), (32, 4, 120 << 10))] == [
        2,
        1,
        1,
        8,
        1,
    ]
    check_resident(kernel(128, 8, 0), 2, 2)
    with pytest.raises(ZelligeError) as caught:
        check_resident(kernel(128, 8, 0), 3, 2)
    assert caught.value.code == "ZL0526"


def test_there_are_as_many_programs_as_there_is_room_for() -> None:
    for wanted, fit in ((3, 2), (1, 1)):
        executor = SequenceExecutor(CudaExecutor(None, "sm_90"), Form(warps=32, programs=wanted))
        x = executor.tensor(np.ones(8, np.float32), f32)
        with zl.using(executor), zl.record() as graph:
            twice(x)
        recording: Any = graph._recording
        assert recording.programs == fit
        assert resident(recording.kernel) >= fit


def test_what_the_kernel_uses_of_its_own_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table and the counters go with the graph, maybe before a replay has ended: who gets their memory runs after it."""
    with simulated(0) as first:
        first.beside()  # or nothing is entered
        executor = SequenceExecutor(first)
        table, counters = first.empty((8,), f32), first.empty((8,), f32)
        run = SequenceLaunch(SimpleNamespace(on=lambda _: None), ctypes.c_int32(0), None, table, counters)  # type: ignore[arg-type]
        monkeypatch.setattr(SequenceExecutor, "_compiled", lambda *_: (None, 1))
        monkeypatch.setattr(SequenceExecutor, "_prepared", lambda *_: run)
        x = first.tensor(np.ones(8, np.float32), f32)
        with zl.using(executor), zl.record() as graph:
            twice(x)
        given = first.queue.given
        graph.replay()
        readers, writer = table.storage.memory.users.readers, counters.storage.memory.users.writer
        assert readers[first.queue] > given and writer is not None and writer[1] > given


def test_a_launch_that_fails_does_not_count_as_a_replay() -> None:
    """Or the next one would wait for reports that nobody made."""
    replay, seen = ctypes.c_int32(0), []

    def call(stream: int) -> None:
        seen.append((stream, replay.value))
        if len(seen) == 2:
            raise ZelligeError("ZL0517", "no")

    launch, stream = (
        SequenceLaunch(SimpleNamespace(on=lambda s: call(s.handle)), replay, *[None] * 3),
        SimpleNamespace(handle=7),
    )
    launch(stream)
    with pytest.raises(ZelligeError):
        launch(stream)
    launch(stream)
    assert seen == [(7, 1), (7, 2), (7, 2)]
