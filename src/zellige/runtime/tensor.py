"""Tensors: device memory with a dtype, a shape, and the contracts that its elements are known to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.ir import dtypes
from zellige.ir.dtypes import DType
from zellige.runtime.contracts import Fact, broken


@cache
def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype that stores ``dtype``; uint8 for block types (their bytes)."""
    if dtype.is_block:
        return np.dtype(np.uint8)
    if dtype.name in ("bf16", "f8e4m3", "f8e5m2"):
        import ml_dtypes

        return np.dtype(
            {"bf16": ml_dtypes.bfloat16, "f8e4m3": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2}[dtype.name]
        )
    kinds = {"i": "int", "u": "uint", "f": "float"}
    return np.dtype("bool" if dtype is dtypes.bool_ else f"{kinds[dtype.name[0]]}{dtype.bits}")


_BY_NAME = {
    "bool": dtypes.bool_, "int8": dtypes.i8, "int16": dtypes.i16, "int32": dtypes.i32, "int64": dtypes.i64, "uint8": dtypes.u8,
    "uint16": dtypes.u16, "uint32": dtypes.u32, "uint64": dtypes.u64, "float16": dtypes.f16, "float32": dtypes.f32,
    "float64": dtypes.f64, "bfloat16": dtypes.bf16, "float8_e4m3fn": dtypes.f8e4m3, "float8_e5m2": dtypes.f8e5m2,
}  # fmt: skip


def dtype_from_numpy(dtype: np.dtype[Any]) -> DType:
    """Our dtype for a NumPy one. ZelligeError ZL0501 if there is none."""
    found = _BY_NAME.get(dtype.name)
    if found is None:
        raise ZelligeError(
            "ZL0501", f"arrays of NumPy dtype {dtype} cannot be passed to kernels", help="convert it with .astype"
        )
    return found


class _Contents:
    """What is known of a piece of memory, shared by all tensors that view it."""

    __slots__ = ("facts", "initialised")

    def __init__(self, initialised: bool) -> None:
        self.initialised = initialised
        self.facts: tuple[Fact, ...] = ()


