"""Random schedules on streams, graphs and threads against sequential oracles. A failure prints its seed.

Launches are slowed down by random pauses, so that work that should have waited has every chance to overtake; that these
schedules do catch a missing wait is tested, too."""

from __future__ import annotations

import random
import threading
import time
from queue import Queue

import numpy as np
import pytest

import zellige as zl
from tests.runtime.kernels import add_one, double, ints, scale_add, take
from zellige.runtime import stream as stream_module
from zellige.runtime.cpu import CpuExecutor, PreparedPlan

LENGTH = 48


class Slow(CpuExecutor):
    """An executor whose launches take a random time to begin and to end."""

    def __init__(self, seed: int, checks: int = 0) -> None:
        super().__init__(CpuExecutor.default().pool)
        self.checks = checks
        self._random = random.Random(seed)

    def run(self, ready: PreparedPlan, binding: object) -> int:
        pause = self._random.choice((0, 0, 1e-4, 5e-4))
        time.sleep(pause)
        failed = super().run(ready, binding)  # type: ignore[arg-type]
        time.sleep(pause)
        return failed


class Schedule:
    """One host thread gives random work to streams; what the same work gives one after the other is known."""

    def __init__(self, seed: int, checks: int = 0) -> None:
        self.random = random.Random(seed)
        executor = Slow(seed, checks)
        self.streams = [zl.Stream(executor=executor) for _ in range(3)]
        self.wanted = [np.arange(LENGTH, dtype=np.int32) + 100 * i for i in range(5)]
        self.tensors = [zl.tensor(values) for values in self.wanted]
        self.at = zl.index(np.zeros(LENGTH, int), below=LENGTH)
        self.places = np.zeros(LENGTH, np.int32)
        self.graphs = [self._graph(i) for i in range(2)]

    def _graph(self, i: int) -> tuple[zl.Graph, int, int]:
        x, y = self.random.sample(range(5), 2)
        with zl.record() as graph:
            scale_add(self.tensors[x], 7 + i, y=self.tensors[y])
            add_one(y=self.tensors[y])
        return graph, x, y

    def part(self) -> slice:
        """A random half: halves of one tensor are used at once, and overlap or not."""
        low = self.random.choice((0, LENGTH // 4, LENGTH // 2))
        return slice(low, low + LENGTH // 2)

    def step(self) -> None:
        """Gives one piece of work, to a stream or at once, and does it to what is wanted."""
        pick = self.random
        with np.errstate(over="ignore"):
            where = pick.choice([*self.streams, *self.streams, None])
            if where is None:
                self.work()
            else:
                with where:
                    self.work(where)

    def work(self, on: zl.Stream | None = None) -> None:
        pick, tensors, wanted = self.random, self.tensors, self.wanted
        x, y = pick.sample(range(5), 2)
        p, q = self.part(), self.part()
        match pick.choice(("update", "update", "write", "double", "take", "replay", "copy", "read", "index")):
            case "update":
                a = pick.randrange(-3, 4)
                scale_add(tensors[x][p], a, y=tensors[y][q])
                wanted[y][q] = wanted[y][q] * 3 + wanted[x][p] * a
            case "double":
                double(tensors[x][p], y=tensors[y][q])
                wanted[y][q] = wanted[x][p] * 2
            case "take":
                take(tensors[x], self.at, y=tensors[y])
                wanted[y][:] = wanted[x][self.places]
            case "replay":
                graph, x, y = pick.choice(self.graphs)
                a = 7 + self.graphs.index((graph, x, y))
                graph.replay()
                wanted[y][:] = wanted[y] * 3 + wanted[x] * a + 1
            case "copy" if on is not None:
                on.copy(tensors[x][p], tensors[y][q])
                wanted[y][q] = wanted[x][p]
            case "write":
                values = np.array([pick.randrange(-1000, 1000) for _ in range(LENGTH // 2)], np.int32)
                tensors[y][q].write(values)
                values, wanted[y][q] = np.zeros_like(values), values  # the caller's array is his again
            case "index":
                self.places = np.array([pick.randrange(LENGTH) for _ in range(LENGTH)], np.int32)
                self.at.write(self.places)
            case "read":
                np.testing.assert_array_equal(tensors[x][p].numpy(), wanted[x][p])

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
        for tensor, values in zip(self.tensors, self.wanted, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), values)
        for s in self.streams:
            s.close()


@pytest.mark.parametrize("seed", range(40))
def test_random_schedules_give_what_the_program_says(seed: int):
    Schedule(seed).run(150)


@pytest.mark.parametrize("seed", range(100, 103))
def test_random_schedules_under_the_interpreters_shadow_memory(seed: int):
    Schedule(seed, checks=2).run(40)


def test_without_waiting_these_schedules_go_wrong(monkeypatch):
    """The schedules above would notice if work on streams did not wait for what it depends on."""
    do = stream_module._Work.do

    def hasty(self, worker):
        self.before = ()
        do(self, worker)

    monkeypatch.setattr(stream_module._Work, "do", hasty)
    wrong = 0
    for seed in range(4):
        try:
            Schedule(seed).run(150)
        except AssertionError:
            wrong += 1
    assert wrong


def test_threads_that_update_the_same_tensors_lose_nothing():
    """Additions commute: whatever the order, all must be there. x ← 3·x + 0·y does not, so only ``add_one`` is used."""
    shared = [zl.tensor(np.zeros(LENGTH, np.int32)) for _ in range(3)]
    failures: list[BaseException] = []
    each, workers = 40, 4

    def work(seed: int) -> None:
        pick = random.Random(seed)
        own = zl.Stream(executor=Slow(seed)) if seed % 2 else None
        try:
            for i in range(each):
                tensor = shared[(seed + i) % 3]
                for half in pick.sample((tensor[: LENGTH // 2], tensor[LENGTH // 2 :]), 2):
                    if own is None:
                        add_one(y=half)
                    else:
                        with own:
                            add_one(y=half)
            if own is not None:
                own.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(workers)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures
    totals = sum(int(t.numpy()[0]) for t in shared), sum(int(t.numpy()[-1]) for t in shared)
    assert totals == (each * workers, each * workers)
    for tensor in shared:
        assert len(set(tensor.numpy()[: LENGTH // 2])) == 1


def test_tensors_handed_from_thread_to_thread_arrive_finished():
    """A pipeline of three threads, each with its own stream; a tensor is passed on while it is still being written."""
    queues: list[Queue] = [Queue() for _ in range(4)]
    failures: list[BaseException] = []

    def stage(i: int) -> None:
        try:
            s = zl.Stream(executor=Slow(i))
            while (tensor := queues[i].get()) is not None:
                with s:
                    add_one(y=tensor)
                    queues[i + 1].put(double(tensor))
            queues[i + 1].put(None)
            s.close()
        except BaseException as error:
            failures.append(error)
            queues[i + 1].put(None)

    threads = [threading.Thread(target=stage, args=(i,)) for i in range(3)]
    [t.start() for t in threads]
    for k in range(20):
        queues[0].put(zl.tensor(ints(k, -k)))
    queues[0].put(None)
    results = []
    while (tensor := queues[3].get()) is not None:
        results.append(tensor.numpy().tolist())
    [t.join() for t in threads]
    assert not failures
    assert results == [[8 * k + 14, -8 * k + 14] for k in range(20)]


def test_hosts_read_whole_states_while_streams_write():
    """Every element of a tensor is written by one launch; a reader never sees two launches' elements mixed."""
    t = zl.tensor(np.zeros(4096, np.int32))
    stop = threading.Event()
    mixed: list[np.ndarray] = []

    def read() -> None:
        while not stop.is_set():
            seen = zl.tensor(t).numpy()
            if len(set(seen.tolist())) != 1:
                mixed.append(seen)
            stop.wait(1e-3)  # with no array held

    reader = threading.Thread(target=read)
    reader.start()
    refused = 0
    with zl.stream() as s:
        for _ in range(60):
            while True:
                try:
                    add_one(y=t)
                    break
                except zl.AliasError:  # the reader holds an array at this moment
                    refused += 1
                    time.sleep(1e-5)
    s.synchronize()
    stop.set()
    reader.join()
    assert not mixed
    assert (t.numpy() == 60).all()
