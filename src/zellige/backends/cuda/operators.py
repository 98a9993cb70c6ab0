"""The table from IR operations to Triton expressions.

``{x}``, ``{y}``, … stand for operands. Operations that need more than a template are in ``lowering.py``.
"""

from __future__ import annotations

import math
from ctypes import c_float

from zellige.ir import dtypes
from zellige.ir.dtypes import DType, Kind
from zellige.ir.ops import BinaryOp, ReduceOp, UnaryOp, UpdateOp

TRITON_DTYPE: dict[DType, str] = {
    dtypes.bool_: "tl.int1",
    dtypes.i8: "tl.int8", dtypes.i16: "tl.int16", dtypes.i32: "tl.int32", dtypes.i64: "tl.int64",
    dtypes.u8: "tl.uint8", dtypes.u16: "tl.uint16", dtypes.u32: "tl.uint32", dtypes.u64: "tl.uint64",
    dtypes.f16: "tl.float16", dtypes.bf16: "tl.bfloat16", dtypes.f32: "tl.float32", dtypes.f64: "tl.float64",
    dtypes.f8e4m3: "tl.float8e4nv", dtypes.f8e5m2: "tl.float8e5",
}  # fmt: skip

SIGNATURE: dict[DType, str] = {
    dtypes.bool_: "i1",
    dtypes.i8: "i8", dtypes.i16: "i16", dtypes.i32: "i32", dtypes.i64: "i64",
    dtypes.u8: "u8", dtypes.u16: "u16", dtypes.u32: "u32", dtypes.u64: "u64",
    dtypes.f16: "fp16", dtypes.bf16: "bf16", dtypes.f32: "fp32", dtypes.f64: "fp64",
    dtypes.f8e4m3: "fp8e4nv", dtypes.f8e5m2: "fp8e5",
    **dict.fromkeys(dtypes.BLOCKED, "u8"),
}  # fmt: skip
"""Names of element types in a kernel's signature; blocks are bytes."""

UNARY: dict[UnaryOp, str] = {
    UnaryOp.NEG: "-{x}", UnaryOp.NOT: "~{x}", UnaryOp.ABS: "tl.abs({x})",
    UnaryOp.EXP: "tl.exp({x})", UnaryOp.EXP2: "tl.exp2({x})", UnaryOp.LOG: "tl.log({x})", UnaryOp.LOG2: "tl.log2({x})",
    UnaryOp.SQRT: "tl.sqrt_rn({x})", UnaryOp.RSQRT: "tl.rsqrt({x})", UnaryOp.SIN: "tl.sin({x})", UnaryOp.COS: "tl.cos({x})",
    UnaryOp.TANH: "libdevice.tanh({x})", UnaryOp.ERF: "tl.erf({x})", UnaryOp.SIGMOID: "1.0 / (1.0 + tl.exp(-{x}))",
    UnaryOp.FLOOR: "tl.floor({x})", UnaryOp.CEIL: "tl.ceil({x})", UnaryOp.ROUND: "libdevice.rint({x})",
}  # fmt: skip

UNARY_F64: dict[UnaryOp, str] = {UnaryOp.SQRT: "libdevice.sqrt({x})", UnaryOp.RSQRT: "(1.0 / libdevice.sqrt({x}))"}
"""Where double precision goes another way."""

EXACT_IN_ANY_FLOAT = frozenset((UnaryOp.NEG, UnaryOp.NOT, UnaryOp.ABS))
"""Functions that need no wider float to compute in."""

BINARY: dict[BinaryOp, str] = {
    BinaryOp.ADD: "{x} + {y}", BinaryOp.SUB: "{x} - {y}", BinaryOp.MUL: "{x} * {y}", BinaryOp.DIV: "{x} / {y}",
    BinaryOp.FLOORDIV: "{x} // {y}", BinaryOp.MOD: "{x} % {y}",
    BinaryOp.MIN: "tl.minimum({x}, {y})", BinaryOp.MAX: "tl.maximum({x}, {y})",
    BinaryOp.AND: "{x} & {y}", BinaryOp.OR: "{x} | {y}", BinaryOp.XOR: "{x} ^ {y}",
    BinaryOp.SHL: "{x} << {y}", BinaryOp.SHR: "{x} >> {y}",
    BinaryOp.EQ: "{x} == {y}", BinaryOp.NE: "{x} != {y}", BinaryOp.LT: "{x} < {y}", BinaryOp.LE: "{x} <= {y}",
    BinaryOp.GT: "{x} > {y}", BinaryOp.GE: "{x} >= {y}",
}  # fmt: skip

BINARY_FLOAT: dict[BinaryOp, str] = {
    **BINARY, BinaryOp.MIN: "tl.minimum({x}, {y}, _PROPAGATE)", BinaryOp.MAX: "tl.maximum({x}, {y}, _PROPAGATE)",
}  # fmt: skip
"""Of floats: an extremum of a NaN is one, as NumPy has it."""

REDUCE: dict[ReduceOp, str] = {
    ReduceOp.SUM: "tl.sum({x}, {axis})", ReduceOp.PROD: "tl.reduce({x}, {axis}, _product)",
    ReduceOp.MAX: "tl.max({x}, {axis})", ReduceOp.MIN: "tl.min({x}, {axis})",
    ReduceOp.ARGMAX: "tl.reduce(({x}, _places({x}, {axis})), {axis}, _first_largest)[1]",
    ReduceOp.ARGMIN: "tl.reduce(({x}, _places({x}, {axis})), {axis}, _first_smallest)[1]",
    ReduceOp.ANY: "tl.max({x}.to(tl.int32), {axis}) != 0", ReduceOp.ALL: "tl.min({x}.to(tl.int32), {axis}) != 0",
}  # fmt: skip

