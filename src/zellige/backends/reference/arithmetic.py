"""What elementwise operations, casts and reductions compute, in NumPy.

Values are arrays of the NumPy dtype of their element type (``index``: int64, block types: unpacked to float32).
Rounding is to nearest, ties to even; transcendental functions and sums are computed in double precision and rounded
once, so that the interpreter is at least as exact as any backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np

from zellige.backends.reference.report import Fault, Trip
from zellige.ir import dtypes
from zellige.ir.block_layout import BlockLayout, Integers
from zellige.ir.dtypes import DType, Kind
from zellige.ir.ops import BinaryOp, ReduceOp, UnaryOp, UpdateOp

Array = np.ndarray[Any, Any]

NUMPY: dict[DType, np.dtype[Any]] = {
    dtypes.bool_: np.dtype(np.bool_),
    dtypes.i8: np.dtype(np.int8),
    dtypes.i16: np.dtype(np.int16),
    dtypes.i32: np.dtype(np.int32),
    dtypes.i64: np.dtype(np.int64),
    dtypes.u8: np.dtype(np.uint8),
    dtypes.u16: np.dtype(np.uint16),
    dtypes.u32: np.dtype(np.uint32),
    dtypes.u64: np.dtype(np.uint64),
    dtypes.f16: np.dtype(np.float16),
    dtypes.bf16: np.dtype(ml_dtypes.bfloat16),
    dtypes.f32: np.dtype(np.float32),
    dtypes.f64: np.dtype(np.float64),
    dtypes.f8e4m3: np.dtype(ml_dtypes.float8_e4m3fn),
    dtypes.f8e5m2: np.dtype(ml_dtypes.float8_e5m2),
    dtypes.index: np.dtype(np.int64),
    **dict.fromkeys(dtypes.BLOCKED, np.dtype(np.float32)),
}
"""The NumPy dtype in which a tile of each element type is held."""

_INT64 = np.iinfo(np.int64)


# --- rounding and conversion


def rounded(x: Array, dtype: DType) -> Array:
    """Floats of any width as ``dtype``, rounded once to nearest even."""
    target = NUMPY[dtype]
    if x.dtype == target:
        return x
    if x.dtype == np.float64 and target not in (np.dtype(np.float32), np.dtype(np.float16)):
        x = _to_odd(x)
    return x.astype(target)


def _to_odd(x: Array) -> Array:
    """Doubles as floats rounded to odd, after which rounding to at most 22 bits equals rounding the double."""
    near = np.asarray(x).astype(np.float32)
    back = near.astype(np.float64)
    inexact = np.isfinite(x) & (back != x)
    bits = near.view(np.uint32).copy() if near.ndim else np.asarray(near).reshape(1).view(np.uint32).copy()
    inexact, away = np.reshape(inexact, bits.shape), np.reshape(np.abs(back) > np.abs(x), bits.shape)
    bits[inexact & away] -= 1
    bits[inexact] |= 1
    return bits.view(np.float32).reshape(near.shape)


def fma(x: Array, y: Array, z: Array) -> Array:
    """x·y + z of floats or doubles, rounded once."""
    if x.dtype == np.float64:
        return np.asarray(_FMA(x, y, z)).astype(np.float64)
    product, addend = x.astype(np.float64) * y.astype(np.float64), z.astype(np.float64)  # the product is exact
    total = product + addend
    part = total - product
    lost = (product - (total - part)) + (addend - part)  # what rounding the sum to 53 bits left out (Knuth's two-sum)
    # rounded to odd instead: 53 bits are more than 2·24 + 2, so that rounding this to 24 bits equals rounding the exact sum
    bits = np.atleast_1d(total).view(np.int64).copy()
    inexact = np.reshape(np.isfinite(total) & np.isfinite(lost) & (lost != 0), bits.shape) & (bits & 1 == 0)
    bits[inexact] += np.where(np.reshape((lost > 0) == (total > 0), bits.shape), 1, -1)[inexact]
    return np.reshape(bits.view(np.float64), total.shape).astype(np.float32)


def _exact(x: float, y: float, z: float) -> float:
    if not (math.isfinite(x) and math.isfinite(y)):
        return x * y + z
    if not math.isfinite(z):
        return z  # however large the product
    total = Fraction(x) * Fraction(y) + Fraction(z)
    if total == 0:
        return x * y + z  # the sign of a zero
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


_FMA = np.frompyfunc(_exact, 3, 1)


def convert(x: Array, source: DType, target: DType) -> Array:
    """``Cast``. Fault if a value is not representable as ``index``, or an ``index`` not in the target integer type."""
    if target.is_bool:
        return np.not_equal(x, 0)
    if source.is_float or source.is_block:
        return rounded(x, target) if target.is_float else _truncated(x, target)
    if target.is_float:
        return x.astype(np.float32) if target is dtypes.f32 else rounded(x.astype(np.float64), target)
    if source is dtypes.index and target is not dtypes.index:
        low, high = target.integer_range()
        _in_range(x, low, high, f"does not fit {target}")
    if target is dtypes.index and source is dtypes.u64:
        _in_range(x, 0, _INT64.max, "does not fit a 64-bit index")
    return x.astype(NUMPY[target])


def _truncated(x: Array, target: DType) -> Array:
    """Floats as integers: towards zero, saturating, NaN to 0."""
    low, high = target.integer_range()
    whole = np.trunc(x.astype(np.float64))
    inside = (whole >= float(low)) & (whole < float(high + 1))
    result = np.where(inside, whole, 0).astype(NUMPY[target])
    result = np.where(whole >= float(high + 1), np.array(high, NUMPY[target]), result)
    return np.where(whole < float(low), np.array(low, NUMPY[target]), result)


def _in_range(x: Array, low: int, high: int, message: str) -> None:
    if x.size and (int(x.min()) < low or int(x.max()) > high):
        value = int(x.max()) if int(x.max()) > high else int(x.min())
        raise Fault(Trip.INDEX_OVERFLOW, f"{value} {message}")


def check_width(x: Array, bits: int) -> None:
    """Fault unless every index fits in ``bits`` bits."""
    if bits < 64:
        _in_range(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1, f"does not fit a {bits}-bit index")


def check_counter(value: int, bits: int) -> None:
    """Fault unless a loop's counter fits in ``bits`` bits."""
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise Fault(Trip.INDEX_OVERFLOW, f"a loop counts to {value}, which {bits} bits do not hold")


