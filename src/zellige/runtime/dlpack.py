"""DLPack, both ways, without a copy, for every element type that we have: NumPy's own covers neither bf16 nor fp8.

Layout of the structures: https://github.com/dmlc/dlpack, dlpack.h, version 1.0.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.ir import dtypes
from zellige.ir.dtypes import DType
from zellige.runtime.element_types import numpy_dtype, typestr

_CPU, CUDA, _CUDA_HOST = 1, 2, 3
_READ_ONLY = 1
_CODES = {
    (0, 8): dtypes.i8, (0, 16): dtypes.i16, (0, 32): dtypes.i32, (0, 64): dtypes.i64,
    (1, 8): dtypes.u8, (1, 16): dtypes.u16, (1, 32): dtypes.u32, (1, 64): dtypes.u64,
    (2, 16): dtypes.f16, (2, 32): dtypes.f32, (2, 64): dtypes.f64, (4, 16): dtypes.bf16, (6, 8): dtypes.bool_,
    (10, 8): dtypes.f8e4m3, (12, 8): dtypes.f8e5m2,
}  # fmt: skip
"""DLPack's (type code, bits) for one lane."""
_DTYPE_CODES = {dtype.name: code for code, dtype in _CODES.items()}


class _Array(ctypes.Structure):
    """``DLTensor``."""

    _fields_ = (
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
    )  # fmt: skip


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    """``DLManagedTensor``, what consumers from before version 1.0 take."""

    _fields_ = (("array", _Array), ("context", ctypes.c_void_p), ("deleter", _Deleter))


class _Versioned(ctypes.Structure):
    """``DLManagedTensorVersioned``."""

    _fields_ = (
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p), ("deleter", _Deleter),
        ("flags", ctypes.c_uint64), ("array", _Array),
    )  # fmt: skip


_exported: dict[int, tuple[Any, ...]] = {}
"""What exported structures need to stay alive, by their address, until their consumer calls the deleter."""
_untaken: dict[int, Any] = {}
"""Capsules that may have no consumer yet, by the address of their structure."""

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
_set_name = ctypes.pythonapi.PyCapsule_SetName
_set_name.restype, _set_name.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)

_OLD, _NEW, _USED_OLD, _USED_NEW = b"dltensor", b"dltensor_versioned", b"used_dltensor", b"used_dltensor_versioned"


def _release(address: int) -> None:
    _untaken.pop(address, None)
    _exported.pop(address, None)


_delete = _Deleter(_release)


def _references(table: dict[int, Any], key: int) -> int:
    """How often an entry is held, counted in the same way each time (versions of Python count what runs differently)."""
    return sys.getrefcount(table[key])


_ALONE = _references({0: object()}, 0)
"""Of what only the table holds."""


def reclaim() -> None:
    """Takes back what was exported and will not be consumed: its capsule is held by nobody else.

    A capsule could have a destructor instead. One that is written in Python loses the error with which a consumer turns the
    capsule down, since it runs while that is raised."""
    for place in list(_untaken):
        try:
            if not (_is_valid(_untaken[place], _OLD) or _is_valid(_untaken[place], _NEW)):
                del _untaken[place]  # its consumer calls the deleter
            elif _references(_untaken, place) <= _ALONE:
                _release(place)
        except KeyError:
            continue  # another thread was here first


