"""Making tensors: empty, cleared, copied from values, or over memory that somebody else owns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.ir import dtypes
from zellige.ir.dtypes import DType
from zellige.ir.types import ContractKind
from zellige.lang.dtype_names import checked
from zellige.runtime.contracts import Fact, broken
from zellige.runtime.dlpack import array_from, is_on_gpu
from zellige.runtime.element_types import dtype_from_numpy, numpy_dtype
from zellige.runtime.memory import Memory, memory_of_view, wait_for_writers
from zellige.runtime.tensor_type import Tensor, address_of, byte_bounds

__all__ = ["Tensor", "borrow", "dtype_from_numpy", "empty", "index", "numpy_dtype", "stored_shape", "tensor", "zeros"]

_ALIGNMENT = 64
_LARGE_PAGE = 2 << 20
"""Linux gives memory in pages of 2 MB where a whole one fits (NumPy asks for it from 4 MB on). A tensor of 10 MB that began anywhere had
a fifth of it in pages of 4 KB, from which a third fewer bytes come in the same time."""


def empty(shape: Sequence[int], dtype: DType) -> Tensor:
    """An uninitialised tensor, 64-byte aligned; from 4 MB on it begins where a large page may. ZelligeError ZL0506 if memory is short."""
    return _aligned(shape, dtype, np.empty)


def _aligned(shape: Sequence[int], dtype: DType, allocate: Callable[..., NDArray[Any]]) -> Tensor:
    shape = tuple(shape)
    target = numpy_dtype(checked(dtype, "ZL0501"))
    stored = stored_shape(shape, dtype)
    count = math.prod(stored) * target.itemsize
    try:
        alignment = _LARGE_PAGE if count >= 2 * _LARGE_PAGE else _ALIGNMENT
        room = allocate(count + alignment, np.uint8)
    except (MemoryError, ValueError):
        raise ZelligeError(
            "ZL0506", f"no memory for a {dtype} tensor of shape {shape}", facts={"bytes": count}
        ) from None
    start = room.__array_interface__["data"][0]
    skip = -start % alignment
    memory = Memory(room, start + skip, count, initialised=False, borrowed=False)
    return Tensor.over(memory, np.ndarray(stored, target, room, skip), dtype, shape, address=start + skip)


def stored_shape(shape: tuple[int, ...], dtype: DType) -> tuple[int, ...]:
    """The shape of the storage of a tensor. ZelligeError ZL0502 of negative extents, or if a block type's rows are not whole blocks."""
    if any(not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 0 for n in shape):
        raise ZelligeError("ZL0502", f"a tensor cannot have the shape {shape}", help="extents are integers, 0 or more")
    if not dtype.is_block:
        return shape
    if not shape or shape[-1] % dtype.block:
        raise ZelligeError("ZL0502", f"the last extent of a {dtype} tensor is a multiple of {dtype.block}, not {shape}")
    return (*shape[:-1], dtype.bytes_for(shape[-1]))


def zeros(shape: Sequence[int], dtype: DType) -> Tensor:
    """A tensor of zeros, whose pages take memory once they are touched."""
    made = _aligned(shape, dtype, np.zeros)
    made.memory.mark_written(made)
    return made


def tensor(values: Any, dtype: DType | None = None, shape: Sequence[int] | None = None) -> Tensor:
    """A tensor with a copy of ``values`` (anything NumPy or DLPack can read), as they are when what writes them on a stream has ended.

    For a block type give the raw bytes as uint8 and the ``shape`` in elements."""
    array = _as_array(values)
    target = dtype_from_numpy(array.dtype) if dtype is None else checked(dtype, "ZL0501")
    if target.is_block and (shape is None or array.dtype != np.uint8):
        raise ZelligeError("ZL0501", f"a {target} tensor is made from uint8 bytes and a shape in elements")
    made = empty(tuple(shape) if shape is not None else array.shape, target)
    if array.size != made.storage.size:
        raise ZelligeError("ZL0502", f"{array.size} values do not fill a tensor of shape {made.shape}")
    made.storage[...] = array.reshape(made.storage.shape)
    made.memory.mark_written(made)
    return made


def check_pieces(pieces: Sequence[NDArray[Any]], whole: Tensor) -> None:
    """ZelligeError ZL0502 unless arrays, one after the other, make up a tensor: of its type, and as many elements. What writes them on a
    stream has ended then."""
    size, dtype = sum(piece.size for piece in pieces), whole.storage.dtype
    if size != whole.storage.size or any(piece.dtype != dtype for piece in pieces):
        kinds = ", ".join(sorted({str(piece.dtype) for piece in pieces}))
        raise ZelligeError(
            "ZL0502", f"{size} elements of {kinds} do not make up a {whole.dtype} tensor of shape {whole.shape}",
            help="give arrays of its type with as many elements as it has",
        )  # fmt: skip
    for piece in pieces:
        wait_for_writers(*byte_bounds(piece))