def constant(value: int | float | bool, dtype: DType) -> Array:
    """A scalar constant. Fault if an index constant needs more than 64 bits."""
    if dtype.is_float:
        return rounded(np.array(float(value)), dtype)
    if dtype is dtypes.index and not _INT64.min <= value <= _INT64.max:
        raise Fault(Trip.INDEX_OVERFLOW, f"{value} does not fit a 64-bit index")
    return np.array(value, NUMPY[dtype])


# --- elementwise

_erf = np.frompyfunc(math.erf, 1, 1)

_FLOAT_UNARY: dict[UnaryOp, Callable[[Array], Array]] = {
    UnaryOp.EXP: np.exp,
    UnaryOp.EXP2: np.exp2,
    UnaryOp.LOG: np.log,
    UnaryOp.LOG2: np.log2,
    UnaryOp.SQRT: np.sqrt,
    UnaryOp.RSQRT: lambda x: 1 / np.sqrt(x),
    UnaryOp.SIN: np.sin,
    UnaryOp.COS: np.cos,
    UnaryOp.TANH: np.tanh,
    UnaryOp.ERF: lambda x: np.asarray(_erf(x)).astype(np.float64),
    UnaryOp.SIGMOID: lambda x: 1 / (1 + np.exp(-x)),
    UnaryOp.FLOOR: np.floor,
    UnaryOp.CEIL: np.ceil,
    UnaryOp.ROUND: np.rint,
}


