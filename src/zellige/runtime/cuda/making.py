"""Uninitialised tensors of one layout on a GPU, made as fast as the host can: a launch that allocates its outputs waits for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING

from zellige.ir.dtypes import DType
from zellige.runtime.cuda.array import DeviceArray
from zellige.runtime.cuda.memory import Block
from zellige.runtime.element_types import numpy_dtype
from zellige.runtime.memory import FEW_READERS, Memory
from zellige.runtime.tensor_type import Tensor

if TYPE_CHECKING:
    from zellige.runtime.cuda.executor import CudaExecutor


def maker(executor: CudaExecutor, shape: tuple[int, ...], dtype: DType) -> Callable[[], Tensor]:
    """A function that makes uninitialised tensors of a shape and dtype, for what the executor is given next.

    It raises ZelligeError ZL0506 if memory is short."""
    shape = tuple(map(index, shape))
    stored_as = numpy_dtype(dtype)
    stored = (*shape[:-1], dtype.bytes_for(shape[-1])) if dtype.is_block else shape
    size = math.prod(stored) * stored_as.itemsize

    def constructed(block: Block | None, address: int) -> Tensor:
        storage = DeviceArray(executor, block, address, stored, stored_as)
        memory = Memory(storage, address, size, initialised=False, borrowed=False)
        return Tensor.over(memory, storage, dtype, shape, address=address)

    room, device = max(size, 1), executor.device
    if device is None:
        return lambda: constructed(None, executor.made_up.take(room))
    example = constructed(None, 0)
    flags, layout = example.storage.flags, example.layout
    allocator, queue, new = device.allocator, executor.queue, object.__new__
    pop = allocator.free(room).pop

    def made() -> Tensor:
        try:
            piece = pop()
        except IndexError:
            piece = allocator.taken(room, queue)
        address = piece.address
        # As ``constructed``, without the calls, which would take longer than all this; a test compares every attribute.
        block = new(Block)
        block.piece, block.address, block.size, block.users = piece, address, piece.size, piece.users
        storage = new(DeviceArray)
        storage.executor = executor
        storage.memory = block
        storage.address = address
        storage.shape = stored
        storage.dtype = stored_as
        storage._strides = None
        storage.flags = flags
        memory = new(Memory)
        memory.most_readers = FEW_READERS
        memory.writers, memory.readers, memory.graphs = [], [], []
        memory.room = storage
        memory.address = address
        memory.size = size
        memory.borrowed = memory.shared = False
        memory.unwritten = True
        memory.version = 0
        memory.views, memory.exports = {}, {}
        tensor = new(Tensor)
        tensor.memory = memory
        tensor.storage = storage
        tensor.dtype = dtype
        tensor.shape = shape
        tensor.address = address
        tensor.span = address, address + size
        tensor._layout = layout
        tensor._parent = None
        tensor._facts = ()
        tensor._stamp = 0
        return tensor

    return made
