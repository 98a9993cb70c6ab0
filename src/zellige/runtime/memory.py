"""Memory and who uses it: the ledger in which launches borrow, and what is known of the contents.

Every use of memory is entered in a ledger as (first byte, one past the last, completion), as a reader or a writer. A use
that conflicts with an earlier one gets that one's completion to wait for. Entries are made in one total order (under
``LOCK``) and wait only for earlier ones, so waiting cannot go round in a circle.

Memory that somebody else owns too (borrowed, or exported for writing) shares one ledger, so that two tensors made from one
array, or from overlapping ones, find each other by address.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.completion import IN_FLIGHT, LOCK, Completion
from zellige.runtime.dlpack import reclaim
from zellige.runtime.element_types import typestr

if TYPE_CHECKING:
    from zellige.runtime.tensor import Tensor

Unwritten = NDArray[np.bool_] | bool | None
"""Which bytes of a memory hold no value yet: None: all do; True: none does; else a flag for each byte."""

CLOCK = count(1)
"""Numbers writes, so that what was learnt of contents is known to be older or newer than the last write."""

FEW_READERS = 16
"""A list of readers is cleared of those that have ended when it has grown to this, or to twice what was left."""


class AliasError(ZelligeError):
    """Memory that is used exclusively is used by something else, too, and waiting cannot help."""


class Ledger:
    """Who uses some memory: launches and copies as they come, recorded graphs for good."""

    __slots__ = ("__weakref__", "graphs", "most_readers", "readers", "writers")

    def __init__(self) -> None:
        self.most_readers = FEW_READERS
        self.writers: list[tuple[int, int, Completion]] = []
        self.readers: list[tuple[int, int, Completion]] = []
        self.graphs: list[GraphUse] = []


FOREIGN = Ledger()
"""The ledger of all memory that is not ours alone."""


class GraphUse:
    """The memory that a recorded graph uses whenever it runs, entered once."""

    __slots__ = ("alive", "exclusive", "running", "shared", "stamp")

    def __init__(self) -> None:
        self.running: Completion | None = None
        """The last replay; it waits for those before it."""
        self.stamp = 0
        """Its place in the order of writes."""
        self.alive = True
        self.exclusive: dict[int, list[tuple[int, int]]] = {}
        """By the ledger's ``id`` (the graph keeps the ledgers alive): the ranges that it writes."""
        self.shared: dict[int, list[tuple[int, int]]] = {}

    def add(self, tensor: Tensor, *, exclusive: bool) -> None:
        """Enters a tensor of the graph."""
        low, high = tensor.span
        if low == high:
            return
        memory = tensor.memory
        for ledger in dict.fromkeys((memory, memory.ledger)):  # shared memory has views and a stamp of its own, too
            ranges = (self.exclusive if exclusive else self.shared).setdefault(id(ledger), [])
            if (low, high) not in ranges:
                ranges.append((low, high))
            if self not in ledger.graphs:
                ledger.graphs[:] = [use for use in ledger.graphs if use.alive or use.stamp] + [self]

    def conflicts_with(self, other: GraphUse) -> bool:
        """Whether replays of two graphs must not overlap in time."""
        return any(
            low < end and start < high
            for mine, theirs in ((self.exclusive, other.exclusive), (self.exclusive, other.shared), (self.shared, other.exclusive))
            for key in mine.keys() & theirs.keys()
            for low, high in mine[key]
            for start, end in theirs[key]
        )  # fmt: skip

    def overlaps(self, ledger: Ledger, low: int, high: int, exclusive: bool) -> bool:
        """Whether a use of a range of ``ledger`` conflicts with a replay."""
        key = id(ledger)
        if any(start < high and low < end for start, end in self.exclusive.get(key, ())):
            return True
        return exclusive and any(start < high and low < end for start, end in self.shared.get(key, ()))