def unary(op: UnaryOp, x: Array, dtype: DType) -> Array:
    """An elementwise function of one operand. Fault if an index overflows."""
    match op:
        case UnaryOp.NOT:
            return np.logical_not(x) if dtype.is_bool else np.invert(x)
        case UnaryOp.NEG | UnaryOp.ABS:
            if dtype is dtypes.index and x.size and int(x.min()) == _INT64.min:
                raise Fault(Trip.INDEX_OVERFLOW, f"{op.value} of {_INT64.min}")
            return np.negative(x) if op is UnaryOp.NEG else np.abs(x)
    return rounded(np.asarray(_FLOAT_UNARY[op](x.astype(np.float64))), dtype)


_BINARY: dict[BinaryOp, Callable[[Array, Array], Array]] = {
    BinaryOp.ADD: np.add,
    BinaryOp.SUB: np.subtract,
    BinaryOp.MUL: np.multiply,
    BinaryOp.DIV: np.divide,
    BinaryOp.FLOORDIV: np.floor_divide,
    BinaryOp.MOD: np.remainder,
    BinaryOp.MIN: np.minimum,
    BinaryOp.MAX: np.maximum,
    BinaryOp.AND: np.bitwise_and,
    BinaryOp.OR: np.bitwise_or,
    BinaryOp.XOR: np.bitwise_xor,
    BinaryOp.SHL: np.left_shift,
    BinaryOp.SHR: np.right_shift,
    BinaryOp.EQ: np.equal,
    BinaryOp.NE: np.not_equal,
    BinaryOp.LT: np.less,
    BinaryOp.LE: np.less_equal,
    BinaryOp.GT: np.greater,
    BinaryOp.GE: np.greater_equal,
}

_MAY_OVERFLOW: dict[BinaryOp, Callable[[Any, Any], Any]] = {
    BinaryOp.ADD: lambda x, y: x + y,
    BinaryOp.SUB: lambda x, y: x - y,
    BinaryOp.MUL: lambda x, y: x * y,
    BinaryOp.SHL: lambda x, y: x * 2**y,
    BinaryOp.FLOORDIV: lambda x, y: x // y,
}


def binary(op: BinaryOp, x: Array, y: Array, dtype: DType) -> Array:
    """An elementwise function of two operands of ``dtype``. Fault on integer division by zero or index overflow."""
    if op in (BinaryOp.FLOORDIV, BinaryOp.MOD) and np.any(y == 0):
        raise Fault(Trip.DIVISION_BY_ZERO, f"{op.value} by zero")
    if dtype is dtypes.index and op in _MAY_OVERFLOW:
        _check_exact(op, x, y)
    return _BINARY[op](x, y)


def _check_exact(op: BinaryOp, x: Array, y: Array) -> None:
    """Fault if ``op`` on 64-bit indices leaves the 64-bit range (estimated in floats, decided in exact integers)."""
    operation = _MAY_OVERFLOW[op]
    estimate = np.abs(operation(x.astype(np.float64), y.astype(np.float64)))
    if estimate.size and estimate.max() >= 2.0**62:
        exact = np.asarray(operation(np.asarray(x, dtype=object), np.asarray(y, dtype=object)), dtype=object)
        for value in exact.flat:
            if not _INT64.min <= value <= _INT64.max:
                raise Fault(Trip.INDEX_OVERFLOW, f"{op.value} gives {value}")


# --- reductions

_RUNNING: dict[ReduceOp, Any] = {
    ReduceOp.SUM: np.add,
    ReduceOp.PROD: np.multiply,
    ReduceOp.MAX: np.maximum,
    ReduceOp.MIN: np.minimum,
}


def _wide(x: Array, dtype: DType) -> Array:
    """A tile in the type that its reductions are computed in."""
    return x.astype(np.float64) if dtype.is_float else x


