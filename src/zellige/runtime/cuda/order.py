"""Which stream of a GPU uses which memory: conflicting uses on different streams wait for each other, on the GPU.

A use is entered with the stream's ``Queue`` and the number of uses given to it so far. A later use waits for those that it
conflicts with, in the order in which both were given; uses of one stream need no wait. While a device has one stream and
none of its memory is known to others, nothing is entered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet


class Queue:
    """One stream, and how much work was given to it."""

    __slots__ = ("__weakref__", "_seen", "_use", "given", "stream")

    def __init__(self, stream: Any, use: Callable[[], object] = lambda: None) -> None:
        """``use`` makes the stream's device the calling thread's."""
        self.stream = stream
        self._use = use
        self.given = 0
        self._seen: WeakKeyDictionary[Queue, int] = WeakKeyDictionary()
        """How much of other queues' work everything given from now on runs after."""

    def follow(self, other: Queue) -> None:
        """Work given from now on runs after all that ``other`` was given before."""
        given = other.given
        self._use()
        self.stream.wait(other.stream)
        for queue, number in ((other, given), *other._seen.items()):
            self._seen[queue] = max(number, self._seen.get(queue, 0))

    def after(self, other: Queue, number: int) -> None:
        """Work given from now on runs after use ``number`` of ``other``."""
        if other is not self and self._seen.get(other, 0) < number:
            self.follow(other)


class Users:
    """Who uses one piece of device memory."""

    __slots__ = ("outside", "readers", "writer")

    def __init__(self, outside: Outside | None = None) -> None:
        self.writer: tuple[Queue, int] | None = None
        """The last exclusive use."""
        self.readers: dict[Queue, int] = {}
        """The last shared use since, by queue."""
        self.outside = outside
        """Others who have the memory, or had it."""

    def admit(self, queue: Queue, *, exclusive: bool) -> None:
        """A use that is given to ``queue`` next runs after those that it conflicts with."""
        if self.writer is not None:
            queue.after(*self.writer)
        if exclusive:
            for reader, number in self.readers.items():
                queue.after(reader, number)
        if self.outside is not None:
            self.outside.before(queue, exclusive=exclusive)
            if not self.outside.held():
                self.outside = None

    def enter(self, queue: Queue, *, exclusive: bool) -> None:
        """A use was given to ``queue``, as its last one."""
        if exclusive:
            self.writer = queue, queue.given
            self.readers.clear()
        else:
            self.readers[queue] = queue.given
        if self.outside is not None:
            self.outside.after(queue, exclusive=exclusive)


class Outside:
    """Others who use a piece of memory. If they named a stream, uses are ordered with that one, on the GPU. If not, nobody knows on
    which they use it: a use of ours waits for all work of the device, and has ended when it returns."""

    __slots__ = ("_all", "_device", "_stream", "held")

    def __init__(self, device: Any, known: Users, held: Callable[[], bool], stream: Any = None) -> None:
        """``known``: the uses of all memory that others have, of which two pieces may be one; ``held``: whether they still have
        this piece (what they gave to the device before they let it go may still run)."""
        self._device, self._all, self._stream, self.held = device, known, stream, held

    def before(self, queue: Queue, *, exclusive: bool) -> None:
        """What is given to ``queue`` next runs after what others were given before."""
        self._all.admit(queue, exclusive=exclusive)
        self._device.use()
        if self._stream is None:
            self._device.synchronise()
        else:
            queue.stream.wait(self._stream)

    def after(self, queue: Queue, *, exclusive: bool) -> None:
        """What others are given from now on runs after what ``queue`` was given."""
        self._all.enter(queue, exclusive=exclusive)
        self._device.use()
        if self._stream is None:
            queue.stream.sync()
        else:
            self._stream.wait(queue.stream)


Uses = Iterable[tuple[Users, bool]]
"""Memory, each with whether it is used exclusively."""


class Order:
    """The order of the work of one device."""

    def __init__(self) -> None:
        self.lock = RLock()
        """Held while work is checked and given to a stream, which is one step for all threads."""
        self.alone = True
        """One stream has been the only one to use the device's memory."""
        self.outsiders = Users()
        """Of all memory that others know."""
        self._queues: WeakSet[Queue] = WeakSet()

    def join(self, stream: Any, use: Callable[[], object] = lambda: None) -> Queue:
        """The queue of a new stream. Its work runs after what was given to all others before, of which nothing may have been entered."""
        with self.lock:
            made = Queue(stream, use)
            for other in self._queues:
                made.follow(other)
                self.alone = False
            self._queues.add(made)
            return made

    def let_others_in(self, stream: Any = None) -> None:
        """Memory of the device becomes known to others: from now on uses are entered. What is given to ``stream`` runs after all
        uses so far."""
        with self.lock:
            self.alone = False
            for queue in self._queues if stream is not None else ():
                stream.wait(queue.stream)

    def before(self, queue: Queue, uses: Uses) -> None:
        """Called with the lock held, before work that uses memory is given to ``queue``."""
        if not self.alone:
            for users, exclusive in uses:
                users.admit(queue, exclusive=exclusive)

    def after(self, queue: Queue, uses: Uses) -> None:
        """Called with the lock held, when it has been given."""
        if not self.alone:
            queue.given += 1
            for users, exclusive in uses:
                users.enter(queue, exclusive=exclusive)
