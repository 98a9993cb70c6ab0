"""Recorded launches as one kernel (``backends/cuda/sequence.py``): what depends on what, the table, and the launch.

A recording in this form means what it means as launches: each launch is the verified kernel with its own arguments, and one
that reads or writes what an earlier one writes, or writes what an earlier one reads, starts after that one's end.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zellige.backends.cuda.compiler import CompiledKernel, compile_lowered
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.parameters import Parameter
from zellige.backends.cuda.sequence import BEGIN, BODY, Body, Layout, lower_body, lower_sequence
from zellige.diagnostics.errors import InternalError, ZelligeError
from zellige.ir.dtypes import DType, i32, i64
from zellige.ir.types import Role
from zellige.runtime.binding import Binding
from zellige.runtime.cuda import tuned
from zellige.runtime.cuda.driver import PreparedCall
from zellige.runtime.cuda.launch import LoadedKernel
from zellige.runtime.cuda.order import Users
from zellige.runtime.cuda.prepared import (
    Earlier,
    PreparedLaunch,
    Ranges,
    constant_inputs,
    memory_range,
    overlap,
    uses_of,
)
from zellige.runtime.instances import Instance
from zellige.runtime.paths import cache_dir
from zellige.runtime.tensor import Tensor

if TYPE_CHECKING:
    from zellige.runtime.cuda.executor import CudaExecutor

MOST_REGISTERS = 255
"""Of a thread."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a sequence runs as one kernel; never changes what it computes but for the order inside one program's sums."""

    schedules: str = "one kernel"
    """The table that static parameters and options are taken from."""
    warps: int | None = None
    """Of a program; None: as many as the launch that wants most."""
    programs: int = 3
    """On a multiprocessor, at most: fewer where registers or shared memory do not suffice."""


# --- order
def dependencies(launches: Sequence[PreparedLaunch]) -> list[tuple[int, ...]]:
    """For each launch, the earlier ones that it must wait for; those that they have waited for, directly or not, are left out."""
    accesses = [_accesses(launch) for launch in launches]
    found: list[tuple[int, ...]] = []
    before: list[set[int]] = []
    for j, (reads, writes) in enumerate(accesses):
        direct: list[int] = []
        known: set[int] = set()
        for i in range(j - 1, -1, -1):
            if i in known:
                continue
            read, wrote = accesses[i]
            if overlap(wrote, reads) or overlap(wrote, writes) or overlap(read, writes):
                direct.append(i)
                known |= before[i] | {i}
        found.append(tuple(direct))
        before.append(known)
    return found


def _accesses(launch: PreparedLaunch) -> tuple[Ranges, Ranges]:
    """The memory that a launch reads only, and that it may write."""
    tensors, arrays = launch.binding.tensors, launch.instance.function.arrays
    return (
        tuple(memory_range(tensors[a.name]) for a in arrays if a.role is Role.IN),
        tuple(memory_range(tensors[a.name]) for a in arrays if a.role is not Role.IN),
    )


# --- the plan
@dataclass(frozen=True, slots=True)
class Plan:
    """Launches as rows of a table over distinct bodies; launches of no program are left out."""

    launches: tuple[PreparedLaunch, ...]
    bodies: tuple[Body, ...]
    numbers: tuple[int, ...]
    """The body of each launch."""
    waits: tuple[tuple[int, ...], ...]
    """The earlier launches that each one waits for."""
    warps: int
    stages: int

    @property
    def layout(self) -> Layout:
        """Of the table."""
        return Layout(
            max([1, *map(len, self.waits)]),
            max((len(body.parameters) for body in self.bodies), default=0),
        )

    def table(self, programs: int) -> NDArray[np.int64]:
        """Rows of 64-bit words, one a launch, and an empty one after the last. ZelligeError ZL0515: an address is not aligned."""
        layout = self.layout
        table = np.zeros((len(self.launches) + 1, layout.words), np.int64)
        begin = 0
        for row, launch, number, waits in zip(table, self.launches, self.numbers, self.waits, strict=False):
            row[BODY], row[BEGIN] = number, begin
            begin = (begin + self.bodies[number].tiles) % programs
            for i, earlier in enumerate(waits):
                at = layout.waits_at + 2 * i
                row[at : at + 2] = earlier, min(self.bodies[self.numbers[earlier]].tiles, programs)
            for i, parameter in enumerate(self.bodies[number].parameters):
                row[layout.arguments_at + i] = _word(parameter, launch.binding)
        return table


