"""What a launch checks of dims and scalars: ``zl.requires``, and that extents can be worked out in 64 bits."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from zellige.backends.reference import arithmetic
from zellige.diagnostics.errors import ZelligeError
from zellige.ir import dtypes, ops
from zellige.ir.extent import Extent, Nary, Quotient
from zellige.ir.ops import BinaryOp, Function, UnaryOp, Value
from zellige.ir.walk import results, walk
from zellige.passes.intervals import of_extent

Number = int | float | bool

_BINARY: dict[BinaryOp, Callable[[Any, Any], Any]] = {
    BinaryOp.ADD: operator.add, BinaryOp.SUB: operator.sub, BinaryOp.MUL: operator.mul,
    BinaryOp.FLOORDIV: operator.floordiv, BinaryOp.MOD: operator.mod, BinaryOp.MIN: min, BinaryOp.MAX: max,
    BinaryOp.SHL: lambda x, y: x << y if 0 <= y < 64 else 0, BinaryOp.SHR: lambda x, y: x >> (y if y >= 0 else 64),
    BinaryOp.AND: operator.and_, BinaryOp.OR: operator.or_, BinaryOp.XOR: operator.xor,
    BinaryOp.EQ: operator.eq, BinaryOp.NE: operator.ne, BinaryOp.LT: operator.lt, BinaryOp.LE: operator.le,
    BinaryOp.GT: operator.gt, BinaryOp.GE: operator.ge,
}  # fmt: skip
_UNARY: dict[UnaryOp, Callable[[Any], Any]] = {
    UnaryOp.NEG: operator.neg, UnaryOp.NOT: lambda x: not x if isinstance(x, bool) else ~x, UnaryOp.ABS: abs,
}  # fmt: skip
"""Of integers and truth values; floats are the interpreter's."""


def check(function: Function, dims: Mapping[str, int], scalars: Mapping[str, Number]) -> None:
    """Checks every ``zl.requires`` of a kernel. ZelligeError ZL0507 names the first that is false (or divides by 0), with the
    sizes; ZL0502 an extent that cannot be worked out."""
    check_extents(function, dims)
    known: dict[Value, Number] = {}
    for op in function.body.ops:
        if isinstance(op, ops.Require):
            if not known.get(op.condition, False):
                raise ZelligeError(
                    "ZL0507",
                    f"{function.name} requires {op.text}, which these arguments do not give",
                    facts={**dims, **scalars},
                    span=op.span,
                    help="call it with other sizes or scalars",
                )
            continue
        result = getattr(op, "result", None)
        if isinstance(result, Value) and not result.type.shape:
            value = _evaluate(op, known, dims, scalars)
            if value is not None:
                known[result] = value


_MOST_ELEMENTS = 1 << 62
"""Arrays have fewer (an array whose elements share memory, as ``np.broadcast_to`` makes it, may have any number)."""


def check_extents(function: Function, dims: Mapping[str, int]) -> None:
    """Checks that every extent of a kernel can be worked out (see ``value_of``), and that no axis of its grid and no tile is shorter
    than nothing: two such lengths would multiply to a number of programs, or of elements. ZelligeError ZL0502."""
    for extent in _delicate(function):
        value_of(extent, dims, function.name)
    for length in negative_lengths(function):
        if (value := value_of(length, dims, function.name)) < 0:
            raise ZelligeError(
                "ZL0502", f"{function.name}: {length}, which counts programs or lanes, is {value}", facts=dict(dims),
                help="call it with other sizes",
            )  # fmt: skip


def check_sizes(function: Function, dims: Mapping[str, int]) -> None:
    """Checks that no array has more elements than proofs assume. ZelligeError ZL0502."""
    for array in function.arrays:
        count = prod(extent.evaluate(dims) for extent in array.shape)
        if count >= _MOST_ELEMENTS:
            raise ZelligeError(
                "ZL0502", f"{function.name}: '{array.name}' has {count} elements, and kernels take fewer than 2**62",
                facts=dict(dims), help="call it with a part of the array",
            )  # fmt: skip


def has_preconditions(function: Function) -> bool:
    """Whether there is anything to check at a launch."""
    if _delicate(function) or negative_lengths(function):
        return True
    return any(isinstance(op, ops.Require) for op in function.body.ops)


def value_of(extent: Extent, dims: Mapping[str, int], kernel: str) -> int:
    """The value of an extent. ZelligeError ZL0502 if a divisor is 0, or a part of a quotient, a minimum or a maximum needs more
    than 64 bits: programs work it out in so many. (Of sums and products the result is right, whatever wraps on the way.)"""
    for part, divides in _parts(extent):
        value = value_of(part, dims, kernel)
        if divides and value == 0:
            raise ZelligeError(
                "ZL0502", f"{kernel}: {extent} divides by {part} = 0", facts=dict(dims), help="call it with other sizes"
            )
        if not -(1 << 63) < value < 1 << 63:
            raise ZelligeError(
                "ZL0502", f"{kernel}: {part} in {extent} is {value}, which 64 bits do not hold", facts=dict(dims),
                help="call it with other sizes",
            )  # fmt: skip
    return extent.evaluate(dims)


