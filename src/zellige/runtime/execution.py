"""Who carries out launches: at once on a backend, or into a recording. One executor is current in each context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.dtypes import DType
from zellige.ir.types import Role
from zellige.runtime.binding import Binding, fact_of
from zellige.runtime.instances import Instance
from zellige.runtime.tensor import Tensor


class Executor(Protocol):
    """Carries out launches of verified instances."""

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Runs or records one launch whose arguments have been checked."""

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """An uninitialised tensor where launches run."""

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """A cleared tensor where launches run."""

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor:
        """A tensor where launches run, with a copy of a host array."""

    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """Starts a download; the function given back waits for it."""

    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """Static parameters that suit these sizes, for those that a call leaves out."""


_current: ContextVar[Executor | None] = ContextVar("zellige_executor", default=None)


def current_executor() -> Executor:
    """The executor that launches go to; the CPU's unless a ``with`` chose another."""
    chosen = _current.get()
    if chosen is None:
        chosen = executor_named("cpu")
        _current.set(chosen)
    return chosen


def executor_named(name: str) -> Executor:
    """``cpu`` or ``reference``. ZelligeError ZL0509 for another name."""
    if name == "cpu":
        from zellige.runtime.cpu import CpuExecutor

        return CpuExecutor.default()
    if name == "cuda":
        from zellige.runtime.cuda.executor import CudaExecutor

        return CudaExecutor.open()
    if name == "reference":
        from zellige.runtime.reference import ReferenceExecutor

        return ReferenceExecutor()
    raise ZelligeError("ZL0509", f"there is no backend '{name}'", help="cpu, cuda, reference")


@contextmanager
def using(executor: Executor | str) -> Iterator[Executor]:
    """Launches inside the ``with`` go to ``executor`` (or the backend of that name)."""
    chosen = executor_named(executor) if isinstance(executor, str) else executor
    token = _current.set(chosen)
    try:
        yield chosen
    finally:
        _current.reset(token)


def note_writes(instance: Instance, binding: Binding) -> None:
    """After a launch: written tensors are initialised, and keep the contracts that the kernel was proved to establish."""
    for array in instance.function.arrays:
        if array.role is Role.IN:
            continue
        held = binding.tensors[array.name]
        held.forget()
        held.initialised = True
        if array.contract is not None:
            held.learn(fact_of(array.contract, binding.dims))


def clear_accumulators(instance: Instance, binding: Binding) -> None:
    """Stores the declared start value in every ``Acc(init=…)`` argument."""
    for array in instance.function.arrays:
        if array.init is not None:
            binding.tensors[array.name].storage[...] = array.init
            binding.tensors[array.name].initialised = True