def make_plan(launches: Sequence[PreparedLaunch], form: Form) -> Plan:
    """What runs when. ZelligeError ZL0908: a launch cannot be part of one kernel."""
    options = [tuned.options(x.instance.function.name, x.dims, form.schedules, x.binding.plan.parts) for x in launches]
    warps = form.warps or max((o.num_warps for o in options), default=4)
    bodies: list[Body] = []
    known: dict[Any, int] = {}
    kept: list[PreparedLaunch] = []
    numbers: list[int] = []
    earlier = Earlier()
    for launch, own in zip(launches, options, strict=True):
        function, tensors = launch.instance.function, launch.binding.tensors
        constant = constant_inputs(function, tensors, earlier.written)
        earlier.add(launch)
        own = replace(own, num_warps=warps, constant=constant)
        key = (id(launch.instance), tuple(sorted(launch.dims.items())), repr(own.as_json()))
        if key not in known:
            known[key] = len(bodies)
            bodies.append(lower_body(function, launch.dims, own, len(bodies)))
        if bodies[known[key]].tiles == 0:
            continue
        kept.append(launch)
        numbers.append(known[key])
    return Plan(
        tuple(kept), tuple(bodies), tuple(numbers), tuple(dependencies(kept)),
        warps, max((o.num_stages for o in options), default=1),
    )  # fmt: skip


def _word(parameter: Parameter, binding: Binding) -> int:
    """An argument as 64 bits."""
    if parameter.kind == "array":
        address = int(binding.tensors[parameter.name].storage.address)
        if address % parameter.multiple:
            raise ZelligeError(
                "ZL0515", f"'{binding.plan.kernel}' was compiled for {parameter.name} being a multiple of {parameter.multiple}",
                facts={parameter.name: address}, help="align it, or record the graph as launches",
            )  # fmt: skip
        return address
    value = binding.scalars[parameter.name]
    if parameter.type == "fp32":
        return int(struct.unpack("<i", bytes(ctypes.c_float(value)))[0])  # what f32 does not hold is infinite
    if parameter.type == "fp64":
        return int(struct.unpack("<q", bytes(ctypes.c_double(value)))[0])
    number = int(value)
    return number - (1 << 64) if number >= 1 << 63 else number


# --- the recording
class SequenceRecording:
    """Launches that become one kernel."""

    def __init__(self) -> None:
        self.launches: list[PreparedLaunch] = []
        self.plan: Plan | None = None
        self.kernel: CompiledKernel | None = None
        self.programs = 0
        """On a multiprocessor."""
        self.uses: tuple[tuple[Users, bool], ...] = ()
        self.run: Callable[[Any], None] | None = None

    def append(self, launch: PreparedLaunch) -> int:
        """Adds a launch; its position."""
        self.launches.append(launch)
        return len(self.launches) - 1


class SequenceLaunch:
    """The kernel of a sequence with its arguments: run any number of times, in the order of one stream."""

    def __init__(
        self, call: PreparedCall, replay: ctypes.c_int32, kernel: LoadedKernel, table: Tensor, counters: Tensor
    ) -> None:
        """``replay``: the argument that says how often it has been run, this time included; ``table``, ``counters``: what the kernel
        reads and writes beside the arrays of its launches."""
        self._call, self._replay, self._kernel, self.table, self.counters = call, replay, kernel, table, counters

    def __call__(self, stream: Any) -> None:
        """Runs it and returns at once."""
        self._replay.value += 1
        try:
            self._call.on(stream)
        except BaseException:
            self._replay.value -= 1  # nobody has reported
            raise


