"""Streams: launches, replays and copies that run one after another in a thread of their own, while the host goes on.

with zl.stream() as s:
    y = kernel(x)          # returns at once
y.numpy()                  # waits for the kernel
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.admission import Admission
from zellige.runtime.binding import Binding
from zellige.runtime.completion import LOCK, Completion, Event, Failure
from zellige.runtime.cpu import CpuExecutor
from zellige.runtime.execution import current_executor, enter, leave
from zellige.runtime.host import HostArrays
from zellige.runtime.instances import Instance
from zellige.runtime.memory import CLOCK, AliasError, claim_locked
from zellige.runtime.tensor import Tensor
from zellige.runtime.tensor_type import HOST

if TYPE_CHECKING:
    from zellige.runtime.cuda.stream import CudaStream


class _Worker:
    """The thread that does a stream's work. It lives until the stream is closed or collected and its work is done."""

    def __init__(self, name: str) -> None:
        self.queue: SimpleQueue[_Work | None] = SimpleQueue()
        self.failure: Failure | None = None
        """The first error since the last ``synchronize``: work behind it does not run, as in a program that raised."""
        self.thread = threading.Thread(target=self._loop, daemon=True, name=name)
        self.thread.start()

    def _loop(self) -> None:
        while True:
            work = self.queue.get()
            if work is None:
                return
            work.do(self)
            del work  # what it borrowed may be freed now


class _Work:
    """One thing to do when others have ended."""

    __slots__ = ("action", "before", "completion", "withdraw")

    def __init__(
        self,
        completion: Completion,
        before: Sequence[Completion],
        action: Callable[[], object],
        withdraw: Callable[[], object],
    ) -> None:
        self.completion = completion
        self.before = before
        self.action = action
        self.withdraw = withdraw

    def do(self, worker: _Worker) -> None:
        failure = worker.failure
        for earlier in self.before:
            earlier.wait()
            failure = failure or earlier.failure
        if failure is None:
            try:
                self.action()
            except BaseException as error:
                failure = Failure(error)
        if failure is not None:
            worker.failure = failure
            self.withdraw()
        self.completion.finish(failure)


_streams: weakref.WeakSet[Stream] = weakref.WeakSet()