def _parts(extent: Extent) -> Iterator[tuple[Extent, bool]]:
    """The operands of quotients, minima and maxima in an extent, outermost first, and whether something is divided by them."""
    match extent:
        case Quotient(_, a, b):
            yield a, False
            yield b, True
        case Nary(op, terms) if op in ("min", "max"):
            yield from ((term, False) for term in terms)
        case Nary(_, terms):
            for term in terms:
                yield from _parts(term)


@lru_cache(maxsize=4096)
def _delicate(function: Function) -> tuple[Extent, ...]:
    """The extents of a kernel that cannot be worked out at all sizes."""
    found: dict[Extent, None] = {}
    for array in function.arrays:
        found |= dict.fromkeys((*array.shape, *((array.contract.bound,) if array.contract else ())))
    for axis in function.grid:
        found |= dict.fromkeys((axis.extent, axis.programs))
    for op in walk(function.body):
        for result in results(op):
            found |= dict.fromkeys(result.type.shape)
        if isinstance(op, ops.ExtentValue):
            found[op.extent] = None
    return tuple(extent for extent in found if _is_delicate(extent))


@lru_cache(maxsize=4096)
def negative_lengths(function: Function) -> tuple[Extent, ...]:
    """How many programs axes of the grid have, and lanes axes of tiles, where that is negative at some sizes."""
    found = dict.fromkeys(axis.programs for axis in function.grid)
    for op in walk(function.body):
        for result in results(op):
            found |= dict.fromkeys(result.type.shape)
    return tuple(extent for extent in found if of_extent(extent).low < 0)


def _is_delicate(extent: Extent) -> bool:
    for part, divides in _parts(extent):
        bounds = of_extent(part)
        if (
            bounds.low <= -(1 << 63)
            or bounds.high >= 1 << 63
            or (divides and bounds.low <= 0 <= bounds.high)
            or _is_delicate(part)
        ):
            return True
    return False


def _evaluate(
    op: ops.Op, known: Mapping[Value, Number], dims: Mapping[str, int], scalars: Mapping[str, Number]
) -> Number | None:
    """The value of a scalar operation, or None if it has none: it depends on more than dims and scalars, or divides
    by 0."""
    try:
        match op:
            case ops.Constant(value=value):
                return value
            case ops.ExtentValue(extent=extent):
                return extent.evaluate(dims)
            case ops.ScalarValue(param=name):
                return scalars[name]
            case ops.Unary(op=unary, x=x, result=result):
                if x.type.dtype.is_float:
                    return _of_floats(lambda a: arithmetic.unary(unary, a, x.type.dtype), known, x)
                return _wrapped(_UNARY[unary](known[x]), result)
            case ops.Binary(op=binary, x=x, y=y, result=result):
                if x.type.dtype.is_float:
                    return _of_floats(lambda a, b: arithmetic.binary(binary, a, b, x.type.dtype), known, x, y)
                return _wrapped(_BINARY[binary](known[x], known[y]), result)
            case ops.Select(condition=condition, x=x, y=y):
                return known[x] if known[condition] else known[y]
            case ops.Cast(x=x, result=result):
                if x.type.dtype.is_float or result.type.dtype.is_float:
                    return _of_floats(lambda a: arithmetic.convert(a, x.type.dtype, result.type.dtype), known, x)
                return _wrapped(int(known[x]), result)
            case ops.Fma(x=x, y=y, z=z):
                return _of_floats(lambda a, b, c: arithmetic.fma(a, b, c), known, x, y, z)
            case ops.Bitcast(x=x, result=result):
                return _of_floats(lambda a: arithmetic.bitcast(a, result.type.dtype), known, x)
    except (KeyError, ZeroDivisionError):
        return None
    return None


def _of_floats(function: Callable[..., Any], known: Mapping[Value, Number], *operands: Value) -> Number:
    """What the reference interpreter makes of operands: rounded to their type, and of any number."""
    with np.errstate(all="ignore"):
        made = function(*(arithmetic.constant(known[x], x.type.dtype) for x in operands))
    number: Number = made.item()
    return number


def _wrapped(number: Number, result: Value) -> Number:
    """A number as the kernel has it: integers of fixed width wrap, whatever is not 0 is true. (Of index arithmetic it is proved that it
    fits.)"""
    dtype = result.type.dtype
    if dtype.is_bool:
        return bool(number)
    if dtype is dtypes.index or not dtype.is_integer:
        return number
    low, high = dtype.integer_range()
    return low + (int(number) - low) % (high - low + 1)
