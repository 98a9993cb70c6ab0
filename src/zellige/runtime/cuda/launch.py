"""Compiled kernels on a device, and launches prepared once and repeated cheaply."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zellige.backends.cuda.compiler import CompiledKernel
from zellige.diagnostics.errors import InternalError, ZelligeError
from zellige.runtime.cuda.device import Device
from zellige.runtime.cuda.driver import PreparedCall, allow_shared, fill, resident_blocks
from zellige.runtime.plan import Plan
from zellige.runtime.tensor_type import Tensor

_SCALARS: dict[str, Any] = {
    "i1": ctypes.c_bool, "i8": ctypes.c_int8, "i16": ctypes.c_int16, "i32": ctypes.c_int32, "i64": ctypes.c_int64,
    "u8": ctypes.c_uint8, "u16": ctypes.c_uint16, "u32": ctypes.c_uint32, "u64": ctypes.c_uint64,
    "fp32": ctypes.c_float, "fp64": ctypes.c_double,
}  # fmt: skip


class LoadedKernel:
    """A kernel's machine code on one device."""

    def __init__(self, compiled: CompiledKernel, device: Device) -> None:
        from cuda.core import ObjectCode

        if compiled.target != device.target:
            raise ZelligeError(
                "ZL0513", f"'{compiled.name}' was compiled for {compiled.target}, but {device.name} is {device.target}",
                help=f"compile it with target='{device.target}'",
            )  # fmt: skip
        if compiled.shared_bytes > device.shared_bytes:
            raise ZelligeError(
                "ZL0514", f"'{compiled.name}' needs {compiled.shared_bytes} bytes of shared memory, more than {device.name} has",
                facts={"limit": device.shared_bytes},
                help="use smaller tiles or fewer stages",
            )  # fmt: skip
        device.use()
        self.compiled = compiled
        self.device = device
        self._code = ObjectCode.from_cubin(compiled.cubin, name=compiled.name)
        self._kernel = self._code.get_kernel(compiled.name)
        self.address = int(self._kernel.handle)
        if compiled.shared_bytes > 48 * 1024:
            allow_shared(self.address, device.ordinal, compiled.shared_bytes)

    def resident_blocks(self) -> int:
        """How many programs one multiprocessor holds at once, by the driver."""
        return resident_blocks(self.address, 32 * self.compiled.num_warps, self.compiled.shared_bytes)

    def prepare(
        self,
        stream: Any,
        arrays: Mapping[str, int],
        scalars: Mapping[str, int | float] | None = None,
        dims: Mapping[str, int] | None = None,
        strides: Mapping[str, tuple[int, ...]] | None = None,
        flag: int = 0,
    ) -> Launch | None:
        """A launch with these addresses, scalars, dims and strides (in elements); None if the grid is empty.

        The caller has checked that they suit the kernel, and keeps the memory alive. ZelligeError ZL0515: an address or a dim
        is not the multiple that the kernel was compiled for; ZL0516: more programs than a grid has.
        """
        compiled, dims = self.compiled, dims or {}
        programs = compiled.programs.evaluate(dims)
        if programs == 0:
            return None
        places = self.device.multiprocessors * compiled.options.persistent
        most = (1 << 31) - 1 - places  # a block of a persistent grid adds their number to that of its last program
        if programs > most:
            raise ZelligeError("ZL0516", f"'{compiled.name}' would run {programs} programs; a grid has at most {most}")
        blocks = persistent_blocks(programs, places) if places else programs
        arguments: list[Any] = []
        for parameter in compiled.parameters:
            match parameter.kind:
                case "array":
                    value = arrays[parameter.name]
                case "scalar":
                    arguments.append(_SCALARS[parameter.type]((scalars or {})[parameter.name]))
                    continue
                case "dim":
                    value = dims[parameter.name]
                case "stride":
                    array = parameter.name.removesuffix(f"_stride_{parameter.axis}")
                    value = (strides or {})[array][parameter.axis]
                case "flag":
                    value = flag
                case other:
                    raise InternalError(f"a kernel parameter of kind {other!r}")
            if value % parameter.multiple:
                raise _misaligned(compiled.name, parameter.name, parameter.multiple, value)
            arguments.append(ctypes.c_int32(value) if parameter.kind == "dim" else ctypes.c_uint64(value))
        scratch = None
        if compiled.scratch_bytes:
            scratch = self.device.handle.allocate(compiled.scratch_bytes * blocks, stream=stream)
            scratch.fill(
                0, stream=stream
            )  # the copy engine writes it unseen by tools that look for uninitialised reads
        arguments += [ctypes.c_uint64(int(scratch.handle) if scratch is not None else 0), ctypes.c_uint64(0)]
        call = PreparedCall(
            self.address,
            blocks,
            32 * compiled.num_warps,
            compiled.shared_bytes,
            arguments,
            attribute="dependent" if compiled.options.pdl else None,
        )
        return Launch(self, blocks, tuple(arguments), scratch, call)


def persistent_blocks(programs: int, places: int) -> int:
    """How many blocks share the programs of a persistent grid, if ``places`` of them run at once.

    As few as need no more turns, if those are nearly all: turns are alike then, so that bands of tiles lie in them as wide as they
    are, and what one turn reads is what the next one has in the cache (docs/performance/gpu.md)."""
    turns = max(-(-programs // places), 1)
    even = -(-programs // turns)
    return even if 16 * even >= 15 * places else min(programs, places)


@dataclass(frozen=True, slots=True)
class Fill:
    """Writes one element, given as its bytes, to all of an array: how a launch clears what ``Acc(init=…)`` accumulates."""

    address: int
    element: bytes
    count: int

    def __call__(self, stream: Any) -> None:
        """Runs it on a stream; returns at once."""
        if self.count:
            fill(self.address, self.element, self.count, stream)


def cleared(plan: Plan, held: Sequence[Tensor]) -> list[Fill]:
    """What a launch of a plan clears first. ZelligeError ZL0521 of an array with gaps."""
    for i, _ in plan.fills:
        if not held[i].storage.flags.c_contiguous:
            raise ZelligeError(
                "ZL0521", f"{plan.kernel}: an Acc(init=…) argument with gaps between its rows cannot be cleared on a GPU",
                help="pass it whole",
            )  # fmt: skip
    return [
        Fill(a.address, np.full((), start, a.dtype).tobytes(), a.nbytes // a.dtype.itemsize)
        for a, start in ((held[i].storage, start) for i, start in plan.fills)
    ]


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel with its arguments, ready to run any number of times, by one thread at a time."""

    kernel: LoadedKernel
    blocks: int
    arguments: tuple[Any, ...]
    scratch: Any
    """Memory that the kernel keeps tensor descriptors in; its own, so that overlapping launches do not share it."""
    call: PreparedCall

    def __call__(self, stream: Any) -> None:
        """Runs it on a stream (``cuda.core``'s, or one being captured); returns at once."""
        self.call.on(stream)


def _misaligned(kernel: str, parameter: str, multiple: int, value: int) -> ZelligeError:
    return ZelligeError(
        "ZL0515", f"'{kernel}' was compiled for {parameter} being a multiple of {multiple}",
        facts={parameter: value}, help="align it, or compile without that promise",
    )  # fmt: skip
