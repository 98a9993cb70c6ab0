"""Element types in registers and in memory, and conversions between them.

The narrow floats (f16, bf16, fp8) travel as integers of their width and are computed on in f32; `index` is i64.
"""

from __future__ import annotations

from dataclasses import dataclass

from zellige.backends.cpu.emit import Emitter, Reg, float_literal
from zellige.backends.cpu.target import Target
from zellige.ir import dtypes
from zellige.ir.dtypes import DType, Kind


@dataclass(frozen=True, slots=True)
class _Narrow:
    """A float format of `mantissa` stored mantissa bits: anything from `limit` up (as unsigned) is inf or NaN."""

    bits: int
    mantissa: int
    bias: int
    limit: int
    overflow: int
    nan: int


_NARROW = {
    dtypes.f16: _Narrow(16, 10, 15, 0x7C00, 0x7C00, 0x7E00),
    dtypes.f8e5m2: _Narrow(8, 2, 15, 0x7C, 0x7C, 0x7E),
    dtypes.f8e4m3: _Narrow(8, 3, 7, 0x7F, 0x7F, 0x7F),  # the "fn" variant: no infinities, out of range is NaN
}
COMPUTED_IN_F32 = frozenset((dtypes.f16, dtypes.bf16, dtypes.f8e4m3, dtypes.f8e5m2))


def register_type(dtype: DType) -> str:
    """LLVM element type of a value of `dtype` in registers."""
    if dtype.is_bool:
        return "i1"
    if dtype is dtypes.f32:
        return "float"
    if dtype is dtypes.f64:
        return "double"
    if dtype.kind is Kind.BLOCK:
        raise AssertionError(f"a {dtype} tile has no registers of its own")
    return f"i{dtype.bits}"


def memory_type(dtype: DType) -> str:
    """LLVM element type of a value of `dtype` in arrays and buffers."""
    return "i8" if dtype.is_bool else register_type(dtype)


def from_memory(e: Emitter, x: Reg, dtype: DType) -> Reg:
    if dtype.is_bool:
        zero = Reg("0", "i8") if not x.lanes else Reg("zeroinitializer", "i8", x.lanes)
        return e.compare("icmp", "ne", x, zero)
    return x


def to_memory(e: Emitter, x: Reg, dtype: DType) -> Reg:
    return e.convert("zext", x, "i8") if dtype.is_bool else x


def literal(value: float | int | bool, dtype: DType, target: Target) -> Reg:
    """The constant `value` of `dtype`."""
    if dtype in (dtypes.f32, dtypes.f64):
        return float_literal(float(value), register_type(dtype))
    if dtype in COMPUTED_IN_F32:
        import ml_dtypes
        import numpy as np

        kind = {
            dtypes.f16: np.float16,
            dtypes.bf16: ml_dtypes.bfloat16,
            dtypes.f8e4m3: ml_dtypes.float8_e4m3fn,
            dtypes.f8e5m2: ml_dtypes.float8_e5m2,
        }[dtype]
        with np.errstate(over="ignore"):
            bits = np.asarray(float(value), kind).view(np.uint16 if dtype.bits == 16 else np.uint8)
        return Reg(str(int(bits)), register_type(dtype))
    if dtype.is_bool:
        return Reg("true" if value else "false", "i1")
    width = dtype.bits
    wrapped = int(value) & ((1 << width) - 1)
    return Reg(str(wrapped - (1 << width) if wrapped >> (width - 1) else wrapped), register_type(dtype))


def cast(e: Emitter, x: Reg, source: DType, to: DType, target: Target) -> Reg:
    """`x` of dtype `source` converted by value, as `ir.ops.Cast` says."""
    if source is to:
        return x
    if source in COMPUTED_IN_F32:
        return cast(e, widen(e, x, source, target), dtypes.f32, to, target)
    if to in COMPUTED_IN_F32:
        if to is dtypes.bf16 and not source.is_float and source.bits >= 32:
            x, source = e.convert("uitofp" if source.kind is Kind.UNSIGNED else "sitofp", x, "double"), dtypes.f64
        single = _rounded_to_odd(e, x) if source is dtypes.f64 else cast(e, x, source, dtypes.f32, target)
        return narrow(e, single, to, target)
    wide = register_type(to)
    if source.is_float:
        if to.is_float:
            return e.convert("fpext" if to.bits > source.bits else "fptrunc", x, wide)
        if to.is_bool:
            return e.compare("fcmp", "une", x, _const(e, 0.0, x))
        return _saturate(e, x, wide, unsigned=to.kind is Kind.UNSIGNED)
    if to.is_bool:
        return e.compare("icmp", "ne", x, _const(e, 0, x))
    unsigned = source.kind in (Kind.UNSIGNED, Kind.BOOL)
    if to.is_float:
        return e.convert("uitofp" if unsigned else "sitofp", x, wide)
    if _width(wide) == _width(x.type):
        return x
    if _width(wide) < _width(x.type):
        return e.convert("trunc", x, wide)
    return e.convert("zext" if unsigned else "sext", x, wide)


