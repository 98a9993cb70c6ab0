"""Streams of one GPU: whatever the GPU does first, results are those of the calls done one after the other."""

from __future__ import annotations

import gc
import threading
import weakref
from random import Random
from typing import Any

import numpy as np
import pytest
from tests.runtime.cuda.simulated import Gpu, filled, on_host, simulated
from tests.runtime.kernels import add_one, double, ints, scale_add, take, total

import zellige as zl
from zellige import ZelligeError, i32
from zellige.runtime import admission
from zellige.runtime.cuda import launch as launch_module
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.memory import Allocator, Block, BorrowedBlock, Piece
from zellige.runtime.cuda.order import Outside, Queue, Users

SIZE = 6


class Program:
    """Calls drawn at random on three streams, beside the same in NumPy."""

    def __init__(self, first: CudaExecutor, seed: int) -> None:
        self.random = Random(seed)
        self.streams: list[Any] = [first, first.beside(), first.beside()]
        self.values = [ints(*(self.random.randrange(100) for _ in range(SIZE))) for _ in range(5)]
        self.tensors = [self.random.choice(self.streams).tensor(values, i32) for values in self.values]
        self.fetched: list[tuple[Any, Any]] = []
        with zl.using(self.random.choice(self.streams)), zl.record() as self.graph:
            scale_add(self.tensors[0], 3, y=self.tensors[1])
            add_one(y=self.tensors[0])

    def step(self) -> None:
        """One call."""
        draw = self.random
        a, b = draw.sample(range(5), 2)
        stream = draw.choice(self.streams)
        with zl.using(stream):
            match draw.choice((0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 9)):
                case 0:
                    scale_add(self.tensors[a], 5, y=self.tensors[b])
                    self.values[b] = self.values[b] * 3 + self.values[a] * 5
                case 1 if b > 1:  # the old tensor goes, and its memory to whoever asks next
                    self.tensors[b] = double(self.tensors[a])
                    self.values[b] = self.values[a] * 2
                case 2:
                    part = slice(draw.randrange(3), SIZE, draw.choice((1, 2)))
                    add_one(y=self.tensors[a][part])
                    self.values[a] = self.values[a].copy()
                    self.values[a][part] += 1
                case 3:
                    self.values[a] = ints(*(draw.randrange(100) for _ in range(SIZE)))
                    self.tensors[a].write(self.values[a])
                case 4:
                    np.testing.assert_array_equal(self.tensors[a].numpy(), self.values[a])
                case 5 if stream is not self.streams[0]:
                    stream.copy(self.tensors[a], self.tensors[b])
                    self.values[b] = self.values[a]
                case 6:
                    self.fetched.append((stream.fetch(self.tensors[a]), self.values[a]))
                case 7 if b > 1:
                    self.tensors[b] = stream.zeros((SIZE,), i32)
                    self.values[b] = ints(*[0] * SIZE)
                case 9 if b > 1:  # made for one stream, and written on another
                    self.tensors[b] = draw.choice(self.streams).empty((SIZE,), i32)
                    double(self.tensors[a], y=self.tensors[b])
                    self.values[b] = self.values[a] * 2
                case 8:
                    self.graph.replay()
                    self.values[1] = self.values[1] * 3 + self.values[0] * 3
                    self.values[0] = self.values[0] + 1

    def run(self, steps: int) -> None:
        """Many calls; then everything is read."""
        for _ in range(steps):
            self.step()
        for wait, values in self.fetched:
            np.testing.assert_array_equal(wait(), values)
        for tensor, values in zip(self.tensors, self.values, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), values)


@pytest.mark.parametrize("seed", range(30))
def test_random_calls_on_three_streams_give_what_they_give_one_after_the_other(seed: int) -> None:
    with simulated(seed) as first:
        Program(first, seed).run(40)


def _wrong_results(seeds: range) -> int:
    found = 0
    for seed in seeds:
        with simulated(seed) as first:
            try:
                Program(first, seed).run(40)
            except AssertionError:
                found += 1
    return found