class Memory(Ledger):
    """A piece of memory with what is known of it, shared by all tensors that view it."""

    __slots__ = ("address", "borrowed", "exports", "room", "shared", "size", "unwritten", "version", "views")

    def __init__(self, room: Any, address: int, size: int, *, initialised: bool, borrowed: bool) -> None:
        # as in Ledger: a call of its own for these took as long as all of this
        self.most_readers = FEW_READERS
        self.writers = []
        self.readers = []
        self.graphs = []
        self.room = room
        """Keeps the memory alive."""
        self.address = address
        self.size = size
        self.borrowed = borrowed
        """It is somebody else's, who may change it unseen."""
        self.shared = borrowed
        """Its uses are in the ``FOREIGN`` ledger."""
        self.unwritten: Unwritten = None if initialised else True
        self.version = 0
        """``CLOCK`` at the last write (graphs keep their own, see ``stamp``)."""
        self.views: dict[int, tuple[int, int]] = {}
        """NumPy arrays that the host holds over it: its own ``id``, and the thread that made each."""
        self.exports: dict[int, bool] = {}
        """Those through which somebody else may write."""

    @property
    def ledger(self) -> Ledger:
        """Where its uses are entered."""
        return FOREIGN if self.shared else self

    @property
    def seen_by_others(self) -> bool:
        """Whether somebody may change it unseen: then nothing is remembered of its contents."""
        if self.exports and not self.borrowed:
            reclaim()
        return self.borrowed or bool(self.exports)

    def stamp(self) -> int:
        """The place of the last write in the order of all writes."""
        latest = self.version
        for use in self.graphs:
            if use.stamp > latest and use.exclusive.get(id(self)):
                latest = use.stamp
        return latest

    # --- which bytes hold values
    def is_written(self, tensor: Tensor) -> bool:
        """Whether every element of a tensor in this memory has been written."""
        return self.unwritten is None or self.covers(self.unwritten, tensor)

    def mark_written(self, tensor: Tensor) -> None:
        """Notes that every element of a tensor in this memory holds a value."""
        if self.unwritten is not None:
            self.unwritten = self.without(self.unwritten, tensor)

    def covers(self, unwritten: Unwritten, tensor: Tensor) -> bool:
        """Whether no element of a tensor is among the unwritten."""
        if unwritten is None or 0 in tensor.storage.shape:
            return True
        return not (unwritten is True or bool(self._flags(tensor, unwritten).any()))  # type: ignore[arg-type]

    def without(self, unwritten: Unwritten, tensor: Tensor) -> Unwritten:
        """What is unwritten when a tensor has been written; a fresh array, so that the old can be put back."""
        storage = tensor.storage
        if unwritten is None or (storage.nbytes == self.size and storage.flags.c_contiguous):
            return None
        flags = np.ones(self.size, np.bool_) if unwritten is True else np.array(unwritten)
        if storage.size:
            self._flags(tensor, flags)[...] = False
        return flags if flags.any() else None

    def clear_unwritten(self, tensor: Tensor) -> None:
        """Puts zeros in elements of a tensor in host memory that hold no value."""
        zero = np.zeros((), tensor.storage.dtype)
        if self.unwritten is True:
            tensor.storage[...] = zero
        elif self.unwritten is not None:
            tensor.storage[self._flags(tensor, self.unwritten).any(axis=-1)] = zero  # type: ignore[arg-type]

    def _flags(self, tensor: Tensor, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The flags of a tensor's bytes: its shape, and an axis of the bytes of one element."""
        storage = tensor.storage
        shape, strides = (*storage.shape, storage.itemsize), (*storage.strides, 1)
        return np.ndarray(shape, np.bool_, flags, tensor.address - self.address, strides)


VIEWS: dict[int, tuple[int, int]] = {}
"""All host views that live: the ``id`` of their memory, and the thread that made each."""


class HostView:
    """Something for NumPy to hold while arrays over a tensor's memory live: derived arrays keep it alive, too."""

    __slots__ = ("__array_interface__", "memory")

    def __init__(self, tensor: Tensor, *, writable: bool) -> None:
        storage = tensor.storage
        self.memory = tensor.memory
        self.__array_interface__ = {
            "shape": storage.shape, "typestr": typestr(storage.dtype), "data": (tensor.address, not writable),
            "strides": None if storage.flags.c_contiguous else storage.strides, "version": 3,
        }  # fmt: skip
        self.memory.views[id(self)] = VIEWS[id(self)] = (id(self.memory), threading.get_ident())
        if writable:
            self.memory.exports[id(self)] = True

    def __del__(self) -> None:  # may run anywhere, so it takes no lock
        VIEWS.pop(id(self), None)
        self.memory.views.pop(id(self), None)
        if id(self) in self.memory.exports:
            # the contents count as ours again: first what was known of them is forgotten
            self.memory.version = next(CLOCK)
            del self.memory.exports[id(self)]


def memory_of_view(array: NDArray[Any]) -> Memory | None:
    """The memory of ours that a NumPy array views, if it was made by ``Tensor.numpy`` (or from what that returned)."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base.memory if isinstance(base, HostView) else None


RUNNING: dict[GraphUse, None] = {}
"""Graphs with a replay that may not have ended."""


def claim_graph_locked(name: str, use: GraphUse, completion: Completion, *, asynchronous: bool) -> list[Completion]:
    """Borrows everything that a graph uses until ``completion`` ends; returns what must end first.

    It costs as much as there is in flight, not as much as there is in the graph."""
    if VIEWS:
        reclaim()
        held = [view for view in list(VIEWS.values()) if view[0] in use.exclusive]
        check_views(name, held, asynchronous=asynchronous)
    found: list[Completion] = []
    if use.running is not None:
        if not use.running.done:
            found.append(use.running)
        elif use.running.unseen:
            use.running.check()
    for earlier in IN_FLIGHT:
        if any(use.overlaps(*entry) for entry in earlier.uses):
            found.append(earlier)
    for other in list(RUNNING):
        last = other.running
        if last is None or last.done:
            del RUNNING[other]
        elif other is not use and use.conflicts_with(other):
            found.append(last)
    use.running = completion
    use.stamp = next(CLOCK)
    RUNNING[use] = None
    return found


def _forsake() -> None:
    """After a fork, in the child: what other threads of the parent had yet to do does not happen here, and nobody waits for it."""
    graphs = [use.running for use in RUNNING if use.running is not None]
    for completion in dict.fromkeys((*IN_FLIGHT, *graphs)):
        error = ZelligeError(
            "ZL0523", f"'{completion.name}' was in flight when the process forked; the child does not have what it would have written",
            help="synchronize before the fork",
        )  # fmt: skip
        completion.forsake(error)
    IN_FLIGHT.clear()
    RUNNING.clear()


os.register_at_fork(after_in_child=_forsake)


# --- borrowing. Functions that end in _locked are called with LOCK held.
def conflicts_locked(ledger: Ledger, low: int, high: int, exclusive: bool, found: list[Completion]) -> None:
    """Adds to ``found`` what a use of [low, high) must wait for. Raises the error of a failed writer that nobody has seen."""
    if ledger.writers:
        _scan_locked(ledger.writers, low, high, found)
    if exclusive and ledger.readers:
        _scan_locked(ledger.readers, low, high, found)
    for use in ledger.graphs:
        last = use.running
        if last is None or (last.done and not last.unseen) or not use.overlaps(ledger, low, high, exclusive):
            continue
        if not last.done:
            found.append(last)
        else:
            last.check()


def _scan_locked(entries: list[tuple[int, int, Completion]], low: int, high: int, found: list[Completion]) -> None:
    """Finds overlapping entries that have not ended, and drops those that have."""
    kept = []
    for entry in entries:
        completion = entry[2]
        overlap = entry[0] < high and low < entry[1]
        if completion.done:
            if not completion.unseen:
                continue
            if overlap:
                completion.check()
        elif overlap:
            found.append(completion)
        kept.append(entry)
    entries[:] = kept


def enter_locked(ledger: Ledger, low: int, high: int, exclusive: bool, completion: Completion) -> None:
    """Enters a use. An exclusive one replaces those within its range: it waits for them, so whoever waits for it does."""
    writers, readers = ledger.writers, ledger.readers
    if exclusive:
        if writers:
            writers[:] = [entry for entry in writers if entry[0] < low or high < entry[1]]
        if readers:
            readers[:] = [entry for entry in readers if entry[0] < low or high < entry[1]]
        writers.append((low, high, completion))
        return
    if len(readers) >= ledger.most_readers:
        readers[:] = [entry for entry in readers if not entry[2].done]
        ledger.most_readers = max(FEW_READERS, 2 * len(readers))
    readers.append((low, high, completion))


def check_views(name: str, views: Iterable[tuple[int, int]], *, asynchronous: bool) -> None:
    """AliasError if the host holds NumPy arrays over memory that is about to be written while they can be read."""
    me = threading.get_ident()
    for _, thread in views:
        if asynchronous or thread != me:
            whose = "this thread" if thread == me else "another thread"
            raise AliasError(
                "ZL0503", f"{name} would write a tensor while a NumPy array over its memory is held by {whose}",
                help="drop the array first, or take a copy: tensor.numpy().copy()",
            )  # fmt: skip


def claim_locked(
    name: str, uses: Sequence[tuple[Tensor, bool]], completion: Completion, *, asynchronous: bool
) -> list[Completion]:
    """Borrows tensors (True: exclusively) until ``completion`` ends; returns what must end first. All or nothing."""
    found: list[Completion] = []
    entries = []
    for tensor, exclusive in uses:
        low, high = tensor.span
        if low == high:
            continue
        memory = tensor.memory
        if exclusive and memory.views:
            reclaim()
            check_views(name, list(memory.views.values()), asynchronous=asynchronous)
        ledger = FOREIGN if memory.shared else memory
        if ledger.writers or ledger.graphs or (exclusive and ledger.readers):
            conflicts_locked(ledger, low, high, exclusive, found)
        entries.append((ledger, low, high, exclusive))
    for entry in entries:
        enter_locked(*entry, completion)
    completion.uses = entries
    IN_FLIGHT[completion] = None
    return found


def wait_for(completions: Sequence[Completion]) -> None:
    """Waits for earlier uses. Raises the error of one that failed: what it should have written is not there."""
    for completion in completions:
        completion.wait()
    for completion in completions:
        completion.check()


def wait_for_writers(low: int, high: int) -> None:
    """Waits for work that writes bytes [low, high) of memory that others have, too. Raises the error of one that failed."""
    if not (FOREIGN.writers or FOREIGN.graphs):
        return
    found: list[Completion] = []
    with LOCK:
        conflicts_locked(FOREIGN, low, high, False, found)
    wait_for(found)


class HostUse:
    """``with HostUse(tensor, exclusive=…, name=…):`` the host uses a tensor when all conflicting work has ended."""

    __slots__ = ("_completion", "_exclusive", "_name", "_tensor")

    def __init__(self, tensor: Tensor, *, exclusive: bool, name: str) -> None:
        self._tensor, self._exclusive, self._name = tensor, exclusive, name

    def __enter__(self) -> Completion:
        self._completion = Completion(self._name)
        with LOCK:
            before = claim_locked(self._name, ((self._tensor, self._exclusive),), self._completion, asynchronous=False)
        try:
            wait_for(before)
        except BaseException:
            self._completion.abandon(before)
            raise
        return self._completion

    def __exit__(self, *_: object) -> None:
        self._completion.finish()


def share_locked(memory: Memory) -> None:
    """Moves memory to the ledger of shared memory, where others who have it are found by address."""
    if memory.shared:
        return
    memory.shared = True
    FOREIGN.writers += memory.writers
    FOREIGN.readers += memory.readers
    for use in memory.graphs:
        for ranges in (use.exclusive, use.shared):
            if id(memory) in ranges:
                ranges.setdefault(id(FOREIGN), []).extend(ranges[id(memory)])
        if use not in FOREIGN.graphs:
            FOREIGN.graphs.append(use)