def capsule_of(
    array: NDArray[Any],
    dtype: DType,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """A capsule over ``array``, which stays alive until the consumer is done. BufferError if it cannot be exported so."""
    if dl_device is not None and tuple(dl_device) != (_CPU, 0):
        raise BufferError(f"the tensor is in host memory, not on device {dl_device}")
    if copy:
        array = array.copy()
    return capsule_over(array.__array_interface__["data"][0], array, dtype, (_CPU, 0), array, max_version)


def capsule_over(
    address: int, array: Any, dtype: DType, device: tuple[int, int], keep: Any, max_version: tuple[int, int] | None
) -> Any:
    """A capsule over memory of a device, laid out like ``array``; ``keep`` stays alive until the consumer is done. BufferError if
    DLPack cannot say what it is."""
    if dtype.name not in _DTYPE_CODES:
        raise BufferError(f"DLPack has no type for {dtype}")
    modern = max_version is not None and max_version[0] >= 1
    if not array.flags.writeable and not modern:
        raise BufferError("a read-only tensor is exported to consumers of DLPack 1.0 only")
    rank = len(array.shape)
    shape = (ctypes.c_int64 * rank)(*array.shape)
    strides = (ctypes.c_int64 * rank)(*(s // array.itemsize for s in array.strides))
    code, bits = _DTYPE_CODES[dtype.name]
    held = _Array(address, *device, rank, code, bits, 1, shape, strides, 0)
    flags = 0 if array.flags.writeable else _READ_ONLY
    managed = _Versioned(1, 0, None, _delete, flags, held) if modern else _Managed(held, None, _delete)
    reclaim()
    place = ctypes.addressof(managed)
    _exported[place] = (managed, shape, strides, keep)
    capsule = _untaken[place] = _new_capsule(place, _NEW if modern else _OLD, None)
    return capsule


class Imported:
    """What another library exported, kept until nobody needs it any more; the library is told then."""

    def __init__(self, managed: Any, dtype: DType, *, read_only: bool) -> None:
        self._managed = managed
        array = managed.array
        self.dtype = dtype
        self.read_only = read_only
        self.address = (array.data or 0) + array.byte_offset
        self.shape = tuple(array.shape[i] for i in range(array.ndim))
        size = numpy_dtype(dtype).itemsize
        self.strides = tuple(array.strides[i] * size for i in range(array.ndim)) if array.strides else None
        """Bytes; None: row-major without gaps."""

    def __del__(self) -> None:
        if self._managed.deleter:
            self._managed.deleter(ctypes.addressof(self._managed))


class _HostImport:
    """Something for NumPy to hold while arrays over imported host memory live."""

    def __init__(self, held: Imported) -> None:
        self.held = held
        self.__array_interface__ = {
            "shape": held.shape, "typestr": typestr(numpy_dtype(held.dtype)), "data": (held.address, held.read_only),
            "strides": held.strides, "version": 3,
        }  # fmt: skip


def is_on_gpu(value: Any) -> bool:
    """Whether another library says that an array is in the memory of an NVIDIA GPU."""
    return not isinstance(value, np.ndarray) and hasattr(value, "__dlpack_device__") and device_of(value)[0] == CUDA


def device_of(value: Any) -> tuple[int, int]:
    """Where an array is: DLPack's device type, and the device's number."""
    kind, number = value.__dlpack_device__()
    return int(kind), int(number)


def imported(source: Any, **options: Any) -> Imported:
    """What ``source.__dlpack__(**options)`` exports. ZelligeError ZL0501 of a type that kernels do not take."""
    try:
        capsule = source.__dlpack__(max_version=(1, 0), **options)
    except TypeError:  # a producer from before version 1.0
        capsule = source.__dlpack__(**options)
    modern = bool(_is_valid(capsule, _NEW))
    if not modern and not _is_valid(capsule, _OLD):
        raise ZelligeError("ZL0501", "__dlpack__ did not return an unused DLPack capsule")
    managed = (_Versioned if modern else _Managed).from_address(_pointer(capsule, _NEW if modern else _OLD))
    array = managed.array
    dtype = _CODES.get((array.code, array.bits)) if array.lanes == 1 else None
    if (modern and managed.major != 1) or dtype is None:
        what = (
            f"DLPack version {managed.major}"
            if modern and managed.major != 1
            else f"DLPack type {(array.code, array.bits, array.lanes)}"
        )
        raise ZelligeError("ZL0501", f"arrays of {what} cannot be passed to kernels", help="convert it first")
    _set_name(capsule, _USED_NEW if modern else _USED_OLD)
    return Imported(managed, dtype, read_only=modern and bool(managed.flags & _READ_ONLY))


def array_from(source: Any) -> NDArray[Any]:
    """A NumPy array over host memory that another library exports through ``__dlpack__``, without a copy.

    ZelligeError ZL0501 if it is on another device, of a type that kernels do not take, or nowhere."""
    device = device_of(source)
    if device[0] not in (_CPU, _CUDA_HOST):
        raise ZelligeError(
            "ZL0501", f"this array is on DLPack device {device}, not in host memory",
            help="pass it to a launch on that GPU: with zl.using('cuda'); or copy it to the host first",
        )  # fmt: skip
    held = imported(source)
    try:
        made = np.asarray(_HostImport(held))
    except (ValueError, OverflowError) as error:
        raise ZelligeError("ZL0501", f"what __dlpack__ exported is no array: {error}") from None
    target = numpy_dtype(held.dtype)
    return made if made.dtype == target else made.view(target)
