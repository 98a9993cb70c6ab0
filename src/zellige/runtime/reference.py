"""Launches on the reference interpreter: slow, with shadow memory that reports every misuse."""

from __future__ import annotations

from zellige.runtime import preconditions
from zellige.runtime.binding import Binding
from zellige.runtime.execution import clear_accumulators, note_writes
from zellige.runtime.instances import Instance


class ReferenceExecutor:
    """Runs launches in the interpreter."""

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Interprets one launch; raises what the shadow memory finds."""
        from zellige.backends.reference import run

        preconditions.check(instance.function, binding.dims, binding.scalars)
        clear_accumulators(instance, binding)
        arrays = {name: held.storage for name, held in binding.tensors.items()}
        run(instance.function, binding.dims, arrays, binding.scalars)
        note_writes(instance, binding)
