"""Launches on a GPU: compiled for their sizes, given to a stream, or recorded into a CUDA graph.

With no device the executor only compiles (for an explicit target): memory has made-up addresses, nothing runs, and what is
read back is zeros. A program that does the same whatever it reads meets every kernel that it needs on a machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

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
from zellige.runtime.cuda.making import maker
from zellige.runtime.cuda.memory import Block, BorrowedBlock
from zellige.runtime.cuda.order import Order, Users
from zellige.runtime.cuda.prepared import Earlier, PreparedLaunch, constant_inputs, uses_of
from zellige.runtime.cuda.sequence import SequenceExecutor
from zellige.runtime.cuda.staging import Staging
from zellige.runtime.instances import Instance
from zellige.runtime.memory import Memory
from zellige.runtime.paths import cache_dir
from zellige.runtime.tensor import Tensor, check_pieces
from zellige.runtime.tensor_type import byte_bounds

if TYPE_CHECKING:
    from zellige.runtime.cuda.stream import CudaStream

_MOST_STREAMS = 64  # that one plan keeps launches for, and with them alive; beyond it they are written out anew
_MOST_MAKERS = 4096  # layouts; beyond it they are made anew
_OPENING = Lock()
_defaults: dict[int, CudaExecutor] = {}
"""By the GPU's number."""


class CudaRecording:
    """Launches that become one CUDA graph."""

    def __init__(self) -> None:
        self.launches: list[PreparedLaunch] = []
        self.graph: LaunchGraph | None = None
        self.uses: list[tuple[Users, bool]] = []

    def append(self, launch: PreparedLaunch) -> int:
        """Adds a launch; its position."""
        self.launches.append(launch)
        return len(self.launches) - 1


