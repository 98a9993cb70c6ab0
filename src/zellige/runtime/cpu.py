"""Launches on the CPU backend: compiled for their sizes once, run at once or recorded."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.dtypes import DType
from zellige.ir.types import Role
from zellige.runtime import preconditions
from zellige.runtime.binding import Binding
from zellige.runtime.execution import clear_accumulators, note_writes
from zellige.runtime.instances import Instance
from zellige.runtime.tensor import Tensor, empty, tensor, zeros

if TYPE_CHECKING:
    from zellige.backends.cpu.compile import CompiledKernel
    from zellige.backends.cpu.pool import Pool, Recording

_GUARDS_PASSED = 0


class GuardError(ZelligeError):
    """A ``zl.guard`` failed on the device: an index was out of bounds, and the lanes that used it were inactive."""


@dataclass(slots=True)
class CompiledLaunch:
    """Machine code with its argument words: what the pool runs. ``dims`` may change between runs."""

    instance: Instance
    kernel: CompiledKernel
    tensors: Mapping[str, Tensor]
    dims: dict[str, int]
    scalars: dict[str, Any]
    flag: ctypes.c_int64 = field(default_factory=lambda: ctypes.c_int64(0))
    slots: list[int] = field(default_factory=list)
    programs: int = 0

    def __post_init__(self) -> None:
        self._pack()

    def _pack(self) -> None:
        addresses = {name: held.storage.ctypes.data for name, held in self.tensors.items()}
        strides = {
            name: tuple(s // held.storage.itemsize for s in held.storage.strides)
            for name, held in self.tensors.items()
            if not held.storage.flags.c_contiguous
        }
        self.slots = self.kernel.pack(addresses, self.dims, self.scalars, strides, ctypes.addressof(self.flag))
        self.programs = self.kernel.num_programs(self.dims)

    def memory(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Address ranges (first, end) of the arrays that it reads, and of those that it writes."""
        reads, writes = [], []
        for array in self.instance.function.arrays:
            held = self.tensors[array.name].storage
            if held.size:
                (reads if array.role is Role.IN else writes).append(byte_bounds(held))
        return reads, writes

    @property
    def guards(self) -> tuple[str, ...]:
        """Messages of the kernel's guards."""
        return self.kernel.guards

    @property
    def entry_address(self) -> int:
        """Address of the machine code."""
        return self.kernel.entry_address

    def set_dim(self, name: str, size: int) -> None:
        """Changes a run-time dim."""
        self.dims[name] = size
        for position, slot in enumerate(self.kernel.slots):
            if slot.kind == "dim" and slot.name == name:
                self.slots[position] = size
        self.programs = self.kernel.num_programs(self.dims)

    def set_scalars(self, scalars: Mapping[str, Any]) -> None:
        """Changes scalar arguments."""
        self.scalars = dict(scalars)
        self._pack()

    def check_guards(self) -> None:
        """GuardError if a guard failed in the last run."""
        failed = self.flag.value
        if failed != _GUARDS_PASSED:
            self.flag.value = _GUARDS_PASSED
            raise GuardError(
                "ZL0522", f"{self.kernel.name}: {self.kernel.guards[failed - 1]}", help="correct the index data"
            )


class CpuExecutor:
    """Compiles launches for the host and runs them on a pool of threads."""

    _default: CpuExecutor | None = None

    def __init__(self, pool: Pool, target: str = "host") -> None:
        self.pool = pool
        self.target = target

    @classmethod
    def default(cls) -> CpuExecutor:
        """The executor on the process's own pool."""
        if cls._default is None:
            from zellige.backends.cpu.pool import default_pool

            cls._default = cls(default_pool())
        return cls._default

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """An uninitialised tensor in host memory."""
        return empty(shape, dtype)

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """A cleared tensor in host memory."""
        return zeros(shape, dtype)

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor:
        """A tensor in host memory with a copy of an array."""
        return tensor(values, dtype)

    def prepare(self, instance: Instance, binding: Binding) -> CompiledLaunch:
        """The compiled launch for checked arguments. ZelligeError ZL0507 if a precondition does not hold."""
        preconditions.check(instance.function, binding.dims, binding.scalars)
        clear_accumulators(instance, binding)
        kernel = self._compiled(instance, binding)
        return CompiledLaunch(instance, kernel, binding.tensors, dict(binding.dims), dict(binding.scalars))

    def _compiled(self, instance: Instance, binding: Binding) -> CompiledKernel:
        strided = frozenset(n for n, held in binding.tensors.items() if not held.storage.flags.c_contiguous)
        fixed = tuple((name, binding.dims[name]) for name in instance.tile_dims)
        key = (self.target, fixed, strided)
        found = instance.compiled.get(key)
        if found is None:
            from zellige.backends.cpu.compile import compile

            found = instance.compiled[key] = compile(instance.function, dict(fixed), self.target, strided=strided)
        made: CompiledKernel = found
        return made

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Runs one launch and returns when it has completed. GuardError if a guard failed."""
        ready = self.prepare(instance, binding)
        self.pool.launch(ready.entry_address, ready.slots, ready.programs)
        note_writes(instance, binding)
        ready.check_guards()

    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """What a tensor holds now, as a function (work here is done when it is given)."""
        held = source.numpy().copy()
        return lambda: held

    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """Static parameters that suit these sizes: the kernel's own defaults."""
        return {}

    def new_recording(self) -> CpuRecording:
        """An empty sequence of launches."""
        return CpuRecording()

    def finish(self, recording: CpuRecording) -> None:
        """Nothing to do: launches were compiled as they were added."""

    def replay(self, recording: CpuRecording) -> None:
        """Runs a recorded sequence and returns when it has completed."""
        self.pool.replay(recording.native)


class CpuRecording:
    """Launches that the pool replays with one call."""

    def __init__(self) -> None:
        from zellige.backends.cpu.pool import Recording

        self.native: Recording = Recording()
        self._reads: list[tuple[int, int]] = []
        self._writes: list[tuple[int, int]] = []

    def append(self, launch: CompiledLaunch) -> int:
        """Adds a launch; its position.

        It runs beside the launches before it, without a barrier, as long as none of them writes memory that another of
        them touches: what a kernel reads and writes is known from the roles of its arrays."""
        reads, writes = launch.memory()
        independent = bool(len(self.native)) and not (
            _meet(writes, self._writes) or _meet(writes, self._reads) or _meet(reads, self._writes)
        )
        if not independent:
            self._reads, self._writes = [], []
        self._reads += reads
        self._writes += writes
        return self.native.add(launch.entry_address, launch.slots, launch.programs, independent=independent)

    def changed(self, position: int, launch: CompiledLaunch) -> None:
        """Takes over a launch's changed dims or scalars."""
        self.native.slots(position)[:] = launch.slots
        self.native.set_programs(position, launch.programs)


def _meet(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> bool:
    """Whether a byte belongs to a range of both lists; ranges are (first address, end)."""
    return any(begin < other_end and other_begin < end for begin, end in some for other_begin, other_end in others)