@pytest.mark.parametrize("forgotten", [False, True], ids=["shared", "exclusive"])
def test_without_a_wait_there_are_draws_with_other_results(forgotten: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail."""
    admit = Users.admit

    def without(self: Users, queue: Any, *, exclusive: bool) -> None:
        if exclusive != forgotten:
            admit(self, queue, exclusive=exclusive)

    monkeypatch.setattr(Users, "admit", without)
    assert _wrong_results(range(20)) > 0


def _read_elsewhere_and_freed(seed: int) -> bool:
    """Whether what another stream reads of a tensor is what it held before it was freed, and its memory cleared."""
    with simulated(seed) as first:
        x, y = first.tensor(ints(1, 2, 3), i32), first.empty((3,), i32)
        address = x.address
        with zl.using(first.beside()):
            double(first.zeros((3,), i32), y=first.empty((3,), i32))  # the plan keeps the first arguments
            double(x, y=y)
        del x
        assert first.zeros((3,), i32).address == address
        return bool((y.numpy() == [2, 4, 6]).all())


def test_freed_memory_is_given_out_again_after_its_users_on_other_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(map(_read_elsewhere_and_freed, range(20)))
    monkeypatch.setattr(Block, "__del__", _forgetting)
    assert not all(map(_read_elsewhere_and_freed, range(20)))


def _forgetting(block: Block) -> None:
    block.piece.users = Users()
    block.piece.free.append(block.piece)


def test_memory_made_for_one_stream_and_used_on_another_is_free_of_its_last_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def right(seed: int) -> bool:
        with simulated(seed) as first:
            second, third = first.beside(), first.beside()
            x, y = first.tensor(ints(1, 2, 3), i32), first.empty((3,), i32)
            with zl.using(second):
                double(first.zeros((3,), i32), y=first.empty((3,), i32))
                double(x, y=y)
            with zl.using(third):
                double(first.zeros((3,), i32), y=first.empty((3,), i32))
            address = x.address
            del x
            reused = first.empty((3,), i32)
            assert reused.address == address
            with zl.using(third):
                double(third.zeros((3,), i32), y=reused)
            return bool((y.numpy() == [2, 4, 6]).all())

    assert all(map(right, range(20)))
    monkeypatch.setattr(Block, "__del__", _forgetting)
    assert not all(map(right, range(100)))


def test_new_memory_is_used_on_other_streams_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver gives memory in the order of a stream."""

    def right(seed: int) -> bool:
        with simulated(seed) as first:
            other = first.beside()
            x = other.tensor(ints(1, 2, 3), i32)
            with zl.using(other):
                double(x, y=other.empty((3,), i32))
                first.device.synchronise()  # type: ignore[union-attr]
                y = first.empty((3,), i32)
                double(x, y=y)
            return bool((y.numpy() == [2, 4, 6]).all())

    assert all(map(right, range(20)))
    taken = Allocator.taken

    def without(self: Allocator, size: int, queue: Queue) -> Piece:
        piece = taken(self, size, queue)
        piece.users = Users()
        return piece

    monkeypatch.setattr(Allocator, "taken", without)
    assert not all(map(right, range(20)))


def test_one_stream_enters_nothing() -> None:
    with simulated(0) as first, zl.using(first):
        y = double(first.tensor(ints(1, 2, 3), i32))
        assert y.storage.memory.users.writer is None and first.queue.given == 0
        np.testing.assert_array_equal(y.numpy(), [2, 4, 6])


def test_a_second_stream_runs_after_what_nobody_had_entered() -> None:
    for seed in range(10):
        with simulated(seed) as first:
            with zl.using(first):
                y = first.tensor(ints(1, 2, 3), i32)
                for _ in range(5):
                    add_one(y=y)
            with zl.using(first.beside()):
                np.testing.assert_array_equal(double(y).numpy(), [12, 14, 16])


def test_two_readers_do_not_wait_for_each_other() -> None:
    with simulated(0) as first:
        other = first.beside()
        x, y, z = first.tensor(ints(1, 2, 3), i32), first.empty((3,), i32), first.empty((3,), i32)
        with zl.using(other):
            double(x, y=y)
        waited = list(first.stream.last)
        with zl.using(first):
            double(x, y=z)
        assert first.stream.last[0].before == waited


def test_a_contract_is_checked_and_relied_on_in_one_step() -> None:
    """What another thread writes between the check of a contract and the launch would be read unchecked."""
    with simulated(0) as first, zl.using(first):
        x, at = first.tensor(ints(5, 6, 7), i32), first.tensor(ints(0, 1, 2), i32)
        asked, went_on = threading.Event(), threading.Event()
        download = CudaExecutor.download

        def slow(self: CudaExecutor, source: Any) -> Any:
            values = download(self, source)
            asked.set()
            went_on.wait(0.2)  # the other thread may write now, if nothing keeps it from that
            return values

        def write() -> None:
            asked.wait()
            with zl.using(first):
                scale_add(x, 100, y=at)
            went_on.set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CudaExecutor, "download", slow)
            other = threading.Thread(target=write)
            other.start()
            y = take(x, at)
            other.join()
        np.testing.assert_array_equal(y.numpy(), [5, 6, 7])
        with pytest.raises(ZelligeError, match="ZL0505"):
            take(x, at)


