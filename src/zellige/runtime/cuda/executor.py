"""Launches on a GPU: compiled for their sizes, given to a stream, or recorded into a CUDA graph.

With no device the executor only compiles (for an explicit target): memory has made-up addresses, nothing runs, and what is
read back is zeros. A program that does the same whatever it reads meets every kernel that it needs on a machine without a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zellige.backends.cuda.compiler import CompiledKernel, compile
from zellige.backends.cuda.options import Options
from zellige.diagnostics.errors import InternalError, ZelligeError
from zellige.ir.dtypes import DType
from zellige.ir.ops import Function
from zellige.runtime import preconditions
from zellige.runtime.binding import Binding
from zellige.runtime.cuda import tuned
from zellige.runtime.cuda.array import DeviceArray
from zellige.runtime.cuda.device import Device, open_device
from zellige.runtime.cuda.direct import written_out
from zellige.runtime.cuda.graph import LaunchGraph
from zellige.runtime.cuda.guards import Guards
from zellige.runtime.cuda.launch import Fill, Launch, LoadedKernel, cleared
from zellige.runtime.cuda.memory import Allocator, Block, Staging
from zellige.runtime.cuda.prepared import PreparedLaunch, Ranges, constant_inputs, written
from zellige.runtime.cuda.sequence import SequenceExecutor
from zellige.runtime.instances import Instance
from zellige.runtime.memory import Memory
from zellige.runtime.paths import cache_dir
from zellige.runtime.tensor import Tensor, numpy_dtype


class CudaRecording:
    """Launches that become one CUDA graph."""

    def __init__(self) -> None:
        self.launches: list[PreparedLaunch] = []
        self.graph: LaunchGraph | None = None

    def append(self, launch: PreparedLaunch) -> int:
        """Adds a launch; its position."""
        self.launches.append(launch)
        return len(self.launches) - 1


class CudaExecutor:
    """Runs launches on one stream of one GPU, or with ``device=None`` only compiles them."""

    name = "cuda"
    asynchronous = False
    borrows = False

    def __init__(self, device: Device | None, target: str | None = None, *, schedules: str | None = None) -> None:
        """``schedules``: the name of the device whose schedules are used, if not those of this one."""
        self.device = device
        self.schedules = schedules or (device.name if device else tuned.UNMEASURED)
        self.plan_key = f"cuda {self.schedules}"
        self.place = f"GPU {device.ordinal}" if device else "a GPU that is not there"
        self.target = target or (device.target if device else "sm_90")
        self._has_groups = self.target == "sm_90"
        self._loaded: dict[int, LoadedKernel] = {}
        self._next_address = 1 << 20
        self.stream: Any = None
        if device is not None:
            device.use()
            self.stream = device.stream()
            self._allocator = Allocator(device, self.stream)
            self._staging = Staging(device, self.stream)
            self._guards = Guards()

    @classmethod
    def open(cls, ordinal: int = 0, *, schedules: str | None = None) -> CudaExecutor:
        """An executor on a GPU of this machine. ZelligeError ZL0510 to ZL0512 if there is none."""
        return cls(open_device(ordinal), schedules=schedules)

    # --- memory
    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """An uninitialised tensor on the GPU."""
        shape, stored_as = tuple(shape), numpy_dtype(dtype)
        stored = (*shape[:-1], dtype.bytes_for(shape[-1])) if dtype.is_block else shape
        size = math.prod(stored) * stored_as.itemsize
        block: Block | None = None
        if self.device is None:
            address, self._next_address = self._next_address, self._next_address + -(-max(size, 1) // 512) * 512
        else:
            block = self._allocator.allocate(max(size, 1))
            address = block.address
        storage = DeviceArray(self, block, address, stored, stored_as)
        memory = Memory(storage, address, size, initialised=False, borrowed=False)
        return Tensor.over(memory, storage, dtype, shape, address=address)

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor:
        """A tensor on the GPU with a copy of a host array."""
        made = self.empty(values.shape, dtype)
        made.write(values)
        return made

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """A cleared tensor on the GPU."""
        made = self.empty(shape, dtype)
        if self.device is not None:
            made.storage.memory.buffer.fill(0, stream=self.stream)
        made.initialised = True
        return made

    def upload(self, values: NDArray[Any], target: DeviceArray) -> None:
        """Copies a host array to the GPU, in stream order."""
        if self.device is not None and target.nbytes:
            self._staging.upload(values, target.memory)

    def download(self, source: DeviceArray) -> NDArray[Any]:
        """Copies device memory to a new host array and waits for it; zeros where there is no device."""
        made = np.zeros(source.shape, source.dtype)
        if self.device is not None:
            self._staging.download(source.memory, made)
            self._guards.check()
        return made

    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """Starts a download; the function given back waits for it (and for nothing given to the stream later).

        Zeros where there is no device."""
        made = np.zeros(source.storage.shape, source.storage.dtype)
        if self.device is None:
            return lambda: made
        wait = self._staging.fetch(source.storage.memory, made)

        def fetched() -> NDArray[Any]:
            found = wait()
            self._guards.check()
            return found

        return fetched

    # --- launches
    def statics(self, kernel: str, dims: dict[str, int]) -> dict[str, Any]:
        """Static parameters that suit these sizes, from the tuned table."""
        return tuned.statics(kernel, dims, self.schedules, groups=self._has_groups)

    def prepare(self, instance: Instance, binding: Binding) -> PreparedLaunch:
        """A checked launch. ZelligeError ZL0507 if a precondition does not hold."""
        preconditions.check(instance.function, binding.dims, binding.scalars)
        return PreparedLaunch(instance, binding)

    def launch(self, instance: Instance, binding: Binding) -> None:
        """Gives one launch to the stream and returns at once. What layouts decide is worked out at a plan's first launch."""
        plan = binding.plan
        run = plan.direct.get(self)
        if run is None:
            ready = self._ready(self.prepare(instance, binding), pdl=False, ranges=())
            run = plan.direct[self] = written_out(ready, self.stream, plan)
        run(*binding.held, *[binding.scalars[scalar.name] for scalar in instance.function.scalars])

    def _ready(self, launch: PreparedLaunch, *, pdl: bool, ranges: Ranges) -> Launch | None:
        """The compiled and loaded launch; ``ranges``: memory that launches in flight beside it may write."""
        function, binding = launch.instance.function, launch.binding
        options = tuned.options(
            function.name, binding.dims, self.schedules, binding.plan.parts,
            groups=binding.statics if self._has_groups else None,
        )  # fmt: skip
        if pdl:
            constant = constant_inputs(function, binding.tensors, ranges)
            options = Options.from_json({**options.as_json(), "pdl": True, "constant": sorted(constant)})
        key = (self.target, tuple(sorted(binding.dims.items())), repr(options.as_json()))
        compiled = launch.instance.compiled.get(key)
        if compiled is None:
            compiled = launch.instance.compiled[key] = self._compiled(function, binding.dims, options)
        if self.device is None:
            return None
        loaded = self._loaded.get(id(compiled))
        if loaded is None:
            loaded = self._loaded[id(compiled)] = LoadedKernel(compiled, self.device)
        addresses = {name: held.storage.address for name, held in binding.tensors.items()}
        flag = self._guards.flag(compiled) if compiled.guards else 0
        return loaded.prepare(self.stream, addresses, binding.scalars, flag=flag)

    def _compiled(self, function: Function, dims: dict[str, int], options: Options) -> CompiledKernel:
        """The compiled kernel. A schedule that was measured at other sizes or with other types may want more shared memory than a
        block has: then with as many stages as fit."""
        while True:
            try:
                return compile(function, dims, self.target, options, cache_dir("cuda"))
            except ZelligeError as error:
                if "shared bytes" not in error.facts or options.num_stages == 1:
                    raise
            options = replace(options, num_stages=options.num_stages - 1)

    # --- recordings (used by ``Graph``)
    def persistent(self) -> SequenceExecutor:
        """What records launches for this GPU into one kernel."""
        return SequenceExecutor(self)

    def new_recording(self) -> CudaRecording:
        """An empty sequence of launches."""
        return CudaRecording()

    def finish(self, recording: CudaRecording) -> None:
        """Compiles the launches for running with programmatic dependent launch and captures them."""
        ranges = written(recording.launches)
        ready: list[Launch | Fill | None] = []
        for launch in recording.launches:
            clears = cleared(launch.binding.plan, launch.binding.held)
            ready += [*clears, self._ready(launch, pdl=not clears, ranges=ranges)]
        if self.device is not None:
            recording.graph = LaunchGraph(self.device, ready)

    def replay(self, recording: CudaRecording) -> None:
        """Gives the graph to the stream and returns at once; without a device there is nothing to do."""
        if self.device is None:
            return
        if recording.graph is None:
            raise InternalError("a CUDA recording is replayed that was not captured")
        recording.graph(self.stream)

    def synchronise(self) -> None:
        """Waits for all work given to the stream."""
        if self.device is not None:
            self.stream.sync()
            self._guards.check()