class MadeUpMemory:
    """Addresses where there is no device, each given out once."""

    def __init__(self) -> None:
        self.next = 1 << 20

    def take(self, size: int) -> int:
        """Where that many bytes would be."""
        address, self.next = self.next, self.next + -(-size // 512) * 512
        return address


class CudaExecutor:
    """One stream of one GPU: launches run in the order in which they were given, beside those of other streams unless they use what
    those use (``order.py``). Any thread may use it. With ``device=None`` it only compiles."""

    name = "cuda"
    asynchronous = False
    copies = True

    def __init__(self, device: Device | None, target: str | None = None, *, schedules: str | None = None) -> None:
        """``schedules``: the name of the device whose schedules are used, if not those of this one."""
        self.device = device
        self.schedules = schedules or (device.name if device else tuned.UNMEASURED)
        self.plan_key = f"cuda {self.schedules}"
        self.place = f"GPU {device.ordinal}" if device else "a GPU that is not there"
        self.target = target or (device.target if device else "sm_90")
        self._has_groups = self.target == "sm_90"
        self._loaded: dict[int, LoadedKernel] = {}
        self.made_up = MadeUpMemory()
        self._makers: dict[tuple[tuple[int, ...], DType], Callable[[], Tensor]] = {}
        self.order = device.order if device else Order()
        self.turn = self.order.lock
        if device is not None:
            device.use()
            self.stream = device.stream()
            self.queue = self.order.join(self.stream, device.use)
            self._staging = Staging(device, self.stream)
            self._guards = Guards(self.stream)

    @classmethod
    def open(cls, ordinal: int = 0, *, schedules: str | None = None) -> CudaExecutor:
        """A new stream of a GPU of this machine. ZelligeError ZL0510 to ZL0512 if there is none."""
        return cls(open_device(ordinal), schedules=schedules)

    @classmethod
    def default(cls, ordinal: int = 0) -> CudaExecutor:
        """The stream of a GPU that work goes to which names no other. ZelligeError ZL0510 to ZL0512 if there is none."""
        with _OPENING:
            if ordinal not in _defaults:
                _defaults[ordinal] = CudaExecutor.open(ordinal)
            return _defaults[ordinal]

    def beside(self) -> CudaStream:
        """Another stream of the same GPU (``stream.py``)."""
        from zellige.runtime.cuda.stream import CudaStream

        made = CudaStream(self.device, self.target, schedules=self.schedules)
        made.made_up = self.made_up
        return made

    # --- memory
    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """An uninitialised tensor on the GPU."""
        return self.maker(tuple(shape), dtype)()

    def maker(self, shape: tuple[int, ...], dtype: DType) -> Callable[[], Tensor]:
        """What makes uninitialised tensors of a shape and dtype (``making.py``)."""
        made = self._makers.get((shape, dtype))
        if made is None:
            if len(self._makers) >= _MOST_MAKERS:
                self._makers.clear()
            made = self._makers[shape, dtype] = maker(self, shape, dtype)
        return made

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor:
        """A tensor on the GPU with a copy of a host array."""
        made = self.empty(values.shape, dtype)
        made.write(values)
        return made

    def gathered(self, pieces: Sequence[NDArray[Any]], shape: Sequence[int], dtype: DType) -> Tensor:
        """A tensor on the GPU with a copy of host arrays of its element type, one after the other."""
        made = self.empty(shape, dtype)
        check_pieces(pieces, made)
        if self.device is not None:
            block = made.storage.memory
            with self.ordered((block.users, True)):
                self._staging.gather(pieces, block, made.address - block.address)
        made.initialised = True
        return made

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """A cleared tensor on the GPU."""
        made = self.empty(shape, dtype)
        if self.device is not None:
            block = made.storage.memory
            with self.ordered((block.users, True)):
                block.buffer.fill(0, stream=self.stream)
        made.initialised = True
        return made

    def upload(self, values: NDArray[Any], target: DeviceArray) -> None:
        """Copies a host array to the GPU, in stream order."""
        if self.device is None or not target.nbytes:
            return
        block = _block(target)
        with self.ordered((block.users, True)):
            if target.flags.c_contiguous:
                self._staging.upload(values, block, target.address - block.address)
                return
            # elements in between keep what they hold
            low, held, part = self._around(target)
            self._staging.download(block, held, low)
            part[...] = values
            self._staging.upload(held, block, low)

    def download(self, source: DeviceArray) -> NDArray[Any]:
        """Copies device memory to a new host array and waits for it; zeros where there is no device."""
        return self._fetch(source)()

    def private(self, shared: Tensor) -> Tensor:
        """A copy on the GPU, laid out alike."""
        if self.device is None or shared.span[0] == shared.span[1] or not shared.initialised:
            return shared
        copy = self.alike(shared)
        self.copy_over(shared, copy)
        copy.initialised = True
        return copy

    def alike(self, other: Tensor) -> Tensor:
        """An uninitialised tensor on the GPU that lies as another one does."""
        there, (low, high) = other.storage, other.span
        block = None if self.device is None else self.device.allocator.allocate(high - low, self.queue)
        first = self.made_up.take(high - low) if block is None else block.address
        made = DeviceArray(self, block, first + other.address - low, there.shape, there.dtype, there.strides)
        memory = Memory(made, first, high - low, initialised=False, borrowed=False)
        return Tensor.over(memory, made, other.dtype, other.shape)

    def copy_over(self, source: Tensor, target: Tensor) -> None:
        """Copies a tensor to one that lies as it does and has memory of its own, in order with the work of other streams."""
        if self.device is None:
            return
        (low, high), here, there = source.span, source.storage.memory, target.storage.memory
        with self.ordered((here.users, False), (there.users, True)):
            self._staging.duplicate(here, low - here.address, there, high - low)

    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """Starts a download; the function given back waits for it (and for nothing given to the stream later).

        Zeros where there is no device."""
        return self._fetch(source.storage)

    def _fetch(self, source: DeviceArray) -> Callable[[], NDArray[Any]]:
        if self.device is None:
            return lambda: np.zeros(source.shape, source.dtype)
        low, held, part = self._around(source)
        block = _block(source)
        with self.ordered((block.users, False)):
            wait = self._staging.fetch(block, held, low)

        def fetched() -> NDArray[Any]:
            wait()
            self._guards.check()
            return part if source.flags.c_contiguous else part.copy()

        return fetched

    @staticmethod
    def _around(array: DeviceArray) -> tuple[int, NDArray[np.uint8], NDArray[Any]]:
        """Room on the host for the bytes from an array's first to its last: where they begin in its memory, the room, the array in it."""
        low, high = byte_bounds(array)
        held = np.empty(high - low, np.uint8)
        part: NDArray[Any] = np.ndarray(array.shape, array.dtype, held, array.address - low, array.strides)
        return low - _block(array).address, held, part

    @contextmanager
    def ordered(self, *uses: tuple[Users, bool]) -> Iterator[None]:
        """The work in the ``with`` uses memory: it is ordered with that of other streams. Any thread may give it."""
        assert self.device is not None
        self.device.use()
        with self.order.lock:
            self.order.before(self.queue, uses)
            try:
                yield
            finally:  # some of it may have been given
                self.order.after(self.queue, uses)

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
        run = plan.direct.get(self) or self._written_out(binding, self)
        run(*binding.held, *[binding.scalars[scalar.name] for scalar in instance.function.scalars])

    def launch_unaligned(self, binding: Binding) -> Any:
        """A launch of arrays that do not begin where the code that is there for their layouts needs them to; what the call returns."""
        key = (self, unaligned(binding))
        run = binding.plan.direct.get(key) or self._written_out(binding, key)
        return run(*binding.held, *[binding.scalars[scalar.name] for scalar in binding.plan.instance.function.scalars])

    def _written_out(self, binding: Binding, key: Any) -> Callable[..., Any]:
        ready = self._ready(self.prepare(binding.plan.instance, binding), None)
        direct = binding.plan.direct
        if len(direct) >= _MOST_STREAMS:
            direct.clear()
        made = direct[key] = written_out(ready, self, binding.plan)
        return made

    def _scheduled(self, launch: PreparedLaunch, earlier: Earlier | None) -> CompiledKernel:
        """The launch's kernel, compiled; ``earlier``: the launches beside whose last ones it starts, and waits for them."""
        function, binding = launch.instance.function, launch.binding
        options = tuned.options(
            function.name, binding.dims, self.schedules, binding.plan.parts,
            groups=binding.statics if self._has_groups else None,
        )  # fmt: skip
        layouts = {name: strides for name, held in binding.tensors.items() if (strides := held.layout.strides)}
        loose = unaligned(binding)
        if layouts or loose:
            options = _without_boxes(options, layouts, loose)
        if earlier is not None:
            constant = constant_inputs(function, binding.tensors, earlier.in_flight)
            fresh = constant - constant_inputs(function, binding.tensors, earlier.written)
            options = replace(options, pdl=True, constant=constant, fresh=fresh)
        key = (self.target, tuple(sorted(binding.dims.items())), repr(options.as_json()))
        compiled = launch.instance.compiled.get(key)
        if compiled is None:
            with launch.instance.lock:  # one thread compiles, the others get what it made
                compiled = launch.instance.compiled.get(key)
                if compiled is None:
                    compiled = launch.instance.compiled[key] = self._compiled(function, binding.dims, options)
        return compiled

    def _ready(self, launch: PreparedLaunch, earlier: Earlier | None) -> Launch | None:
        """The compiled and loaded launch, which is one of the ``earlier`` ones then; None without a device or programs."""
        compiled, binding = self._scheduled(launch, earlier), launch.binding
        if earlier is not None:
            earlier.add(launch, holds=compiled.holds)
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
        """Compiles the launches for running with programmatic dependent launch and captures them; anew if they were before. A replay
        waits for the one before."""
        if recording.graph is not None:
            self.stream.sync()
        ready: list[Launch | Fill | None] = []
        earlier = Earlier()
        for launch in recording.launches:
            clears = cleared(launch.binding.plan, launch.binding.held)
            ready += [*clears, self._ready(launch, None if clears else earlier)]
            if clears:
                earlier.add(launch)
        if self.device is not None:
            recording.graph = LaunchGraph(self.device, ready)
            recording.uses = [use for launch in recording.launches for use in uses_of(launch.binding)]

    def replay(self, recording: CudaRecording) -> None:
        """Gives the graph to the stream and returns at once; without a device there is nothing to do."""
        if self.device is None:
            return
        if recording.graph is None:
            raise InternalError("a CUDA recording is replayed that was not captured")
        with self.ordered(*recording.uses):
            recording.graph(self.stream)

    def synchronise(self) -> None:
        """Waits for all work given to the stream."""
        if self.device is not None:
            self.stream.sync()
            self._guards.check()


def _block(array: DeviceArray) -> Block | BorrowedBlock:
    assert array.memory is not None
    return array.memory


def unaligned(binding: Binding) -> frozenset[str]:
    """Arrays that do not begin at a multiple of 16 bytes."""
    return frozenset(name for name, held in binding.tensors.items() if held.address % 16)


def _without_boxes(options: Options, layouts: Mapping[str, tuple[int, ...]], loose: frozenset[str]) -> Options:
    """A schedule for arrays with gaps, or that begin anywhere: the copy engine, and what rests on it, takes neither."""
    others = options.descriptors.difference(layouts, loose)
    consumers = options.consumers if others == options.descriptors else 0
    return replace(options, layouts=layouts, unaligned=loose, descriptors=others, consumers=consumers)