class Tensor:
    """An array that kernels use: storage, dtype, shape, and what is known of its contents.

    ``shape`` counts elements; a block-quantised tensor's storage is uint8 with the bytes of whole blocks on its last
    axis. Read it with ``numpy()``; change it from the host with ``write``.
    """

    __slots__ = ("_contents", "_read_only", "borrowed", "dtype", "shape", "storage")

    def __init__(
        self,
        storage: NDArray[Any],
        dtype: DType,
        shape: Sequence[int],
        *,
        initialised: bool = True,
        borrowed: bool = False,
    ) -> None:
        self.storage = storage
        self.borrowed = borrowed
        """The memory is somebody else's, who may change it unseen: contracts are checked anew at each use."""
        self.dtype = dtype
        self.shape = tuple(shape)
        self._contents = _Contents(initialised)
        self._read_only: NDArray[Any] | None = None

    @property
    def initialised(self) -> bool:
        """Whether something was written to it."""
        return self._contents.initialised

    @initialised.setter
    def initialised(self, value: bool) -> None:
        self._contents.initialised = value

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Contracts that the contents are known to keep."""
        return self._contents.facts

    def learn(self, fact: Fact) -> None:
        """Remembers a contract that the contents keep, established by a check or a proof."""
        if fact not in self._contents.facts and not self.borrowed:
            self._contents.facts = (*self._contents.facts, fact)

    def forget(self) -> None:
        """Called when something writes to the tensor: nothing is known of its contents any more."""
        self._contents.facts = ()

    def reshape(self, *shape: int) -> Tensor:
        """A view of the same memory in another shape. ZelligeError ZL0502 if the element counts differ."""
        if math.prod(shape) != math.prod(self.shape) or self.dtype.is_block:
            raise ZelligeError("ZL0502", f"a {self.dtype} tensor of shape {self.shape} cannot be viewed as {shape}")
        view = Tensor(self.storage.reshape(shape, copy=False), self.dtype, shape, borrowed=self.borrowed)
        view._contents = self._contents
        return view

    def numpy(self) -> NDArray[Any]:
        """The contents as a read-only NumPy view (uint8 bytes for block types). ZL0504 if nothing was written yet."""
        if not self.initialised:
            raise ZelligeError(
                "ZL0504", "this tensor is read before anything was written to it", help="run a kernel that writes it"
            )
        if not isinstance(self.storage, np.ndarray):
            return self.storage.download()
        if self._read_only is None:
            self._read_only = self.storage.view()
            self._read_only.flags.writeable = False
        return self._read_only

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.numpy(), dtype=dtype, copy=True if copy is None else copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.storage.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.storage.__dlpack_device__()

    def write(self, values: Any) -> None:
        """Overwrites the contents from the host; contracts that they kept are checked on the new values first.

        ZelligeError ZL0505 (with the offending positions) if the new values break one; the old contents stay."""
        new = np.asarray(values, dtype=self.storage.dtype)
        if new.shape != self.storage.shape:
            raise ZelligeError(
                "ZL0502", f"values of shape {new.shape} are written to a tensor of shape {self.storage.shape}"
            )
        for fact in self.facts:
            problem = broken(fact, new)
            if problem:
                raise ZelligeError("ZL0505", f"the new contents break {fact}: {problem}", help="correct the values")
        self.storage[...] = new
        self.initialised = True

    def __repr__(self) -> str:
        known = "".join(f", {fact}" for fact in self.facts)
        return f"Tensor({self.dtype}, {self.shape}{known})"


def empty(shape: Sequence[int], dtype: DType) -> Tensor:
    """An uninitialised tensor, 64-byte aligned. ZelligeError ZL0506 if memory is short."""
    return _aligned(shape, dtype, np.empty)


def _aligned(shape: Sequence[int], dtype: DType, allocate: Callable[[int, Any], NDArray[Any]]) -> Tensor:
    shape = tuple(shape)
    target = numpy_dtype(dtype)
    if dtype.is_block:
        if not shape or shape[-1] % dtype.block:
            raise ZelligeError(
                "ZL0502", f"the last extent of a {dtype} tensor is a multiple of {dtype.block}, not {shape}"
            )
        stored: tuple[int, ...] = (*shape[:-1], dtype.bytes_for(shape[-1]))
    else:
        stored = shape
    count = int(np.prod(stored, dtype=np.int64)) * target.itemsize
    try:
        room = allocate(count + 64, np.uint8)
    except MemoryError:
        raise ZelligeError(
            "ZL0506", f"no memory for a {dtype} tensor of shape {shape}", facts={"bytes": count}
        ) from None
    skip = -room.ctypes.data % 64
    return Tensor(room[skip : skip + count].view(target).reshape(stored), dtype, shape, initialised=False)


def zeros(shape: Sequence[int], dtype: DType) -> Tensor:
    """A tensor of zeros, whose pages take memory once they are touched."""
    made = _aligned(shape, dtype, np.zeros)
    made.initialised = True
    return made


def tensor(values: Any, dtype: DType | None = None, shape: Sequence[int] | None = None) -> Tensor:
    """A tensor with a copy of ``values`` (anything NumPy or DLPack can read).

    For a block type give the raw bytes as uint8 and the ``shape`` in elements."""
    array = (
        values
        if isinstance(values, np.ndarray)
        else np.from_dlpack(values)
        if hasattr(values, "__dlpack__")
        else np.asarray(values)
    )
    if dtype is not None and not dtype.is_block:
        array = array.astype(numpy_dtype(dtype), copy=False)
    made = empty(tuple(shape) if shape is not None else array.shape, dtype or dtype_from_numpy(array.dtype))
    made.storage[...] = array.reshape(made.storage.shape)
    made.initialised = True
    return made


def borrow(array: NDArray[Any], dtype: DType | None = None, shape: Sequence[int] | None = None) -> Tensor:
    """A tensor over the memory of a NumPy array, without a copy; the array must not be written while the tensor is used.

    For a block type: uint8 bytes, and the ``shape`` in elements."""
    if dtype is not None and dtype.is_block:
        if shape is None or array.dtype != np.uint8:
            raise ZelligeError("ZL0501", f"a {dtype} tensor is made from uint8 bytes and a shape in elements")
        stored = (*tuple(shape)[:-1], dtype.bytes_for(tuple(shape)[-1]))
        return Tensor(array.reshape(stored), dtype, tuple(shape), borrowed=True)
    return Tensor(array, dtype or dtype_from_numpy(array.dtype), array.shape, borrowed=True)


def index(values: Any, below: int, *, distinct: bool = False, optional: bool = False) -> Tensor:
    """An i32 tensor whose elements are checked, now, to be indices below ``below`` (−1 allowed if ``optional``).

    ZelligeError ZL0505 names the first offending positions."""
    from zellige.ir.types import ContractKind

    made = tensor(np.asarray(values), dtypes.i32)
    fact = Fact(ContractKind.INDEX, below, distinct, optional)
    problem = broken(fact, made.storage)
    if problem:
        raise ZelligeError("ZL0505", f"the values break {fact}: {problem}", help="correct the values")
    made.learn(fact)
    return made