def widen(e: Emitter, x: Reg, source: DType, target: Target) -> Reg:
    """A narrow float as f32, exactly."""
    if source is dtypes.bf16:
        return e.convert("bitcast", e.op("shl", e.convert("zext", x, "i32"), _const(e, 16, x, "i32")), "float")
    if source is dtypes.f16 and target.f16_convert:
        return e.convert("fpext", e.convert("bitcast", x, "half"), "float")
    form = _NARROW[source]
    bits = e.convert("zext", x, "i32")
    top = form.bits - 1
    magnitude = e.op("and", bits, _const(e, (1 << top) - 1, bits))
    sign = e.op("shl", e.op("lshr", bits, _const(e, top, bits)), _const(e, 31, bits))
    scaled = e.convert("bitcast", e.op("shl", magnitude, _const(e, 23 - form.mantissa, bits)), "float")
    value = e.op("fmul", scaled, _const(e, 2.0 ** (127 - form.bias), scaled))  # exact, subnormals included
    value_bits = e.convert("bitcast", value, "i32")
    special = e.compare("icmp", "uge", magnitude, _const(e, form.limit, bits))
    infinite = _const(e, 0x7F800000, bits) if form.limit != form.nan else _const(e, 0x7FC00000, bits)
    payload = e.op("shl", e.op("sub", magnitude, _const(e, form.limit, bits)), _const(e, 23 - form.mantissa, bits))
    value_bits = e.select(special, e.op("or", infinite, payload), value_bits)
    return e.convert("bitcast", e.op("or", value_bits, sign), "float")


def narrow(e: Emitter, x: Reg, to: DType, target: Target) -> Reg:
    """f32 rounded to a narrow float, to nearest even."""
    if to is dtypes.bf16:
        return _to_bf16(e, x)
    if to is dtypes.f16 and target.f16_convert:
        return e.convert("bitcast", e.convert("fptrunc", x, "half"), "i16")
    form = _NARROW[to]
    bits = e.convert("bitcast", x, "i32")
    magnitude = e.op("and", bits, _const(e, 0x7FFFFFFF, bits))
    shift = 23 - form.mantissa
    odd = e.op("and", e.op("lshr", magnitude, _const(e, shift, bits)), _const(e, 1, bits))
    rounding = _const(e, ((form.bias - 127) << 23) + (1 << (shift - 1)) - 1, bits)
    normal = e.op("lshr", e.op("add", e.op("add", magnitude, rounding), odd), _const(e, shift, bits))
    # Adding a number whose last place is the smallest subnormal rounds to a multiple of it.
    magic = 2.0 ** (24 - form.bias - form.mantissa)
    absolute = e.convert("bitcast", magnitude, "float")
    shifted = e.convert("bitcast", e.op("fadd", absolute, _const(e, magic, absolute)), "i32")
    magic_bits = e.convert("bitcast", _const(e, magic, absolute), "i32")
    small = e.op("sub", shifted, magic_bits)
    is_small = e.compare("icmp", "ult", magnitude, _const(e, (128 - form.bias) << 23, bits))
    result = e.select(is_small, small, normal)
    over = e.compare("icmp", "uge", result, _const(e, form.limit, bits))
    huge = e.compare("icmp", "uge", magnitude, _const(e, (254 - form.bias + 1) << 23, bits))
    result = e.select(e.op("or", over, huge), _const(e, form.overflow, bits), result)
    is_nan = e.compare("icmp", "ugt", magnitude, _const(e, 0x7F800000, bits))
    result = e.select(is_nan, _const(e, form.nan, bits), result)
    sign = e.op("shl", e.op("lshr", bits, _const(e, 31, bits)), _const(e, form.bits - 1, bits))
    return e.convert("trunc", e.op("or", result, sign), f"i{form.bits}")


def _rounded_to_odd(e: Emitter, x: Reg) -> Reg:
    """f64 as the f32 next to it whose last bit is set, unless one is equal: rounding that to at most 22 bits is rounding once."""
    near = e.convert("fptrunc", x, "float")
    back = e.convert("fpext", near, "double")
    inexact = e.compare("fcmp", "one", back, x)
    away = e.compare("fcmp", "ogt", e.intrinsic("fabs", back), e.intrinsic("fabs", x))
    bits = e.convert("bitcast", near, "i32")
    bits = e.op("sub", bits, e.convert("zext", e.op("and", inexact, away), "i32"))
    return e.convert("bitcast", e.op("or", bits, e.convert("zext", inexact, "i32")), "float")


def _to_bf16(e: Emitter, x: Reg) -> Reg:
    """Not by AVX-512's instruction, which takes subnormal numbers for 0 (vectors only: scalars would get other results)."""
    bits = e.convert("bitcast", x, "i32")
    odd = e.op("and", e.op("lshr", bits, _const(e, 16, bits)), _const(e, 1, bits))
    rounded = e.op("add", e.op("add", bits, _const(e, 0x7FFF, bits)), odd)
    quiet = e.op("or", bits, _const(e, 0x400000, bits))
    chosen = e.select(e.compare("fcmp", "uno", x, x), quiet, rounded)
    return e.convert("trunc", e.op("lshr", chosen, _const(e, 16, bits)), "i16")


def _saturate(e: Emitter, x: Reg, to: str, *, unsigned: bool) -> Reg:
    name = "fptoui" if unsigned else "fptosi"
    vector = f"v{x.lanes}" if x.lanes else ""
    source = "f32" if x.type == "float" else "f64"
    return e.call(f"llvm.{name}.sat.{vector}{to}.{vector}{source}", to, x.lanes, x)


def _const(e: Emitter, value: float | int, like: Reg, type_: str = "") -> Reg:
    type_ = type_ or like.type
    scalar = (
        float_literal(float(value), type_) if type_ in ("float", "double") else Reg(str(_signed(int(value))), type_)
    )
    return e.splat(scalar, like.lanes) if like.lanes else scalar


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 and value < 1 << 32 else value


def _width(type_: str) -> int:
    return int(type_[1:])