def _as_array(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        array: NDArray[Any] = np.asarray(values)  # what a subclass says of its memory need not be so
        wait_for_writers(*byte_bounds(array))
        return array
    if isinstance(values, Tensor):
        return values.numpy()
    if is_on_gpu(values):
        return borrow(values).numpy()
    if hasattr(values, "__dlpack__"):
        return array_from(values)
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ZelligeError("ZL0501", f"these values are no array: {error}", help="give rows of one length") from None


def borrow(
    array: Any, dtype: DType | None = None, shape: Sequence[int] | None = None, *, stream: int | None = None
) -> Tensor:
    """A tensor over the memory of a NumPy array or of anything with ``__dlpack__``, without a copy.

    In host memory the owner must not write it while kernels use it. An array that came from ``Tensor.numpy`` gives the tensor's own
    memory back. For a block type: uint8 bytes, and the ``shape`` in elements.

    On a GPU a launch that uses it waits for all work of that GPU before, and has ended when it returns; unless ``stream`` names the
    stream (its handle, as ``torch.cuda.current_stream().cuda_stream``) on which its owner uses it: then the GPU keeps the order."""
    if isinstance(array, Tensor):
        return array
    if is_on_gpu(array):
        from zellige.runtime.cuda.foreign import borrow as borrow_on_gpu

        if dtype is not None or shape is not None:
            raise ZelligeError("ZL0501", "an array on a GPU is borrowed as it is", help="leave out dtype and shape")
        return borrow_on_gpu(array, stream)
    if stream is not None:
        raise ZelligeError("ZL0502", "an array in host memory is used on no stream", help="leave out stream=")
    if not isinstance(array, np.ndarray):
        array = _as_array(array)
    elif type(array) is not np.ndarray:
        array = np.asarray(array)  # what a subclass says of its memory need not be so
    else:
        array = array.view()  # the owner may give his own object another shape, strides or dtype
    if dtype is not None and checked(dtype, "ZL0501").is_block:
        if shape is None or array.dtype != np.uint8:
            raise ZelligeError("ZL0501", f"a {dtype} tensor is made from uint8 bytes and a shape in elements")
        array = array.reshape(stored_shape(tuple(shape), dtype))
        return _over(array, dtype, tuple(shape))
    held = dtype_from_numpy(array.dtype)
    if dtype is not None and dtype is not held:
        raise ZelligeError("ZL0501", f"an array of {held} cannot be borrowed as {dtype}", help="zl.tensor converts")
    return _over(array, held, array.shape)


def _over(array: NDArray[Any], dtype: DType, shape: tuple[int, ...]) -> Tensor:
    memory = memory_of_view(array)
    if memory is None:
        return Tensor(array, dtype, shape, borrowed=True)
    if not memory.room.flags.c_contiguous:
        return Tensor.over(memory, array, dtype, shape)
    # our own memory: view it directly, so that the host's array does not count as held
    offset = array.__array_interface__["data"][0] - memory.room.__array_interface__["data"][0]
    storage: NDArray[Any] = np.ndarray(
        array.shape, array.dtype, memory.room.reshape(-1).view(np.uint8), offset, array.strides
    )
    storage.flags.writeable = array.flags.writeable
    return Tensor.over(memory, storage, dtype, shape)


def copied_here(given: Tensor) -> Tensor:
    """A copy, laid out alike, of a tensor in host memory, which the caller has borrowed."""
    copy = alike(given)
    copy.storage[...] = given.storage
    copy.initialised = True
    return copy


def alike(other: Tensor) -> Tensor:
    """An uninitialised tensor in host memory that lies as another one does."""
    low, high = other.span
    room = np.empty(high - low + _ALIGNMENT, np.uint8)
    skip = -address_of(room) % _ALIGNMENT
    there = other.storage
    storage: NDArray[Any] = np.ndarray(there.shape, there.dtype, room, skip + other.address - low, there.strides)
    memory = Memory(room, address_of(room) + skip, high - low, initialised=False, borrowed=False)
    return Tensor.over(memory, storage, other.dtype, other.shape)


def copied(values: NDArray[Any], dtype: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor of which ``Tensor.__reduce__`` gave these parts."""
    return tensor(values, dtypes.ALL[dtype], shape)


def index(values: Any, below: int, *, distinct: bool = False, optional: bool = False) -> Tensor:
    """An i32 tensor whose elements are checked, now, to be indices below ``below`` (−1 allowed if ``optional``).

    ZelligeError ZL0505 names the first offending positions."""
    made = tensor(_integers(values), dtypes.i32)
    fact = Fact(ContractKind.INDEX, below, distinct, optional)
    problem = broken(fact, made.storage)
    if problem:
        raise ZelligeError("ZL0505", f"the values break {fact}: {problem}", help="correct the values")
    made.learn(fact)
    return made


def _integers(values: Any) -> NDArray[Any]:
    """Values as i32. ZelligeError ZL0501 or ZL0505 if they are not integers that i32 holds."""
    array = _as_array(values)
    if array.size and array.dtype.kind not in "iu":
        raise ZelligeError("ZL0501", f"indices are integers, not {array.dtype}", help="convert them with .astype(int)")
    if array.size and not (int(array.min()) >= -(1 << 31) and int(array.max()) < 1 << 31):
        raise ZelligeError("ZL0505", f"indices reach from {array.min()} to {array.max()}: i32 does not hold them")
    return array.astype(np.int32)
