"""Dtypes by the names that they have in Python, NumPy and PyTorch: what to write in their place."""

from __future__ import annotations

from zellige.diagnostics.errors import ZelligeError
from zellige.ir import dtypes
from zellige.ir.dtypes import DType

DTYPES = {
    "float": "zl.f32", "int": "zl.i32", "bool": "zl.bool_", "bool_": "zl.bool_", "float16": "zl.f16", "float32": "zl.f32",
    "float64": "zl.f64", "double": "zl.f64", "half": "zl.f16", "bfloat16": "zl.bf16", "int8": "zl.i8", "int16": "zl.i16",
    "int32": "zl.i32", "int64": "zl.i64", "uint8": "zl.u8", "uint16": "zl.u16", "uint32": "zl.u32", "uint64": "zl.u64",
    "float8_e4m3fn": "zl.f8e4m3", "float8_e5m2": "zl.f8e5m2",
}  # fmt: skip


def dtype_for(value: object, form: str = "use {}") -> str:
    """``form`` with the dtype that someone meant by a type of another library, or by a name."""
    name = value if isinstance(value, str) else getattr(value, "__name__", getattr(value, "name", ""))
    short = str(name).removeprefix("zl.")
    if short not in DTYPES and isinstance(getattr(dtypes, short, None), DType):
        return form.format(f"zl.{short}")
    return form.format(DTYPES.get(short, "a dtype: zl.f32, zl.bf16, zl.i32, …"))


def checked(value: object, code: str) -> DType:
    """A dtype. ZelligeError with this code for anything else."""
    if not isinstance(value, DType):
        shown = getattr(value, "__name__", None) or repr(value)
        raise ZelligeError(code, f"{shown} is not a dtype of kernels", help=dtype_for(value))
    return value