def test_a_graph_checks_and_relies_on_a_contract_in_one_step() -> None:
    with simulated(0) as first, zl.using(first):
        x, at = first.tensor(ints(5, 6, 7), i32), first.tensor(ints(0, 1, 2), i32)
        with zl.record() as graph:
            y = take(x, at)
        at.write(ints(2, 1, 0))
        with first.order.lock:
            done = threading.Thread(target=graph.replay)
            done.start()
            done.join(0.05)
            assert done.is_alive(), "a replay waits for its turn"
        done.join()
        np.testing.assert_array_equal(y.numpy(), [7, 6, 5])


@pytest.mark.parametrize("use", ["numpy", "write", "record"])
def test_a_replay_and_the_hosts_uses_of_a_tensor_wait_for_each_other_in_one_order(use: str) -> None:
    with simulated(0) as first, zl.using(first):
        x, at, y = (first.tensor(ints(*values), i32) for values in ((5, 6, 7), (0, 0, 1), (0, 0, 0)))
        with zl.record():
            take(x, first.tensor(ints(0, 0, 1), i32), y=y)  # lowered and proved
        with zl.record() as graph:
            add_one(y=at)

        def host() -> None:
            with zl.using(first):
                if use == "numpy":
                    at.numpy()
                elif use == "write":
                    at.write(ints(0, 1, 2))
                else:
                    with zl.record():
                        take(x, at, y=y)

        def replay() -> None:
            with first.order.lock:
                threads[1].start()
                threads[1].join(0.05)  # now the other thread waits for its turn
                graph.replay()

        threads = [threading.Thread(target=run, daemon=True) for run in (replay, host)]
        threads[0].start()
        threads[0].join(20)
        assert not threads[0].is_alive(), "the replay waits for who waits for it"
        threads[1].join(20)
        assert not threads[1].is_alive()


# --- memory that others have
def _shared(first: CudaExecutor, values: Any, stream: Any = None) -> zl.Tensor:
    """A tensor over memory that others use, as ``foreign.borrow`` makes it."""
    first.order.let_others_in()
    made = first.tensor(values, i32)
    block = made.storage.memory
    users = Users(Outside(first.device, first.order.outsiders, lambda: True, stream))
    made.storage.memory = BorrowedBlock(block, block.address, block.size, users)
    first.device.synchronise()  # type: ignore[union-attr]
    return zl.Tensor(made.storage, i32, made.shape, borrowed=True)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("named", [False, True])
