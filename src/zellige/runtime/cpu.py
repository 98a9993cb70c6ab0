"""Launches on the CPU backend: compiled for their sizes once, run at once or recorded."""

from __future__ import annotations

import ctypes
import os
from array import array as word_array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.types import Role
from zellige.runtime.admission import Admission
from zellige.runtime.binding import Binding
from zellige.runtime.completion import Completion
from zellige.runtime.guards import guard_error
from zellige.runtime.host import HostArrays
from zellige.runtime.instances import Instance
from zellige.runtime.plan import Plan
from zellige.runtime.tensor import Tensor

if TYPE_CHECKING:
    from zellige.backends.cpu.compile import CompiledKernel
    from zellige.backends.cpu.pool import Pool, Recording

_GUARDS_PASSED = 0
_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class PreparedPlan:
    """A plan's machine code, with the argument words that are the same for each call."""

    __slots__ = ("_entry", "_flag", "_pointers", "_scalars", "_words", "kernel", "programs")

    def __init__(self, kernel: CompiledKernel, plan: Plan, strides: Mapping[str, tuple[int, ...]]) -> None:
        from zellige.backends.cpu.compile import scalar_word

        self.kernel = kernel
        self.programs = kernel.num_programs(plan.dims)
        self._entry = _ENTRY(kernel.entry_address)
        addresses = dict.fromkeys(plan.names, 0)
        unset = {s.name: 0 for s in plan.instance.function.scalars}
        self._words = word_array("q", kernel.pack(addresses, plan.dims, unset, strides))
        places = {name: i for i, name in enumerate(plan.names)}
        self._pointers = [(at, places[s.name]) for at, s in enumerate(kernel.slots) if s.kind == "pointer"]
        self._scalars = [(at, s.name, scalar_word, s.dtype) for at, s in enumerate(kernel.slots) if s.dtype is not None]
        self._flag = next((at for at, s in enumerate(kernel.slots) if s.kind == "flag"), None)

    def run(self, pool: Pool, held: Sequence[Tensor], scalars: Mapping[str, Any]) -> int:
        """Runs all programs and returns 0, or 1 + the number of a guard that failed."""
        words = self._words[:]
        for at, i in self._pointers:
            words[at] = held[i].address
        for at, name, to_word, dtype in self._scalars:
            words[at] = to_word(scalars[name], dtype)
        flag = None
        if self._flag is not None:
            flag = ctypes.c_int64(_GUARDS_PASSED)
            words[self._flag] = ctypes.addressof(flag)
        if self.programs == 1:  # not worth waking anybody
            self._entry(words.buffer_info()[0], 0, 1)
        elif self.programs:
            pool.launch(self.kernel.entry_address, words, self.programs, self.kernel.claims)
        return 0 if flag is None else flag.value


