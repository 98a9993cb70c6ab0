"""Launches on the reference interpreter: slow, with shadow memory that reports every misuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from zellige.ir.dtypes import DType
from zellige.runtime.admission import Admission
from zellige.runtime.binding import Binding
from zellige.runtime.completion import Completion
from zellige.runtime.cpu import GUARD_HELP, GuardError
from zellige.runtime.instances import Instance
from zellige.runtime.tensor import Tensor, empty, tensor, zeros


class ReferenceExecutor:
    """Runs launches in the interpreter."""

    asynchronous = False
    plan_key = "cpu"
    borrows = True

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

        plan = binding.plan
        plan.check_preconditions(binding.scalars)
        admission = Admission(plan, binding.held, Completion(plan.kernel), asynchronous=False)
        try:
            admission.settle()
            arrays = {name: held.storage for name, held in binding.tensors.items()}
            report = run(instance.function, plan.dims, arrays, binding.scalars)
        except BaseException:
            admission.abandon()
            raise
        admission.completion.finish()
        if report.guards:
            raise GuardError("ZL0522", f"{plan.kernel}: {report.guards[0].message}", help=GUARD_HELP)
