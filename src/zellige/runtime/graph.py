"""Recorded launches: captured once with everything a launch must check, replayed with one native call.

    with zl.record() as graph:          # launches inside are recorded, not run
        y = kernel_a(x)
        z = kernel_b(y)
    graph.replay()

A graph owns the tensors it captured. Contracts on its inputs were checked at capture; a replay checks again those whose
contents somebody else has written since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.dtypes import DType
from zellige.ir.extent import Dim
from zellige.ir.types import ArrayParam, Role
from zellige.runtime import preconditions
from zellige.runtime.binding import Binding, check_scalar, fact_of
from zellige.runtime.contracts import Fact, broken
from zellige.runtime.execution import current_executor, note_writes, using
from zellige.runtime.instances import Instance
from zellige.runtime.tensor import Tensor


@dataclass(slots=True)
class _Step:
    """One recorded launch."""

    launch: Any
    """What the executor prepared: its ``instance``, ``dims`` and ``guards``."""
    binding: Binding
    position: int


class Graph:
    """A sequence of launches that owns its tensors. Made by ``record``."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._recording = executor.new_recording()
        self._steps: list[_Step] = []
        self._inputs: list[tuple[_Step, ArrayParam]] = []
        self._needs: list[tuple[Tensor, Fact, str]] | None = None
        self._made: dict[int, Tensor] = {}
        self._established: list[tuple[Tensor, tuple[Fact, ...]]] = []
        self._sizes: dict[str, int] = {}
        self._guarded: list[_Step] = []

    def __len__(self) -> int:
        return len(self._steps)

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Records one launch (called by kernels inside ``record``)."""
        launch = self._executor.prepare(instance, binding)
        position = self._recording.append(launch)
        step = _Step(launch, binding, position)
        for array in instance.function.arrays:
            held = binding.tensors[array.name]
            if array.contract is not None and array.role is not Role.OUT and not self._writes(held):
                self._inputs.append((step, array))
            if array.role is not Role.IN and not held.initialised:
                self._made[id(held)] = held
        self._steps.append(step)
        if launch.guards:
            self._guarded.append(step)
        if any(array.init is not None for array in instance.function.arrays):
            raise ZelligeError("ZL0521", f"{instance.function.name}: Acc(init=…) arguments cannot be recorded yet")
        note_writes(instance, binding)

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """An uninitialised tensor where the graph will run."""
        made: Tensor = self._executor.empty(shape, dtype)
        return made

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """A cleared tensor where the graph will run."""
        made: Tensor = self._executor.zeros(shape, dtype)
        return made

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor:
        """A tensor where the graph will run, with a copy of a host array."""
        made: Tensor = self._executor.tensor(values, dtype)
        return made

    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """Not while recording: nothing has run."""
        raise ZelligeError("ZL0504", "a tensor is read while launches are recorded", help="replay the graph first")

    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """Static parameters that the graph's executor prefers."""
        chosen: dict[str, Any] = self._executor.statics(kernel, dims)
        return chosen

    def _writes(self, held: Tensor) -> bool:
        return any(
            held is step.binding.tensors[a.name]
            for step in self._steps
            for a in step.launch.instance.function.arrays
            if a.role is not Role.IN and a.contract is not None
        )

    def close(self) -> None:
        """Ends the capture: nothing has run yet, so what it will write is not readable until the first replay."""
        written: dict[int, Tensor] = {}
        for step in self._steps:
            for array in step.launch.instance.function.arrays:
                if array.role is not Role.IN:
                    held = step.binding.tensors[array.name]
                    written[id(held)] = held
        self._established = [(held, held.facts) for held in written.values()]
        self._executor.finish(self._recording)
        for held in self._made.values():
            held.forget()
            held.initialised = False

    def replay(self) -> None:
        """Runs all launches in order and returns when they have completed.

        ZelligeError ZL0505 if an input written since the capture breaks the contract that the graph relies on."""
        if self._needs is None:
            self._needs = self._contracts_of_inputs()
        for held, fact, where in self._needs:
            if not any(known.suffices_for(fact) for known in held.facts):
                problem = broken(fact, held.storage)
                if problem:
                    raise ZelligeError(
                        "ZL0505", f"{where} breaks its contract {fact}: {problem}", help="correct the values"
                    )
                held.learn(fact)
        self._executor.replay(self._recording)
        for step in self._guarded:
            step.launch.check_guards()
        for held, facts in self._established:
            if held.facts == facts and held.initialised:
                continue
            held.forget()
            held.initialised = True
            for fact in facts:
                held.learn(fact)

    def _contracts_of_inputs(self) -> list[tuple[Tensor, Fact, str]]:
        """What must hold of the inputs at the present sizes, each thing once."""
        needs = {}
        for step, array in self._inputs:
            assert array.contract is not None
            held = step.binding.tensors[array.name]
            fact = fact_of(array.contract, step.launch.dims)
            needs[id(held), fact] = (held, fact, f"{step.launch.instance.function.name}: '{array.name}'")
        return list(needs.values())

    def resize(self, **dims: int) -> None:
        """Makes the recorded launches work on smaller extents: ``graph.resize(T=37)`` uses the first 37 rows.

        A dim may be resized if it is the leading axis of every array that names it, up to its size at capture.
        ZelligeError ZL0510 otherwise."""
        checked: set[Any] = set()
        for name, size in dims.items():
            if self._sizes.get(name) == size:
                continue
            for step in self._steps:
                full = step.binding.dims.get(name)
                if full is None:
                    continue
                self._check_resize(step, name, size, full)
                _check_once(checked, step, {**step.binding.dims, name: size})
                step.launch.set_dim(name, size)
                self._recording.changed(step.position, step.launch)
            self._sizes[name] = size
            self._needs = None

    @staticmethod
    def _check_resize(step: _Step, name: str, size: int, full: int) -> None:
        function = step.launch.instance.function
        leading = all(
            name not in extent.dims() or (axis == 0 and extent == Dim(name))
            for array in function.arrays
            for axis, extent in enumerate(array.shape)
        )
        if not 0 <= size <= full or not leading or name in step.launch.instance.tile_dims:
            raise ZelligeError(
                "ZL0521", f"{function.name}: dim {name} = {full} cannot be resized to {size} in a recorded graph"
            )

    def set_scalars(self, kernel: str, **scalars: Any) -> None:
        """Changes scalar arguments of every recorded launch of the kernel of that name."""
        done: set[Any] = set()
        for step in self._steps:
            if step.launch.instance.function.name == kernel:
                for scalar in step.launch.instance.function.scalars:
                    if scalar.name in scalars:
                        checked = check_scalar(kernel, scalar, scalars[scalar.name], step.launch.dims)
                        step.binding.scalars[scalar.name] = checked
                _check_once(done, step, step.launch.dims)
                step.launch.set_scalars(step.binding.scalars)
                self._recording.changed(step.position, step.launch)


def _check_once(done: set[Any], step: _Step, dims: dict[str, int]) -> None:
    """Checks the preconditions of a launch, unless those of one with the same kernel and values are in ``done``."""
    function, scalars = step.launch.instance.function, step.binding.scalars
    key = (id(function), *sorted(dims.items()), *sorted(scalars.items()))
    if key not in done:
        preconditions.check(function, dims, scalars)
        done.add(key)


@contextmanager
def record() -> Iterator[Graph]:
    """Launches inside the ``with`` are recorded, for the current executor, instead of run."""
    graph = Graph(current_executor())
    with using(graph):
        yield graph
    graph.close()
