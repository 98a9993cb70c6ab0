"""Memory of a GPU that we share with PyTorch, JAX or CuPy, through DLPack, without a copy."""

from __future__ import annotations

from typing import Any

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.completion import LOCK
from zellige.runtime.cuda.array import DeviceArray
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.memory import BorrowedBlock
from zellige.runtime.cuda.order import Outside, Users
from zellige.runtime.dlpack import CUDA, capsule_over, device_of, imported
from zellige.runtime.element_types import numpy_dtype
from zellige.runtime.memory import CLOCK, Memory, share_locked
from zellige.runtime.tensor_type import Tensor, byte_bounds


def borrow(source: Any, stream: int | None = None) -> Tensor:
    """A tensor over an array of another library on a GPU. ``stream``: the handle of the stream on which its owner uses it.

    ZelligeError ZL0501 of a type that kernels do not take, ZL0510 to ZL0512 if the GPU cannot be used."""
    executor = CudaExecutor.default(device_of(source)[1])
    device = executor.device
    assert device is not None
    device.use()
    held = imported(source, stream=int(executor.stream.handle))
    order = executor.order
    order.let_others_in()
    users = Users(Outside(device, order.outsiders, lambda: True, None if stream is None else _stream(stream)))
    storage = DeviceArray(
        executor, None, held.address, held.shape, numpy_dtype(held.dtype), held.strides, writeable=not held.read_only
    )
    low, high = byte_bounds(storage)
    storage.memory = BorrowedBlock(held, low, high - low, users)
    return Tensor(storage, held.dtype, held.shape, borrowed=True)


def export(
    tensor: Tensor,
    *,
    stream: int | None = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """A DLPack capsule over a tensor on a GPU; what the consumer gives to ``stream`` runs after what uses the tensor now.

    While the consumer has it, each use of ours waits for all work of the GPU before, and ends before it returns; contracts are
    checked each time. BufferError if it cannot be exported so, ZelligeError ZL0504 if it was never written."""
    storage: DeviceArray = tensor.storage
    executor, block = storage.executor, storage.memory
    if executor.device is None or block is None:
        raise BufferError("there is no GPU: this tensor has no memory")
    here = (CUDA, executor.device.ordinal)
    if copy or (dl_device is not None and tuple(dl_device) != here):
        raise BufferError(f"the tensor is on DLPack device {here} and is exported without a copy")
    executor.device.use()
    with executor.order.lock:
        if not tensor.initialised:
            raise ZelligeError("ZL0504", "this tensor is exported before anything was written to it")
        if stream == -1:  # whoever asks for no order gets memory that nobody uses
            executor.order.let_others_in()
            executor.device.synchronise()
        else:
            executor.order.let_others_in(_stream(stream))
        capsule = capsule_over(tensor.address, storage, tensor.dtype, here, _Export(tensor), max_version)
    return capsule


class _Export:
    """Memory that another library has. When it goes, the contents count as ours again."""

    def __init__(self, tensor: Tensor) -> None:
        executor, block = tensor.storage.executor, tensor.storage.memory
        self._storage = tensor.storage  # keeps the memory
        self._memory: Memory = tensor.memory
        with LOCK:
            share_locked(self._memory)
            self._memory.exports[id(self)] = True
        owned, exports = not self._memory.borrowed, self._memory.exports
        block.users.outside = Outside(executor.device, executor.order.outsiders, lambda: bool(exports) or not owned)

    def __del__(self) -> None:  # may run anywhere, so it takes no lock
        # the contents count as ours again: first what was known of them is forgotten
        self._memory.version = next(CLOCK)
        self._memory.exports.pop(id(self), None)


def _stream(handle: int | None) -> Any:
    """The stream that a consumer means. None, 0 and 1: the default stream, 2: the thread's own."""
    from cuda.core import LEGACY_DEFAULT_STREAM, PER_THREAD_DEFAULT_STREAM, Stream

    if handle is None or handle in (0, 1):
        return LEGACY_DEFAULT_STREAM
    return PER_THREAD_DEFAULT_STREAM if handle == 2 else Stream.from_handle(handle)