REDUCE_FLOAT: dict[ReduceOp, str] = {
    **REDUCE, ReduceOp.MAX: "tl.reduce({x}, {axis}, _greater)", ReduceOp.MIN: "tl.reduce({x}, {axis}, _lesser)",
}  # fmt: skip

SCAN: dict[ReduceOp, str] = {
    ReduceOp.SUM: "tl.cumsum({x}, {axis})", ReduceOp.PROD: "tl.cumprod({x}, {axis})",
    ReduceOp.MAX: "tl.associative_scan({x}, {axis}, _greater)", ReduceOp.MIN: "tl.associative_scan({x}, {axis}, _lesser)",
}  # fmt: skip

UPDATE: dict[UpdateOp, str] = {
    UpdateOp.ADD: "tl.atomic_add", UpdateOp.MAX: "tl.atomic_max", UpdateOp.MIN: "tl.atomic_min",
    UpdateOp.AND: "tl.atomic_and", UpdateOp.OR: "tl.atomic_or",
}  # fmt: skip

_ATOMIC_INTEGERS = ("i32", "i64", "u32", "u64")
ATOMIC: dict[UpdateOp, tuple[str, ...]] = {
    UpdateOp.ADD: (*_ATOMIC_INTEGERS, "f16", "bf16", "f32", "f64"), UpdateOp.MAX: (*_ATOMIC_INTEGERS, "f32", "f64"),
    UpdateOp.MIN: (*_ATOMIC_INTEGERS, "f32", "f64"), UpdateOp.AND: _ATOMIC_INTEGERS, UpdateOp.OR: _ATOMIC_INTEGERS,
}  # fmt: skip
"""The types that each update exists for: what Triton compiles."""

COMBINE: dict[UpdateOp, str] = {
    UpdateOp.ADD: "{x} + {y}", UpdateOp.MAX: "tl.maximum({x}, {y})", UpdateOp.MIN: "tl.minimum({x}, {y})",
    UpdateOp.AND: "{x} & {y}", UpdateOp.OR: "{x} | {y}",
}  # fmt: skip

SUMMED_BY_THE_UNITS = 128
"""Products of fp8 numbers that the matrix units may add up before the sum goes to f32: on sm_90 they keep about 14 bits
(DeepSeek-V3, 2024, section 3.3.2, which adds up outside as often)."""

PRELUDE = '''"""Generated by Zellige; do not edit."""

import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

_PROPAGATE = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def _product(a, b):
    return a * b


@triton.jit
def _greater(a, b):
    return tl.maximum(a, b, _PROPAGATE)


@triton.jit
def _lesser(a, b):
    return tl.minimum(a, b, _PROPAGATE)


@triton.jit
def _first_largest(x, i, y, j):
    nan, other = x != x, y != y
    wins = (x > y) | (nan & ~other) | (((x == y) | (nan & other)) & (i < j))
    return tl.where(wins, x, y), tl.where(wins, i, j)


@triton.jit
def _first_smallest(x, i, y, j):
    nan, other = x != x, y != y
    wins = (x < y) | (nan & ~other) | (((x == y) | (nan & other)) & (i < j))
    return tl.where(wins, x, y), tl.where(wins, i, j)


@triton.jit
def _places(x, axis: tl.constexpr):
    places = tl.arange(0, x.shape[axis])
    for other in tl.static_range(len(x.shape)):
        if other != axis:
            places = tl.expand_dims(places, other)
    return tl.broadcast_to(places, x.shape)


@triton.jit
def _prefetch(pointers, wanted):
    pointers, wanted = tl.broadcast(pointers, wanted.to(tl.int32))
    tl.inline_asm_elementwise(
        "{ .reg .pred p; setp.ne.s32 p, $2, 0; @p prefetch.global.L2 [$1]; mov.u32 $0, 0; }",
        "=r,l,r", [pointers, wanted], dtype=tl.int32, is_pure=False, pack=1,
    )


'''


def number(value: int | float | bool, dtype: DType) -> str:
    """A constant as a Triton literal, parenthesised if negative."""
    if dtype.is_bool:
        return str(bool(value))
    if not dtype.is_float:
        return str(int(value)) if value >= 0 else f"({int(value)})"
    value = float(value)
    if (
        dtype is dtypes.f32 and not 2**-126 <= abs(value) <= (2 - 2**-23) * 2.0**127
    ):  # Triton takes some of these for an f64
        value = c_float(value).value
    if math.isnan(value) or math.isinf(value):
        return f'float("{value}")'
    if value == 0 and math.copysign(1, value) < 0:  # (a literal one Triton takes for 0)
        return f"tl.full((), {-(1 << 31)}, tl.int32).to(tl.float32, bitcast=True).to({TRITON_DTYPE[dtype]})"
    return repr(value) if value >= 0 else f"({value!r})"


def neutral(op: ReduceOp, dtype: DType) -> str:
    """The literal that changes nothing when ``op`` combines it with another element."""
    largest = op in (ReduceOp.MIN, ReduceOp.ARGMIN)
    match op:
        case ReduceOp.SUM | ReduceOp.ANY:
            return number(0, dtype)
        case ReduceOp.PROD | ReduceOp.ALL:
            return number(1, dtype)
    if dtype.is_float:
        return 'float("inf")' if largest else 'float("-inf")'
    if dtype.kind is Kind.INDEX:
        return number((1 << 31) - 1 if largest else -(1 << 31), dtype)
    if dtype.is_bool:
        return number(largest, dtype)
    low, high = dtype.integer_range()
    return number(high if largest else low, dtype)