def test_memory_of_others_is_used_after_their_work_and_before_what_they_do_next(seed: int, named: bool) -> None:
    with simulated(seed) as first:
        theirs: Any = first.device.stream()  # type: ignore[union-attr]
        tensor = _shared(first, ints(1, 2, 3), theirs if named else None)
        values = on_host(tensor.storage)
        streams = [first, first.beside()]
        for turn in range(4):
            theirs.give(lambda: values.__imul__(10))
            with zl.using(streams[turn % 2]):
                add_one(y=tensor)
            theirs.give(lambda: values.__iadd__(5))
        theirs.sync()
        expected = ints(1, 2, 3)
        for _ in range(4):
            expected = expected * 10 + 1 + 5
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("part", [slice(None), slice(None, None, 2), slice(None, None, -1)])
def test_what_was_checked_of_memory_of_others_is_what_a_launch_reads(
    part: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with simulated(5) as first, zl.using(first):
        x = first.tensor(ints(5, 6, 7), i32)
        at = _shared(first, ints(2, 0, 1))
        values = on_host(at.storage)
        _then_written(values, monkeypatch)
        for _ in range(2):
            values[:] = 2, 0, 1
            np.testing.assert_array_equal(take(x, at[part]).numpy(), ints(7, 5, 6)[part])
            with pytest.raises(ZelligeError, match="ZL0505"):
                take(x, at[part])


def _then_written(values: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indices are written by their owner as soon as they have been looked at."""
    broken = admission.broken

    def then_written(fact: Any, seen: Any) -> Any:
        problem = broken(fact, seen)
        values[:] = 10**6
        return problem

    monkeypatch.setattr(admission, "broken", then_written)


@pytest.mark.parametrize("part", [slice(None), slice(None, None, 2), slice(None, None, -1)])
@pytest.mark.parametrize("seed", range(5))
def test_what_a_replay_has_checked_of_memory_of_others_is_what_it_reads(
    part: slice, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with simulated(seed) as first, zl.using(first):
        x = first.tensor(ints(5, 6, 7), i32)
        at = _shared(first, ints(2, 0, 1))
        values = on_host(at.storage)
        with zl.record() as graph:
            y = take(x, at[part])
            add_one(y=y)
        _then_written(values, monkeypatch)
        for indices in ([2, 0, 1], [1, 1, 2]):
            values[:] = indices
            graph.replay()
            np.testing.assert_array_equal(y.numpy(), ints(5, 6, 7)[indices][part] + 1)
            with pytest.raises(ZelligeError, match="ZL0505"):
                graph.replay()


@pytest.mark.parametrize("seed", range(5))
def test_a_graph_reads_a_copy_of_what_others_got_after_the_recording(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with simulated(seed) as first, zl.using(first):
        x, at = first.tensor(ints(5, 6, 7), i32), first.tensor(ints(2, 0, 1), i32)
        with zl.record() as graph:
            y = take(x, at)
        graph.replay()
        assert not graph._capture.copies
        first.order.let_others_in()
        at.memory.exports[0] = True  # as ``foreign.export`` notes it
        at.storage.memory.users.outside = Outside(first.device, first.order.outsiders, lambda: bool(at.memory.exports))
        values = on_host(at.storage)
        _then_written(values, monkeypatch)
        for indices in ([2, 0, 1], [1, 1, 2]):
            values[:] = indices
            graph.replay()
            np.testing.assert_array_equal(y.numpy(), ints(5, 6, 7)[indices])
            with pytest.raises(ZelligeError, match="ZL0505"):
                graph.replay()


class Turn:
    """The device's lock; before it is taken for the first time, something else happens."""

    def __init__(self, lock: Any) -> None:
        self.lock, self.happens = lock, lambda: None
        self.release = lock.release

    def acquire(self) -> Any:
        happens, self.happens = self.happens, lambda: None
        happens()
        return self.lock.acquire()

    def __enter__(self) -> Any:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def test_memory_that_others_get_just_before_a_launchs_turn_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated(0) as first, zl.using(first):
        turn: Any = Turn(first.order.lock)
        first.order.lock = turn
        x, at, y = (first.tensor(ints(*values), i32) for values in ((5, 6, 7), (2, 0, 1), (0, 0, 0)))
        take(x, at, y=y)

        def exported() -> None:
            first.order.let_others_in()
            at.memory.exports[0] = True  # as ``foreign.export`` notes it
            users = at.storage.memory.users
            users.outside = Outside(first.device, first.order.outsiders, lambda: bool(at.memory.exports))

        turn.happens = exported
        values = on_host(at.storage)
        first.device.synchronise()  # type: ignore[union-attr]
        _then_written(values, monkeypatch)
        take(x, at, y=y)
        np.testing.assert_array_equal(y.numpy(), [7, 5, 6])
        with pytest.raises(ZelligeError, match="ZL0505"):
            take(x, at, y=y)


def test_two_borrows_of_one_memory_with_streams_of_their_own_are_ordered() -> None:
    for seed in range(20):
        with simulated(seed) as first:
            one = _shared(first, ints(1, 2, 3), first.device.stream())  # type: ignore[union-attr]
            block = one.storage.memory
            users = Users(Outside(first.device, first.order.outsiders, lambda: True, first.device.stream()))  # type: ignore[union-attr]
            two = zl.Tensor.over(one.memory, one.storage[:], i32, one.shape)
            two.storage.memory = BorrowedBlock(block, block.address, block.size, users)
            with zl.using(first):
                add_one(y=one)
            with zl.using(first.beside()):
                scale_add(first.zeros((3,), i32), 0, y=two)
            first.device.synchronise()  # type: ignore[union-attr]
            np.testing.assert_array_equal(on_host(one.storage), [6, 9, 12])


# --- streams as the user has them
def test_a_stream_of_the_gpu_in_use() -> None:
    with simulated(3) as first, zl.using(first):
        x = first.tensor(ints(1, 2, 3), i32)
        with zl.stream() as s:
            y = double(x)
            point = s.event()
        assert s.place == first.place and s.order is first.order
        s.synchronize()
        assert s.done and point.done
        np.testing.assert_array_equal(y.numpy(), [2, 4, 6])
        target = first.empty((3,), i32)
        s.copy(y, target)
        s.copy(ints(7, 8, 9), y)
        np.testing.assert_array_equal(target.numpy(), [2, 4, 6])
        np.testing.assert_array_equal(y.numpy(), [7, 8, 9])
        assert s.copy(y, target).wait() is None


def test_streams_that_are_done_with_go_away() -> None:
    with simulated(3) as first:
        x = first.tensor(ints(1, 2, 3), i32)
        made = []
        for _ in range(300):
            with first.beside() as s:
                double(x)
            s.synchronize()  # work of a simulated GPU that is not done yet holds what it uses
            made.append(weakref.ref(s))
        del s
        gc.collect()
        assert sum(one() is not None for one in made) < 100
        with zl.using(first):
            np.testing.assert_array_equal(double(x).numpy(), [2, 4, 6])


def test_copies_that_are_refused() -> None:
    with simulated(3) as first, zl.using(first):
        s: Any = zl.stream()
        x, y = first.tensor(ints(1, 2, 3, 4), i32), first.empty((4,), i32)
        for source, target, code in (
            (x, first.empty((3,), i32), "ZL0502"),
            (x, first.empty((4,), zl.f32), "ZL0501"),
            (x, x, "ZL0503"),
            (y, x, "ZL0504"),
            (x[::2], y[:2], "ZL0502"),
            (x, zl.borrow(ints(1, 2, 3, 4)), "ZL0527"),
        ):
            with pytest.raises(ZelligeError) as caught:
                s.copy(source, target)
            assert caught.value.code == code
        with zl.record(), pytest.raises(ZelligeError, match="ZL0521"):
            zl.stream()


def test_two_gpus_have_memory_and_orders_of_their_own() -> None:
    with simulated(4) as first:
        device: Any = Gpu(5)
        device.ordinal = 1
        second = CudaExecutor(device)
        assert (first.place, second.place) == ("GPU 0", "GPU 1") and first.order is not second.order
        with zl.using(first):
            x = zl.tensor(ints(1, 2, 3))
        with zl.using(second):
            with pytest.raises(ZelligeError, match="ZL0527"):
                double(x)
            y = double(zl.tensor(x))
        assert second.order.alone and y.place == "GPU 1"
        np.testing.assert_array_equal(y.numpy(), [2, 4, 6])


def test_threads_and_gpus_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has used no GPU, or another one last, gives work to any stream."""
    monkeypatch.setattr(launch_module, "fill", filled)
    with simulated(4) as first:
        device: Any = Gpu(5)
        device.ordinal = 1
        executors = [first, CudaExecutor(device), first.beside()]
        results: list[Any] = []

        def work() -> None:
            tensors = []
            for executor in executors:  # each finds another one's device in use, or none
                with zl.using(executor):
                    tensors.append((executor.tensor(ints(1, 2, 3), i32), executor.zeros((3,), i32)))
            graphs = []
            for executor, (x, y) in zip(executors, tensors, strict=True):
                with zl.using(executor), zl.record() as graph:
                    add_one(y=y)
                graphs.append(graph)
            for executor, (x, y), graph in zip(executors, tensors, graphs, strict=True):
                with zl.using(executor):
                    double(x, y=executor.empty((3,), i32))
                    graph.replay()
            for executor, (x, y), graph in zip(executors, tensors, graphs, strict=True):
                with zl.using(executor):
                    graph.replay()
                    results.append((total(x).numpy().tolist(), y.numpy().tolist(), double(double(x)).numpy().tolist()))
            events = [stream.event() for stream in executors if hasattr(stream, "event")]
            for event in events:
                executors[2].wait(event)  # type: ignore[attr-defined]
            for (x, _), (other, _) in zip(tensors, (tensors[0], tensors[1], tensors[0]), strict=True):
                x.write(other)

        work()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert results == [([6], [2, 2, 2], [4, 8, 12])] * 6
