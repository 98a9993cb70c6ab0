"""Random host programs around memory under contracts: what a kernel relies on holds whenever it runs, whoever wrote meanwhile.

Memory is reached through tensors, views, exports, borrowed arrays (reversed, with steps, read only), graphs, streams and other threads. What each
step means is known: a step that reads contents which break its contract must be refused, and one that is accepted gives what
the contents say. A step may also be refused for another reason (somebody holds the memory); then nothing has changed. A failure prints its seed.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import zellige as zl
from tests.runtime.test_stress import Slow
from zellige import ZelligeError, f32, i32
from zellige.runtime import memory as memories
from zellige.runtime import tensor, tensor_type

M, V, S = zl.dims("M V S")
LENGTH, BELOW = 6, 6
TABLE = (np.arange(BELOW) + 10).astype(np.float32)


@zl.kernel
def add_to(*, i: zl.Mut[i32, M], by: zl.Static = 5):
    m = zl.grid(M)
    i[m] = i[m] + by


@zl.kernel
def all_equal(t: zl.In[f32, V], *, i: zl.Out[zl.Index[V], M]):
    zl.requires(V >= 1)
    m = zl.grid(M)
    i[m] = V - 1


@zl.kernel
def ordered(x: zl.In[f32, M], *, i: zl.Out[zl.Permutation[M], M]):
    zl.grid(1)
    _, order = zl.sort(x[:])
    i[:] = order


@zl.kernel
def moved(a: zl.In[zl.Index[V], M], t: zl.In[f32, V], *, i: zl.Out[zl.Index[V], M]):
    m = zl.grid(M)
    i[m] = V - 1 - a[m]


@zl.kernel
def looked_up(i: zl.In[zl.Index[V], M], t: zl.In[f32, V], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = t[i[m]]


@zl.kernel
def scattered(i: zl.In[zl.Index[V, zl.distinct], M], *, y: zl.Mut[f32, V]):
    m = zl.grid(M)
    y[i[m]] = 1.0


@zl.kernel
def summed(i: zl.In[zl.Offsets[V], S + 1], t: zl.In[f32, V], *, y: zl.Out[f32, S]):
    s = zl.grid(S)
    total = 0.0
    for k in range(i[s], i[s + 1]):
        total = total + t[k]
    y[s] = total


def _in_range(values: Any) -> bool:
    return bool(((values >= 0) & (values < BELOW)).all())


def _looked_up(values: Any) -> Any:
    return TABLE[values] if _in_range(values) else None


def _scattered(values: Any) -> Any:
    return (
        np.isin(np.arange(BELOW), values) * np.float32(1)
        if _in_range(values) and len(set(values)) == len(values)
        else None
    )


def _summed(values: Any) -> Any:
    ends = values[:1] == 0 and values[-1:] == BELOW and bool((np.diff(values) >= 0).all())
    return np.array([TABLE[a:b].sum() for a, b in pairwise(values)], np.float32) if ends and len(values) > 1 else None


READERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "looked up": (lambda i: looked_up(i, TABLE), _looked_up),
    "scattered": (lambda i: _written(scattered, i), _scattered),
    "summed": (lambda i: summed(i, TABLE), _summed),
}
"""A launch that relies on a contract, and what it gives: None if the contents break it."""


def _written(kernel: Any, i: Any) -> Any:
    y = zl.tensor(np.zeros(BELOW, np.float32))
    kernel(i, y=y)
    return y


class Memory:
    """One array of integers, everybody who has it, and what it holds if every accepted step was done in order."""

    def __init__(self, pick: random.Random, borrowed: bool) -> None:
        start = np.array(pick.choice([range(LENGTH), [0] * LENGTH, [0, 1, 1, 4, 6, 6], [3, 1, 2, 0, 5, 4]]), np.int32)
        self.wanted = start.copy()
        self.base: Any = start if borrowed else None
        whole: Any = start if borrowed else zl.tensor(start)
        self.handles: list[tuple[Any, Any]] = [(whole, slice(None))]
        if borrowed:
            self.handles += [(zl.borrow(start), slice(None)), (zl.borrow(start)[1:4], slice(1, 4))]
            for part in (slice(None, None, -1), slice(None, None, 2), slice(2, 5), slice(4, 1, -1)):
                self.handles.append((start[part], part))
            fixed = start[:]
            fixed.flags.writeable = False
            self.handles.append((fixed, slice(None)))
        else:
            self.handles += [(whole[part], part) for part in (slice(0, 3), slice(1, 5), slice(None, None, 2))]
        self.exports: list[tuple[Any, Any]] = []


class Program:
    """A random host program."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self.memories = [Memory(self.pick, borrowed) for borrowed in (False, False, True)]
        self.streams = [zl.Stream(executor=Slow(seed)) for _ in range(2)]
        self.graphs: list[tuple[zl.Graph, list[Callable[[], bool]]]] = []
        self.did: Counter[str] = Counter()
        self.log: list[str] = []

    def run(self, steps: int) -> Counter[str]:
        for _ in range(steps):
            self.step()
        for stream in self.streams:
            stream.synchronize()
        for memory in self.memories:
            held = memory.base if memory.base is not None else memory.handles[0][0].numpy()
            np.testing.assert_array_equal(held, memory.wanted)
        for stream in self.streams:
            stream.close()
        return self.did

    def attempt(self, what: str, action: Callable[[], Any], allowed: bool = True) -> Any:
        """Does a step, maybe on a stream or in another thread; None if it is refused. It must be unless it is ``allowed``."""
        outcome: list[Any] = []

        def work() -> None:
            try:
                stream = self.pick.choice([None, None, *self.streams])
                if stream is None:
                    outcome.append((action(),))
                else:
                    with stream:
                        outcome.append((action(),))
            except ZelligeError as error:
                outcome.append(error.code)

        if self.pick.random() < 0.2:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        else:
            work()
        (found,) = outcome
        self.log.append(f"{what}: {found}")
        self.did[f"{what} {'done' if isinstance(found, tuple) else found}"] += 1
        if isinstance(found, str):
            return None
        assert allowed, f"{what} was accepted\n" + "\n".join(self.log)
        return found

    def step(self) -> None:
        pick, memory = self.pick, self.pick.choice(self.memories)
        handle, part = pick.choice(memory.handles)
        match pick.choice(
            ["read"] * 4 + ["kernel"] * 3 + ["host"] * 2 + ["export", "export", "record", "replay", "replay"]
        ):
            case "read":
                self.read(*pick.choice(list(READERS.items())), memory, handle, part)
            case "kernel":
                self.write_by_kernel(memory, handle, part)
            case "host":
                self.write_by_host(memory, handle, part)
            case "export":
                if memory.exports and pick.random() < 0.6:
                    memory.exports.pop(pick.randrange(len(memory.exports)))
                elif isinstance(handle, zl.Tensor):
                    made = self.attempt("export", lambda: np.from_dlpack(handle))
                    memory.exports += [(made[0], part)] if made else []
            case "record":
                self.record()
            case "replay" if self.graphs:
                graph, meaning = pick.choice(self.graphs)
                kept = [m.wanted.copy() for m in self.memories]
                allowed = all([step() for step in meaning])
                if self.attempt("replay", graph.replay, allowed) is None:
                    for m, wanted in zip(self.memories, kept, strict=True):
                        m.wanted[:] = wanted

    def read(self, name: str, how: Any, memory: Memory, handle: Any, part: Any) -> None:
        launch, meaning = how
        wanted = meaning(memory.wanted[part])
        made = self.attempt(name, lambda: launch(handle), wanted is not None)
        if made:
            np.testing.assert_array_equal(made[0].numpy(), wanted, err_msg="\n".join(self.log))

    def write_by_kernel(self, memory: Memory, handle: Any, part: Any) -> None:
        count = len(memory.wanted[part])
        which = self.pick.choice(["add", "add", "equal", "order", "moved"])
        if which == "add":
            by = self.pick.choice([5, -5, 1, -1])
            if self.attempt("add", lambda: add_to(i=handle, by=by)):
                memory.wanted[part] += by
        elif which == "equal":
            if self.attempt("equal", lambda: all_equal(TABLE, i=handle)):
                memory.wanted[part] = BELOW - 1
        elif which == "order":
            x = np.array([self.pick.random() for _ in range(count)], np.float32)
            if self.attempt("order", lambda: ordered(x, i=handle)):
                memory.wanted[part] = np.argsort(x)
        else:
            other = self.pick.choice([m for m in self.memories if m is not memory])
            source, p = self.pick.choice(other.handles)
            values = other.wanted[p].copy()
            if len(values) == count and self.attempt(
                "moved", lambda: moved(source, TABLE, i=handle), _in_range(values)
            ):
                memory.wanted[part] = BELOW - 1 - values

    def write_by_host(self, memory: Memory, handle: Any, part: Any) -> None:
        values = np.array([self.pick.choice([0, 1, 2, 3, 4, 5, 6, 7, -1]) for _ in memory.wanted[part]], np.int32)
        if self.pick.random() < 0.5:
            values %= BELOW
        if memory.exports and self.pick.random() < 0.7:  # through an array that somebody has
            array, part = self.pick.choice(memory.exports)
            for stream in self.streams:
                stream.synchronize()
            if array.flags.writeable:
                array[...] = np.resize(values, array.shape)
                memory.wanted[part] = np.resize(values, array.shape)
        elif isinstance(handle, zl.Tensor):
            if self.attempt("write", lambda: handle.write(values)):
                memory.wanted[part] = values
        elif handle.flags.writeable:
            for stream in self.streams:
                stream.synchronize()
            handle[...] = values
            memory.wanted[part] = values

    def record(self) -> None:
        """A graph of a few launches that write and read; what it means is a list of steps on what is wanted."""
        meaning: list[Callable[[], bool]] = []
        try:
            with zl.record() as graph:
                for _ in range(self.pick.randrange(1, 4)):
                    memory = self.pick.choice(self.memories)
                    handle, part = self.pick.choice(memory.handles)
                    kind = self.pick.choice(["add", "equal", "looked up", "looked up"])
                    if kind == "add":
                        add_to(i=handle, by=5)
                        meaning.append(lambda m=memory, p=part: m.wanted.__setitem__(p, m.wanted[p] + 5) is None)
                    elif kind == "equal":
                        all_equal(TABLE, i=handle)
                        meaning.append(lambda m=memory, p=part: m.wanted.__setitem__(p, BELOW - 1) is None)
                    else:
                        looked_up(handle, TABLE)
                        meaning.append(lambda m=memory, p=part: _in_range(m.wanted[p]))
            if self.pick.random() < 0.3:
                graph = graph.fused()
        except ZelligeError as error:
            self.did[f"record {error.code}"] += 1
            return
        self.did["record done"] += 1
        self.graphs.append((graph, meaning))