def reduce(op: ReduceOp, x: Array, axis: int, dtype: DType) -> Array:
    """``Reduce``. An empty axis gives the neutral element, and position 0, which no axis of extent 0 has."""
    match op:
        case ReduceOp.ANY:
            return np.asarray(np.any(x, axis=axis))
        case ReduceOp.ALL:
            return np.asarray(np.all(x, axis=axis))
        case ReduceOp.ARGMAX | ReduceOp.ARGMIN:
            if x.shape[axis] == 0:
                return np.zeros((*x.shape[:axis], *x.shape[axis + 1 :]), np.int64)
            position = np.argmax if op is ReduceOp.ARGMAX else np.argmin
            return np.asarray(position(_wide(x, dtype), axis=axis)).astype(np.int64)
    if dtype is dtypes.index and op in (ReduceOp.SUM, ReduceOp.PROD):
        exact = _RUNNING[op].reduce(np.asarray(x, dtype=object), axis=axis)
        _in_range(np.asarray(exact, dtype=object), _INT64.min, _INT64.max, "does not fit a 64-bit index")
        return np.asarray(exact).astype(np.int64)
    wide = _wide(x, dtype)
    if op in (ReduceOp.MAX, ReduceOp.MIN):
        return rounded_or_wrapped(_RUNNING[op].reduce(wide, axis=axis, initial=_neutral(op, dtype)), dtype)
    return rounded_or_wrapped(_RUNNING[op].reduce(wide, axis=axis, dtype=wide.dtype), dtype)


def _neutral(op: ReduceOp, dtype: DType) -> Any:
    if dtype.is_float:
        return -np.inf if op is ReduceOp.MAX else np.inf
    low, high = (_INT64.min, _INT64.max) if dtype is dtypes.index else dtype.integer_range()
    return NUMPY[dtype].type(low if op is ReduceOp.MAX else high)


def scan(op: ReduceOp, x: Array, axis: int, dtype: DType) -> Array:
    """``Scan``. Fault if an index overflows."""
    if dtype is dtypes.index and op in (ReduceOp.SUM, ReduceOp.PROD):
        exact = _RUNNING[op].accumulate(np.asarray(x, dtype=object), axis=axis)
        _in_range(np.asarray(exact, dtype=object), _INT64.min, _INT64.max, "does not fit a 64-bit index")
        return np.asarray(exact).astype(np.int64)
    wide = _wide(x, dtype)
    return rounded_or_wrapped(_RUNNING[op].accumulate(wide, axis=axis, dtype=wide.dtype), dtype)


def rounded_or_wrapped(x: Any, dtype: DType) -> Array:
    """A result computed in a wide type as ``dtype``: floats rounded, integers wrapped."""
    x = np.asarray(x)
    return rounded(x, dtype) if dtype.is_float else x.astype(NUMPY[dtype])


def offsets(lengths: Array, total: int) -> Array:
    """``Offsets``: the running sum of the lengths, saturated at ``total``, which also stands last."""
    total = max(total, 0)
    ends = np.add.accumulate([0, *(max(int(n), 0) for n in lengths)], dtype=object)
    ends[-1] = total
    return np.minimum(ends, total).astype(np.int64)


def sort(x: Array, descending: bool) -> tuple[Array, Array]:
    """Values and source positions, sorted stably along the last axis; NaNs come last in ascending order."""
    key = x.astype(np.float64) if x.dtype.kind not in "iub" else x
    if descending:
        backward = np.argsort(key[..., ::-1], axis=-1, kind="stable")
        order = (x.shape[-1] - 1 - backward)[..., ::-1]
    else:
        order = np.argsort(key, axis=-1, kind="stable")
    return np.take_along_axis(x, order, axis=-1), order.astype(np.int64)


def gather(x: Array, positions: Array, axis: int) -> Array:
    """``Gather``. Fault if a position is out of bounds."""
    outside = (positions < 0) | (positions >= x.shape[axis])
    if np.any(outside):
        wrong = int(positions[outside].flat[0])
        raise Fault(Trip.OUT_OF_BOUNDS, f"gather takes position {wrong} of an axis of {x.shape[axis]}")
    return np.take_along_axis(x, positions, axis=axis)


def dot(a: Array, b: Array, acc: Array, dtype: DType) -> Array:
    """``Dot``: exact products; floats are summed in double precision and rounded once to the accumulator's dtype."""
    wide: type[Any] = np.float64 if dtype.is_float else np.int64
    total = acc.astype(wide) + np.matmul(a.astype(wide), b.astype(wide))
    return rounded_or_wrapped(total, dtype)


