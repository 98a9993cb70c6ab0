"""Streams of a GPU beside the first: ``with zl.stream() as s:`` inside ``with zl.using("cuda")``."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import numpy as np

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.execution import enter, leave
from zellige.runtime.memory import AliasError
from zellige.runtime.tensor_type import Tensor


class CudaEvent:
    """A point in a stream's work: wait for it on the host, in another stream (``stream.wait``), or with ``await``."""

    def __init__(self, stream: CudaStream) -> None:
        self._event = None
        if stream.device is not None:
            stream.device.use()
            self._event = stream.stream.record()

    @property
    def done(self) -> bool:
        """Whether all work before the point has ended."""
        return self._event is None or bool(self._event.is_done)

    def wait(self) -> None:
        """Waits for the work before the point."""
        if self._event is not None:
            self._event.sync()

    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.to_thread(self.wait).__await__()


class CudaStream(CudaExecutor):
    """Work in order on a GPU, beside that of its other streams; where it uses what those use, the GPU keeps the order in which
    both were given. A failed guard (ZL0522) is raised by the next wait."""

    # --- waiting
    def synchronize(self) -> None:
        """Waits for all work given so far. GuardError ZL0522 if a guard failed."""
        self.synchronise()

    def event(self) -> CudaEvent:
        """The point that the stream's work has reached so far on the host."""
        return CudaEvent(self)

    def wait(self, event: CudaEvent) -> None:
        """Work given from now on runs after ``event``. (Tensors in common need no such call.)"""
        if event._event is not None and self.device is not None:
            self.device.use()
            with self.order.lock:
                self.stream.wait(event._event)

    @property
    def done(self) -> bool:
        """Whether all work given so far has ended."""
        return self.event().done

    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.to_thread(self.synchronise).__await__()

    def copy(self, source: Any, target: Tensor) -> CudaEvent:
        """Copies ``source`` (a tensor of this GPU, or a host array, which may change at once) to ``target``, in stream order.

        ZelligeError ZL0502 or ZL0501 if shapes or dtypes differ, ZL0504 if the source was never written, ZL0503 if they overlap,
        ZL0527 if they are elsewhere."""
        if not isinstance(source, Tensor):
            source = self.tensor(np.asarray(source, target.storage.dtype), target.dtype)
        if source.shape != target.shape or source.dtype is not target.dtype:
            code = "ZL0502" if source.shape != target.shape else "ZL0501"
            raise ZelligeError(
                code,
                f"a {source.dtype} tensor of shape {source.shape} is copied to {target.dtype} of shape {target.shape}",
            )
        if {source.place, target.place} != {self.place}:
            raise ZelligeError(
                "ZL0527", f"a stream of {self.place} copies from {source.place} to {target.place}",
                help="read it with numpy(), or write()",
            )  # fmt: skip
        if not (source.storage.flags.c_contiguous and target.storage.flags.c_contiguous):
            raise ZelligeError("ZL0502", "a tensor with gaps is not copied on a GPU", help="copy it whole")
        if source.span[0] < target.span[1] and target.span[0] < source.span[1]:
            raise AliasError("ZL0503", "a tensor is copied to memory that it shares", help="copy to another tensor")
        if not target.storage.flags.writeable:
            raise ZelligeError(
                "ZL0503", "a tensor is copied to memory that is read-only", help="copy to another tensor"
            )
        with self.order.lock:
            if not source.initialised:
                raise ZelligeError("ZL0504", "a tensor is copied before anything was written to it")
            facts = source.facts
            if self.device is not None:
                with self.ordered((source.storage.memory.users, False), (target.storage.memory.users, True)):
                    self._staging.move(source.storage, target.storage)
            target.forget()
            target.memory.mark_written(target)
            for fact in facts:
                target.learn(fact)
        return self.event()

    # --- with
    def __enter__(self) -> CudaStream:
        enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        leave(self)

    def __repr__(self) -> str:
        return f"<zl.stream of {self.place}>"
