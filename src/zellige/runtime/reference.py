"""Launches on the reference interpreter: slow, with shadow memory that reports every misuse."""

from __future__ import annotations

from typing import Any

from zellige.runtime.admission import Admission
from zellige.runtime.binding import Binding
from zellige.runtime.completion import Completion
from zellige.runtime.guards import guard_error
from zellige.runtime.host import HostArrays
from zellige.runtime.instances import Instance


class ReferenceExecutor(HostArrays):
    """Runs launches in the interpreter."""

    asynchronous = False
    plan_key = "cpu"

    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """The kernel's own defaults."""
        return {}

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Interprets one launch; raises what the shadow memory finds."""
        from zellige.backends.reference import run

        plan = binding.plan
        plan.check_preconditions(binding.scalars)
        admission = Admission(binding, Completion(plan.kernel), asynchronous=False)
        try:
            admission.settle()
            arrays = {name: held.storage for name, held in binding.tensors.items()}
            report = run(instance.function, plan.dims, arrays, binding.scalars)
        except BaseException:
            admission.abandon()
            raise
        admission.completion.finish()
        if report.guards:
            raise guard_error(plan.kernel, report.guards[0].message)