# --- bits


def bitcast(x: Array, target: DType) -> Array:
    """The same bits as another dtype of equal width."""
    x = np.ascontiguousarray(x)
    return x.view(NUMPY[target]).reshape(x.shape)


def philox(seed: Array, counter: Array) -> Array:
    """Philox-4x32-10, first output word: key = seed (low word first), counter words = (low, high, 0, 0)."""
    mask, m0, m1 = np.uint64(0xFFFFFFFF), np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
    shift = np.uint64(32)
    k0, k1 = seed & mask, seed >> shift
    c0, c1 = counter & mask, counter >> shift
    c2 = c3 = np.zeros_like(c0)
    for _ in range(10):
        p0, p1 = m0 * c0, m1 * c2
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & mask, (p0 >> shift) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    return c0.astype(np.uint32)


_UPDATES: dict[UpdateOp, Any] = {
    UpdateOp.ADD: np.add,
    UpdateOp.MAX: np.maximum,
    UpdateOp.MIN: np.minimum,
    UpdateOp.AND: np.bitwise_and,
    UpdateOp.OR: np.bitwise_or,
}


def update(op: UpdateOp, memory: Array, coordinates: tuple[Array, ...], values: Array) -> None:
    """Combines ``values`` into ``memory`` at ``coordinates``, lane after lane, rounding after each."""
    if memory.dtype.kind in "iubf":
        _UPDATES[op].at(memory, coordinates, values)
        return
    for lane, value in enumerate(values):
        where = tuple(c[lane] for c in coordinates)
        memory[where] = _UPDATES[op](memory[where], value)


# --- block-quantised storage


def unpack(memory: Array, dtype: DType) -> Array:
    """Bytes of whole blocks on the last axis as float32 elements on the last axis."""
    layout = dtype.layout
    assert layout is not None
    count = memory.shape[-1] // layout.bytes
    blocks = np.ascontiguousarray(memory).reshape(*memory.shape[:-1], count, layout.bytes)
    return _unpack_blocks(blocks, layout).reshape(*memory.shape[:-1], count * layout.elements)


def _unpack_blocks(blocks: Array, layout: BlockLayout) -> Array:
    """Blocks, shape (…, block bytes), as elements, shape (…, elements)."""
    scale, codes = _half(blocks, layout.scale), _integers(blocks, layout.codes, layout.elements)
    if layout.factors is not None:
        scale = np.repeat(scale * _integers(blocks, layout.factors, layout.groups), layout.group, axis=-1)
    values: Array = scale * codes
    if layout.minimum is None:
        return values
    low = layout.minimum_sign * _half(blocks, layout.minimum)
    if layout.lows is not None:
        low = np.repeat(low * _integers(blocks, layout.lows, layout.groups), layout.group, axis=-1)
    shifted: Array = values + low
    return shifted


def _half(blocks: Array, offset: int) -> Array:
    """The f16 number at a byte of each block, as f32 of shape (…, 1)."""
    return blocks[..., offset : offset + 2].copy().view(np.float16).astype(np.float32)


def _integers(blocks: Array, integers: Integers, count: int) -> Array:
    """A sequence of `count` packed integers of each block, as f32."""
    found = np.zeros((*blocks.shape[:-1], count), np.int32)
    place = 0
    for plane in integers.planes:
        bytes_, shifts = np.array([plane.place(i) for i in range(count)]).T
        found |= (blocks[..., bytes_].astype(np.int32) >> shifts & (1 << plane.bits) - 1) << place
        place += plane.bits
    if integers.signed:
        found = found.astype(np.int8)
    return found.astype(np.float32) - integers.zero


def storage_shape(shape: tuple[int, ...], dtype: DType) -> tuple[int, ...]:
    """The shape of the NumPy array that holds ``shape`` elements: bytes on the last axis for block types."""
    return (*shape[:-1], dtype.bytes_for(shape[-1])) if dtype.is_block else shape


def storage_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype of an array argument."""
    return np.dtype(np.uint8) if dtype.kind is Kind.BLOCK else NUMPY[dtype]
