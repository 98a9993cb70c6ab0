"""Our element types as NumPy stores them, and back."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from zellige.diagnostics.errors import ZelligeError
from zellige.ir import dtypes
from zellige.ir.dtypes import DType


@cache
def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype that stores ``dtype``; uint8 for block types (their bytes)."""
    if dtype.is_block:
        return np.dtype(np.uint8)
    if dtype.name in ("bf16", "f8e4m3", "f8e5m2"):
        import ml_dtypes

        made: np.dtype[Any] = np.dtype(
            {"bf16": ml_dtypes.bfloat16, "f8e4m3": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2}[dtype.name]
        )
        return made
    kinds = {"i": "int", "u": "uint", "f": "float"}
    return np.dtype("bool" if dtype is dtypes.bool_ else f"{kinds[dtype.name[0]]}{dtype.bits}")


_BY_NAME = {
    "bool": dtypes.bool_, "int8": dtypes.i8, "int16": dtypes.i16, "int32": dtypes.i32, "int64": dtypes.i64, "uint8": dtypes.u8,
    "uint16": dtypes.u16, "uint32": dtypes.u32, "uint64": dtypes.u64, "float16": dtypes.f16, "float32": dtypes.f32,
    "float64": dtypes.f64, "bfloat16": dtypes.bf16, "float8_e4m3fn": dtypes.f8e4m3, "float8_e5m2": dtypes.f8e5m2,
}  # fmt: skip


def dtype_from_numpy(dtype: np.dtype[Any]) -> DType:
    """Our dtype for a NumPy one. ZelligeError ZL0501 if there is none, or its byte order is not this machine's."""
    found = _BY_NAME.get(dtype.name)
    if found is None or not dtype.isnative:
        raise ZelligeError(
            "ZL0501", f"arrays of NumPy dtype {dtype} cannot be passed to kernels", help="convert it with .astype"
        )
    return found


def typestr(dtype: np.dtype[Any]) -> str:
    """How the array interface calls a dtype; raw bytes where NumPy itself does not have it (f8e5m2 says "<f1", which means nothing)."""
    return dtype.str if dtype.isbuiltin == 1 else f"|V{dtype.itemsize}"
