"""The end of a piece of work: something to wait for, to await, and to ask how it went."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any

from zellige.diagnostics.errors import ZelligeError

LOCK = threading.Lock()
"""Guards the ledgers of all memory (``memory.py``) and the callbacks below. Held for microseconds, never while waiting."""

IN_FLIGHT: dict[Completion, None] = {}
"""Launches and copies that have not ended, in the order in which they borrowed their arguments."""

os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)


class Failure:
    """An error that work met where nobody could catch it; several pieces of work may share one."""

    __slots__ = ("delivered", "error")

    def __init__(self, error: BaseException, *, delivered: bool = False) -> None:
        self.error = error
        self.delivered = delivered
        """Somebody has been told."""

    def deliver(self) -> None:
        """Raises the error."""
        self.delivered = True
        raise self.error


class Completion:
    """The end of one launch, replay or copy. Finished once, by whoever does the work."""

    __slots__ = ("__weakref__", "_callbacks", "_open", "_pending", "done", "failure", "name", "thread", "uses")

    def __init__(self, name: str, thread: int | None = None) -> None:
        self.name = name
        self.done = False
        self.failure: Failure | None = None
        self.thread = thread
        """The thread that does the work, if it is not the one that asked for it: that one must not wait for it."""
        self.uses: Any = ()
        """What it borrows (``memory.py``)."""
        self._pending = 0
        """Earlier work that must end before this, which was given up, may count as ended."""
        self._callbacks: list[Callable[[Completion], object]] | None = None
        self._open = threading.Lock()
        self._open.acquire()

    @property
    def unseen(self) -> bool:
        """Whether it failed and nobody has been told."""
        return self.failure is not None and not self.failure.delivered

    def finish(self, failure: Failure | None = None) -> None:
        """The work has ended; wakes all who wait and runs the callbacks, in this thread. Once: again does nothing."""
        with LOCK:
            if self.done or self._pending:
                return
            self.failure = failure
            self.done = True
            callbacks, self._callbacks = self._callbacks, None
            IN_FLIGHT.pop(self, None)
        self.uses = ()
        self._open.release()
        for callback in callbacks or ():
            callback(self)

    def forsake(self, error: BaseException) -> None:
        """Nobody is left to do the work (after a fork): whoever waits for it gets the error."""
        if not self.done:
            self.failure, self.done, self._callbacks = Failure(error), True, None
            self._open.release()

    def abandon(self, before: Iterable[Completion]) -> None:
        """The work does not take place. It counts as ended when what it waited for has: later work waits only for this."""
        left = [earlier for earlier in before if not earlier.done]
        if not left:
            self.finish()
            return
        failures: list[Failure] = []
        self._pending = len(left)

        def ended(earlier: Completion) -> None:
            with LOCK:
                self._pending -= 1
                last = self._pending == 0
                if earlier.failure is not None:
                    failures.append(earlier.failure)
            if last:
                self.finish(failures[0] if failures else None)

        for earlier in left:
            earlier.then(ended)

    def wait(self, timeout: float | None = None) -> bool:
        """Returns True when the work has ended, False after ``timeout`` seconds. It does not raise the work's error."""
        if self.done:
            return True
        if self.thread == threading.get_ident():
            raise ZelligeError(
                "ZL0523", f"'{self.name}' is waited for by the thread that has yet to do it",
                help="callbacks must not wait for their own stream",
            )  # fmt: skip
        if not self._open.acquire(timeout=-1 if timeout is None else timeout):
            return False
        self._open.release()
        return True

    def check(self) -> None:
        """Raises the error that the ended work met, if it met one."""
        if self.failure is not None:
            self.failure.deliver()

    def then(self, callback: Callable[[Completion], object]) -> None:
        """Calls ``callback(self)`` at the end, in the thread that does the work; at once if that is past.

        It must be quick, must not raise, and must not wait for the same stream."""
        with LOCK:
            if not self.done:
                self._callbacks = [*(self._callbacks or ()), callback]
                return
        callback(self)


class Event:
    """A point in a stream's work: wait for it on the host, in another stream (``stream.wait``), or with ``await``."""

    def __init__(self, completion: Completion | None) -> None:
        self._completion = completion

    @property
    def done(self) -> bool:
        """Whether all work before the point has ended."""
        return self._completion is None or self._completion.done

    @property
    def completion(self) -> Completion | None:
        """The last piece of work before the point; None if there was none."""
        return self._completion

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the work before the point; False after ``timeout`` seconds. Raises the last work's error."""
        if self._completion is None:
            return True
        if not self._completion.wait(timeout):
            return False
        self._completion.check()
        return True

    def then(self, callback: Callable[[], object]) -> None:
        """Calls ``callback()`` when the work before the point has ended: how a resource that the work used is given back.

        It runs in the stream's thread, or at once; it must be quick and must not raise."""
        if self._completion is None:
            callback()
        else:
            self._completion.then(lambda _: callback())

    async def ended(self) -> None:
        """Waits for the work before the point, whatever came of it."""
        completion = self._completion
        if completion is None or completion.done:
            return
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def tell(_: Completion) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(resolve)

        completion.then(tell)
        await future

    def __await__(self) -> Generator[Any, None, None]:
        yield from self.ended().__await__()
        if self._completion is not None:
            self._completion.check()