@pytest.mark.parametrize("seed", range(40))
def test_what_a_kernel_relies_on_holds_whoever_wrote(seed: int) -> None:
    did = Program(seed).run(120)
    assert sum(n for what, n in did.items() if what.endswith("done")) > 20


REOPENED: dict[str, tuple[Any, str, Any]] = {
    "exports are forgotten": (memories.Memory, "seen_by_others", property(lambda self: self.borrowed)),
    "borrowed arrays are believed": (memories.Memory, "seen_by_others", property(lambda self: bool(self.exports))),
    "what a graph writes is not new": (memories.Memory, "stamp", lambda self: self.version),
    "nobody waits for a graph": (memories.GraphUse, "overlaps", lambda *_: False),
    "a part keeps what the whole does": (tensor_type, "fact_of_part", lambda fact: fact),
    "a copy does not wait": (tensor, "wait_for_writers", lambda *_: None),
}
"""Holes that there once were, or could be: what is changed, and into what."""


@pytest.mark.parametrize("hole", REOPENED)
def test_these_programs_notice_a_hole(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*REOPENED[hole])
    for seed in range(40):
        try:
            Program(seed).run(120)
        except AssertionError:
            return
    raise AssertionError(f"nobody noticed: {hole}")


@zl.kernel
def taken(x: zl.In[i32, M], *, i: zl.Out[zl.Index[V], M], z: zl.Mut[f32, V]):
    m = zl.grid(M)
    i[m] = zl.guard(x[m], below=V)


@pytest.mark.parametrize("how", ["at once", "on a stream", "in a graph"])
def test_what_a_guard_that_failed_should_have_established_is_not_believed(how: str) -> None:
    x, i = zl.tensor(np.array([0, 99, 2], np.int32)), zl.tensor(np.full(3, 77, np.int32))
    z, refused = zl.tensor(np.zeros(BELOW, np.float32)), []

    def both() -> None:
        taken(x, i=i, z=z)
        looked_up(i, TABLE)

    try:
        if how == "on a stream":
            with zl.stream() as stream:
                both()
            stream.synchronize()
        elif how == "in a graph":
            with zl.record() as graph:
                both()
            graph.replay()
        else:
            both()
    except ZelligeError as error:
        refused.append(error.code)
    assert refused == ["ZL0404"]
    with pytest.raises(ZelligeError, match=r"ZL0404|ZL0505"):
        looked_up(i, TABLE)
