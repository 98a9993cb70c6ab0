"""Launches on the reference interpreter: slow, with shadow memory that reports every misuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from zellige.ir.dtypes import DType
from zellige.runtime import preconditions
from zellige.runtime.binding import Binding
from zellige.runtime.execution import clear_accumulators, note_writes
from zellige.runtime.instances import Instance
from zellige.runtime.tensor import Tensor, empty, tensor, zeros


class ReferenceExecutor:
    """Runs launches in the interpreter."""

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """An uninitialised tensor in host memory."""
        return empty(shape, dtype)

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """A cleared tensor in host memory."""
        return zeros(shape, dtype)

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor:
        """A tensor in host memory with a copy of an array."""
        return tensor(values, dtype)

    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """What a tensor holds now, as a function (work here is done when it is given)."""
        held = source.numpy().copy()
        return lambda: held

    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """The kernel's own defaults."""
        return {}

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Interprets one launch; raises what the shadow memory finds."""
        from zellige.backends.reference import run

        preconditions.check(instance.function, binding.dims, binding.scalars)
        clear_accumulators(instance, binding)
        arrays = {name: held.storage for name, held in binding.tensors.items()}
        run(instance.function, binding.dims, arrays, binding.scalars)
        note_writes(instance, binding)