class SequenceExecutor:
    """Records launches of a ``CudaExecutor`` into one kernel, in place of a CUDA graph."""

    asynchronous = False
    copies = False

    def __init__(self, executor: CudaExecutor, form: Form | None = None) -> None:
        self._executor = executor
        self.form = form or Form()
        self.plan_key = f"cuda {self.form.schedules}"
        self.place = executor.place
        self.turn = executor.turn

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """An uninitialised tensor on the GPU."""
        return self._executor.empty(shape, dtype)

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """A cleared tensor on the GPU."""
        return self._executor.zeros(shape, dtype)

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor:
        """A tensor on the GPU with a copy of a host array."""
        return self._executor.tensor(values, dtype)

    def alike(self, other: Tensor) -> Tensor:
        """An uninitialised tensor on the GPU that lies as another one does."""
        return self._executor.alike(other)

    def copy_over(self, source: Tensor, target: Tensor) -> None:
        """Copies a tensor to one that lies as it does."""
        self._executor.copy_over(source, target)

    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """Starts a download; the function given back waits for it."""
        return self._executor.fetch(source)

    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """Static parameters that suit these sizes in this form."""
        return tuned.statics(kernel, dims, self.form.schedules)

    def prepare(self, instance: Instance, binding: Binding) -> PreparedLaunch:
        """A checked launch. ZelligeError ZL0507 if a precondition does not hold, ZL0908 if it has an ``Acc(init=…)``
        or an array with gaps."""
        if binding.plan.fills:
            raise ZelligeError(
                "ZL0908", f"'{instance.function.name}' clears an array first, which no kernel does that runs before it",
                help="record it as launches, or clear the array in a kernel of its own",
            )  # fmt: skip
        for name, held in binding.tensors.items():
            if held.layout.strides is not None:
                raise ZelligeError(
                    "ZL0908", f"'{name}' of '{instance.function.name}' has gaps between its rows, which one kernel's table does not know",
                    help="record it as launches, or pass a copy",
                )  # fmt: skip
        return self._executor.prepare(instance, binding)

    def new_recording(self) -> SequenceRecording:
        """An empty sequence of launches."""
        return SequenceRecording()

    def finish(self, recording: SequenceRecording) -> None:
        """Compiles the kernel and makes its table, anew if it was made before. ZelligeError ZL0908 (a launch that cannot be part of it),
        ZL0526 (too large)."""
        if recording.run is not None and self._executor.device is not None:
            self._executor.stream.sync()
        plan = recording.plan = make_plan(recording.launches, self.form)
        if not plan.launches:
            recording.run = lambda stream: None
            return
        kernel, programs = self._compiled(plan)
        recording.kernel, recording.programs = kernel, programs
        if self._executor.device is not None:
            run = recording.run = self._prepared(plan, kernel, programs)
            own = ((run.table, False), (run.counters, True))  # which are freed with the graph, maybe before it has run
            recording.uses = (
                *(use for launch in recording.launches for use in uses_of(launch.binding)),
                *((held.storage.memory.users, exclusive) for held, exclusive in own),
            )

    def _compiled(self, plan: Plan) -> tuple[CompiledKernel, int]:
        """The kernel, and how many programs of it a multiprocessor holds: as many as wanted, or as there is room for."""
        lowered = lower_sequence("sequence_kernel", plan.bodies, plan.layout)
        wanted = self.form.programs
        while True:
            most = 65536 // (32 * plan.warps * wanted) // 8 * 8
            options = Options(
                num_warps=plan.warps, num_stages=plan.stages, max_registers=most if most < MOST_REGISTERS else None
            )
            kernel = compile_lowered(lowered, self._executor.target, options, cache_dir("cuda"))
            fit = resident(kernel)
            if fit >= wanted:
                return kernel, wanted
            check_resident(kernel, 1, fit)
            wanted = fit  # and with the registers that so many leave each other

    def _prepared(self, plan: Plan, kernel: CompiledKernel, programs: int) -> SequenceLaunch:
        """The launch of the kernel, for any number of replays in the order of one stream."""
        executor, device = self._executor, self._executor.device
        assert device is not None
        loaded = LoadedKernel(kernel, device)
        check_resident(kernel, programs, loaded.resident_blocks())
        blocks = programs * device.multiprocessors
        table = executor.tensor(plan.table(blocks), i64)
        counters = executor.zeros((len(plan.launches),), i32)
        replay = ctypes.c_int32(0)
        arguments = [
            ctypes.c_uint64(table.storage.address), ctypes.c_uint64(counters.storage.address),
            ctypes.c_int32(len(plan.launches)), replay, ctypes.c_uint64(0), ctypes.c_uint64(0),
        ]  # fmt: skip
        call = PreparedCall(
            loaded.address, blocks, 32 * kernel.num_warps, kernel.shared_bytes, arguments, attribute="cooperative"
        )
        return SequenceLaunch(call, replay, loaded, table, counters)

    def replay(self, recording: SequenceRecording) -> None:
        """Gives the kernel to the stream and returns at once; without a device there is nothing to do."""
        if self._executor.device is None:
            return
        if recording.run is None:
            raise InternalError("a sequence is replayed that was not prepared for a device")
        with self._executor.ordered(*recording.uses):
            recording.run(self._executor.stream)


# --- all programs at once
_LIMITS: Mapping[str, tuple[int, int, int, int]] = {"sm_90": (65536, 228 << 10, 2048, 32)}
"""Of a multiprocessor: registers, bytes of shared memory, threads, blocks (CUDA C++ Programming Guide, technical specifications)."""


def resident(kernel: CompiledKernel) -> int:
    """How many programs one multiprocessor holds at once, by the compiler's report. 1024 where the target's limits are not known."""
    if kernel.target not in _LIMITS:
        return 1024  # the driver's own answer counts
    registers, shared, threads, blocks = _LIMITS[kernel.target]
    warps = kernel.num_warps
    of_a_warp = -(-kernel.registers * 32 // 256) * 256  # given out by 256
    return min(
        registers // (of_a_warp * warps), shared // (kernel.shared_bytes + 1024), threads // (32 * warps), blocks
    )


def check_resident(kernel: CompiledKernel, wanted: int, fit: int) -> None:
    """ZelligeError ZL0526 if a multiprocessor does not hold as many programs: those that wait would keep out those they wait for."""
    if fit < wanted:
        raise ZelligeError(
            "ZL0526", f"of {wanted} programs that wait for each other a multiprocessor holds {fit} at once",
            facts={
                "registers": kernel.registers, "shared bytes": kernel.shared_bytes, "threads of a program": 32 * kernel.num_warps
            },
            help="use fewer programs or warps, or record the graph as launches",
        )  # fmt: skip