@dataclass(slots=True)
class CompiledLaunch:
    """Machine code with its argument words: what the pool replays. ``dims`` may change between runs."""

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
        addresses = {name: held.address for name, held in self.tensors.items()}
        self.slots = self.kernel.pack(
            addresses, self.dims, self.scalars, _strides(self.tensors), ctypes.addressof(self.flag)
        )
        self.programs = self.kernel.num_programs(self.dims)

    def read_instead(self, name: str, copy: Tensor) -> None:
        """Takes another array that lies as the argument of that name does."""
        self.tensors = {**self.tensors, name: copy}
        self._pack()

    def memory(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Address ranges (first, end) of the arrays that it reads, and of those that it writes."""
        reads: list[tuple[int, int]] = []
        writes: list[tuple[int, int]] = []
        for array in self.instance.function.arrays:
            low, high = self.tensors[array.name].span
            if low < high:
                (reads if array.role is Role.IN else writes).append((low, high))
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
            raise guard_error(self.kernel.name, self.kernel.guards[failed - 1])


def _strides(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Strides, in elements, of the arrays that are not row-major without gaps."""
    return {name: held.layout.strides for name, held in tensors.items() if held.layout.strides is not None}


class CpuExecutor(HostArrays):
    """Compiles launches for the host and runs them on a pool of threads."""

    asynchronous = False
    plan_key = "cpu"
    _default: CpuExecutor | None = None

    def __init__(self, pool: Pool, target: str = "host") -> None:
        self.pool = pool
        self.target = target
        self.checks = int(os.environ.get("ZELLIGE_CHECK") or 0)
        """0: none; 1: outputs poisoned, memory around arguments watched; 2: and compared with the interpreter."""

    @classmethod
    def default(cls) -> CpuExecutor:
        """The executor on the process's own pool, for the instruction set that ZELLIGE_CPU_TARGET names, or the machine's."""
        if cls._default is None:
            from zellige.backends.cpu.pool import default_pool

            cls._default = cls(default_pool(), os.environ.get("ZELLIGE_CPU_TARGET", "host"))
        return cls._default

    def free_bytes(self) -> int:
        """Main memory that can be had without swapping. OSError if the system does not say."""
        try:
            for line in Path("/proc/meminfo").read_text().splitlines():
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass  # not Linux
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """Static parameters that suit these sizes: measured on this machine (`zellige tune`), or good ones for its kind."""
        from zellige.runtime import cpu_tuned

        return cpu_tuned.statics(kernel, dims, self.target)

    # --- launches
    def prepared(self, binding: Binding) -> PreparedPlan:
        """Machine code for a plan; made once."""
        plan = binding.plan
        found = plan.prepared.get(self)
        if found is None:
            kernel = self._compiled(plan.instance, binding)
            found = plan.prepared[self] = PreparedPlan(kernel, plan, _strides(binding.tensors))
        made: PreparedPlan = found
        return made

    def _compiled(self, instance: Instance, binding: Binding) -> CompiledKernel:
        strided = frozenset(_strides(binding.tensors))
        fixed = tuple((name, binding.dims[name]) for name in instance.tile_dims)
        key = (self.target, fixed, strided)
        found = instance.compiled.get(key)
        if found is None:
            from zellige.backends.cpu.compile import compile

            with instance.lock:
                found = instance.compiled.get(key)
                if found is None:
                    found = compile(instance.function, dict(fixed), self.target, strided=strided)
                    instance.compiled[key] = found
        made: CompiledKernel = found
        return made

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Runs one launch and returns when it has completed. GuardError if a guard failed."""
        plan = binding.plan
        ready = plan.prepared.get(self) or self.prepared(binding)
        if plan.has_preconditions:
            plan.check_preconditions(binding.scalars)
        admission = Admission(binding, Completion(plan.kernel), asynchronous=False)
        try:
            admission.settle()
            failed = self.run(ready, binding)
        except BaseException:
            admission.abandon()
            raise
        admission.completion.finish()
        if failed:
            raise guard_error(ready.kernel.name, ready.kernel.guards[failed - 1])

    def run(self, ready: PreparedPlan, binding: Binding) -> int:
        """Runs a launch whose arguments have been borrowed; 0, or 1 + the number of a guard that failed."""
        if self.checks:
            from zellige.runtime.checked import run_checked

            return run_checked(self, binding, compare=self.checks > 1)
        for i, start in binding.plan.fills:
            binding.held[i].storage[...] = start
        return ready.run(self.pool, binding.held, binding.scalars)

    def run_or_raise(self, ready: PreparedPlan, binding: Binding) -> None:
        """``run``; GuardError if a guard failed."""
        failed = self.run(ready, binding)
        if failed:
            raise guard_error(ready.kernel.name, ready.kernel.guards[failed - 1])

    # --- recordings (used by ``Graph``)
    def prepare(self, instance: Instance, binding: Binding) -> CompiledLaunch:
        """The compiled launch for checked arguments. ZelligeError ZL0507 if a precondition does not hold."""
        binding.plan.check_preconditions(binding.scalars)
        kernel = self._compiled(instance, binding)
        return CompiledLaunch(instance, kernel, binding.tensors, dict(binding.dims), dict(binding.scalars))

    def new_recording(self) -> CpuRecording:
        """An empty sequence of launches."""
        return CpuRecording()

    def finish(self, recording: CpuRecording) -> None:
        """Takes over what launches read instead of others' arrays; they were compiled as they were added."""
        recording.update()

    def replay(self, recording: CpuRecording) -> None:
        """Runs a recorded sequence and returns when it has completed."""
        self.pool.replay(recording.native)


class CpuRecording:
    """Launches that the pool replays with one call."""

    def __init__(self) -> None:
        from zellige.backends.cpu.pool import Recording

        self.native: Recording = Recording()
        self._launches: list[CompiledLaunch] = []
        self._reads: list[tuple[int, int]] = []
        self._writes: list[tuple[int, int]] = []

    def append(self, launch: CompiledLaunch) -> int:
        """Adds a launch; its position. ZelligeError ZL0516 if it has more programs than one of a graph may have.

        It runs beside the launches before it, without a barrier, as long as none of them writes memory that another of
        them touches: what a kernel reads and writes is known from the roles of its arrays."""
        if launch.programs >= 1 << 31:
            raise ZelligeError(
                "ZL0516", f"'{launch.kernel.name}' would run {launch.programs} programs; a launch in a graph has fewer than 2**31",
                help="give each program more to do",
            )  # fmt: skip
        reads, writes = launch.memory()
        independent = bool(len(self.native)) and not (
            _meet(writes, self._writes) or _meet(writes, self._reads) or _meet(reads, self._writes)
        )
        if not independent:
            self._reads, self._writes = [], []
        self._reads += reads
        self._writes += writes
        self._launches.append(launch)
        return self.native.add(
            launch.entry_address, launch.slots, launch.programs, independent=independent, claims=launch.kernel.claims
        )

    def update(self) -> None:
        """Takes over the arguments of all launches."""
        for position, launch in enumerate(self._launches):
            self.changed(position, launch)

    def changed(self, position: int, launch: CompiledLaunch) -> None:
        """Takes over a launch's changed dims or scalars."""
        self.native.slots(position)[:] = launch.slots
        self.native.set_programs(position, launch.programs)


def _meet(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> bool:
    """Whether a byte belongs to a range of both lists; ranges are (first address, end)."""
    return any(begin < other_end and other_begin < end for begin, end in some for other_begin, other_end in others)
