"""Who carries out launches: at once on a backend, or into a recording. One executor is current in each context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.dtypes import DType
from zellige.runtime.binding import Binding
from zellige.runtime.instances import Instance
from zellige.runtime.tensor import Tensor


class Executor(Protocol):
    """Carries out launches of verified instances, on tensors that are at its ``place``.

    ``asynchronous``: launches may run after the call has returned. ``plan_key``: executors that bind calls alike have the
    same. ``copies``: a plain array that is read is copied, since the work ends later or is done elsewhere. ``turn``: held while
    a launch or a replay is checked and given, where that is not ordered otherwise."""

    asynchronous: bool
    copies: bool

    @property
    def turn(self) -> AbstractContextManager[Any]: ...

    @property
    def plan_key(self) -> str: ...

    @property
    def place(self) -> str: ...

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Runs or records one launch whose arguments fit. What depends on their contents is checked here."""

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """An uninitialised tensor where launches run."""

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """A cleared tensor where launches run."""

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor:
        """A tensor where launches run, with a copy of a host array."""

    def gathered(self, pieces: Sequence[NDArray[Any]], shape: Sequence[int], dtype: DType) -> Tensor:
        """A tensor where launches run, with a copy of host arrays of its element type, one after the other."""

    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """Starts a download; the function given back waits for it."""

    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """Static parameters that suit these sizes, for those that a call leaves out."""


_chosen: ContextVar[tuple[Executor, ...]] = ContextVar("zellige_executors", default=())
"""Executors of the ``with`` blocks around, innermost last: of this thread, or of this asyncio task."""


def current_executor() -> Executor:
    """The executor that launches go to; the CPU's unless a ``with`` chose another."""
    chosen = _chosen.get()
    return chosen[-1] if chosen else executor_named("cpu")


def enter(executor: Executor) -> None:
    """Launches go to ``executor`` until ``leave``."""
    _chosen.set((*_chosen.get(), executor))


def leave(executor: Executor) -> None:
    """Undoes the last ``enter(executor)``."""
    chosen = _chosen.get()
    last = len(chosen) - 1 - chosen[::-1].index(executor)
    _chosen.set(chosen[:last])


def executor_named(name: str) -> Executor:
    """``cpu``, ``reference``, ``cuda`` or ``cuda:1`` (a GPU by number). ZelligeError ZL0509 for another name."""
    if name == "cpu":
        from zellige.runtime.cpu import CpuExecutor

        return CpuExecutor.default()
    kind, _, number = name.partition(":")
    if kind == "cuda" and (not number or number.isdecimal()):
        from zellige.runtime.cuda.executor import CudaExecutor

        return CudaExecutor.default(int(number or 0))
    if name == "reference":
        from zellige.runtime.reference import ReferenceExecutor

        return ReferenceExecutor()
    raise ZelligeError("ZL0509", f"there is no backend '{name}'", help="cpu, cuda, cuda:1, reference")


@contextmanager
def using(executor: Executor | str) -> Iterator[Executor]:
    """Launches inside the ``with`` go to ``executor`` (or the backend of that name)."""
    chosen = executor_named(executor) if isinstance(executor, str) else executor
    enter(chosen)
    try:
        yield chosen
    finally:
        leave(chosen)