class Stream(HostArrays):
    """Work in order, beside the host. ``with stream:`` sends launches to it; any thread may use it.

    Launches on different streams that use one tensor wait for each other where they must. An error stops the stream: what
    is behind it does not run, and the error is raised by the next call that uses the stream or reads what should have been
    written; ``synchronize`` raises it and makes the stream usable again."""

    asynchronous = True
    copies = True
    plan_key = "cpu"

    def __init__(self, name: str | None = None, executor: CpuExecutor | None = None) -> None:
        self.name = name or f"zellige-stream-{next(CLOCK)}"
        self._executor = executor or CpuExecutor.default()
        self._worker = _Worker(self.name)
        self._order = threading.RLock()  # whoever borrows first is in the queue first
        self._last: Completion | None = None
        self._process = os.getpid()
        self._finalizer = weakref.finalize(self, self._worker.queue.put, None)
        self._finalizer.atexit = False
        if not _streams:
            atexit.register(_finish_all)  # after the pool's own, so it runs before it
        _streams.add(self)

    # --- an executor
    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """Starts a copy of what a tensor holds at this point of the stream; the function given back waits for it."""
        held = self.empty(source.shape, source.dtype)
        self.copy(source, held)
        return held.numpy

    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """Static parameters that suit these sizes: the kernel's own defaults."""
        return {}

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Gives one launch to the stream. Everything that a call checks is checked now.

        A contract that is not known to hold is checked on the contents: that waits for their writer."""
        plan, executor = binding.plan, self._executor
        ready = executor.prepared(binding)
        plan.check_preconditions(binding.scalars)
        with self._order:
            self._check()
            completion = Completion(plan.kernel, self._worker.thread.ident)
            admission = Admission(binding, completion, asynchronous=True)
            try:
                admission.check_contracts()
            except BaseException:
                admission.abandon()
                raise
            self._put(completion, admission.before, lambda: executor.run_or_raise(ready, binding), admission.withdraw)

    def copy(self, source: Any, target: Tensor) -> Event:
        """Copies ``source`` (a tensor, or an array, which is copied at once) to ``target`` in stream order.

        Both belong to the copy until it has ended: writing the source, or using the target, waits. ZelligeError ZL0502 or
        ZL0501 if shapes or dtypes differ, ZL0504 if the source was never written, ZL0503 if they overlap or the target is
        read-only."""
        origin = source if isinstance(source, Tensor) else self._executor.tensor(source, target.dtype)
        if origin.shape != target.shape or origin.dtype is not target.dtype:
            code = "ZL0502" if origin.shape != target.shape else "ZL0501"
            raise ZelligeError(
                code,
                f"a {origin.dtype} tensor of shape {origin.shape} is copied to {target.dtype} of shape {target.shape}",
            )
        if {origin.place, target.place} != {self.place}:
            raise ZelligeError(
                "ZL0527",
                f"a stream of the CPU copies from {origin.place} to {target.place}",
                help="read it with numpy(), or write()",
            )
        if not target.storage.flags.writeable:
            raise ZelligeError(
                "ZL0503", "a tensor is copied to memory that is read-only", help="copy to another tensor"
            )
        low, high = origin.span
        start, end = target.span
        if low < end and start < high:
            raise AliasError("ZL0503", "a tensor is copied to memory that it shares", help="copy to another tensor")
        with self._order:
            self._check()
            completion = Completion("copy", self._worker.thread.ident)
            with LOCK:
                if not origin.initialised:
                    raise ZelligeError("ZL0504", "a tensor is copied before anything was written to it")
                before = claim_locked("copy", ((origin, False), (target, True)), completion, asynchronous=True)
                memory, unwritten, facts = target.memory, target.memory.unwritten, origin.facts
                target.forget()
                memory.mark_written(target)
                for fact in facts:
                    target.learn(fact)

            def withdraw() -> None:
                with LOCK:
                    target.forget()
                    memory.unwritten = unwritten

            def copy() -> None:
                target.storage[...] = origin.storage

            self._put(completion, before, copy, withdraw)
            return Event(completion)

    def submit(
        self,
        name: str,
        borrow: Callable[[Completion], Sequence[Completion]],
        action: Callable[[], object],
        withdraw: Callable[[], object],
    ) -> Completion:
        """Gives other work to the stream: ``borrow`` enters its uses and returns what must end first.

        If ``borrow`` raises, it has entered nothing, or abandoned the completion."""
        with self._order:
            self._check()
            completion = Completion(name, self._worker.thread.ident)
            try:
                before = borrow(completion)
            except BaseException:
                completion.finish()
                raise
            self._put(completion, before, action, withdraw)
        return completion

    def _put(
        self,
        completion: Completion,
        before: Sequence[Completion],
        action: Callable[[], object],
        withdraw: Callable[[], object],
    ) -> None:
        self._worker.queue.put(_Work(completion, before, action, withdraw))
        self._last = completion

    def _check(self) -> None:
        if self._process != os.getpid():
            raise ZelligeError(
                "ZL0523", f"stream '{self.name}' belongs to the parent process", help="make streams after the fork"
            )
        if not self._finalizer.alive:
            raise ZelligeError("ZL0523", f"stream '{self.name}' is closed", help="zl.stream() makes another")
        if self._worker.failure is not None:
            self._worker.failure.deliver()

    # --- waiting
    def event(self) -> Event:
        """The point that the stream's work has reached so far on the host."""
        with self._order:
            return Event(self._last)

    def wait(self, event: Event) -> None:
        """Work given from now on runs after ``event``. (Tensors in common need no such call.)"""
        before = event.completion
        if before is not None and not before.done:
            self.submit("wait", lambda _: (before,), _nothing, _nothing)

    @property
    def done(self) -> bool:
        """Whether all work given so far has ended."""
        return self._last is None or self._last.done

    def synchronize(self) -> None:
        """Waits for all work given so far. Raises the first error that it met; the stream is usable again."""
        with self._order:
            last = self._last
        if last is not None:
            last.wait()
        with self._order:
            failure = self._worker.failure
            if failure is not None and (self._last is None or self._last.done):
                self._worker.failure = None
                failure.deliver()

    def __await__(self) -> Generator[Any, None, None]:
        event = self.event()
        if event.completion is not None and not event.done:
            yield from Event(event.completion).ended().__await__()
        self.synchronize()

    def close(self) -> None:
        """Waits for all work and ends the stream's thread. Raises the first error that the work met."""
        try:
            self.synchronize()
        finally:
            self._finalizer()

    # --- with
    def __enter__(self) -> Stream:
        enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        leave(self)

    def __repr__(self) -> str:
        return f"<zl.stream {self.name}{'' if self.done else ', busy'}>"


def stream(name: str | None = None) -> Stream | CudaStream:
    """A new stream: ``with zl.stream() as s:`` sends the launches in the block to it. Of the CPU, or of the GPU that is in use."""
    current = current_executor()
    if current.place == HOST:
        return Stream(name)
    if not hasattr(current, "beside"):
        raise ZelligeError("ZL0521", "a stream of a GPU is made outside 'with zl.record()'")
    beside: CudaStream = current.beside()
    return beside


def _nothing() -> None:
    pass


def _finish_all() -> None:
    """At the end of the process: no thread may still run a kernel when memory goes away."""
    for one in list(_streams):
        if one._process == os.getpid() and one._last is not None:
            one._last.wait()
