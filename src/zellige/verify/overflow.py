"""Index arithmetic fits its width: 64 bits always, 32 where the author demands it.

Every operation's result is checked by itself, on all lanes, so intermediate values fit, too. With 32 bits the flattened
offset of every active element has to fit as well (arrays are addressed as if contiguous).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from math import inf

from zellige.ir import ops
from zellige.ir.ops import BinaryOp, Block, Op, ReduceOp, UnaryOp, Value
from zellige.verify import terms
from zellige.verify.obligations import Access, Claim, Kind, index_values
from zellige.verify.symbolic import Symbols
from zellige.verify.terms import Bool, Int, const

ELEMENTS = 1 << 62
"""Arrays have fewer elements than this: a launch condition."""

_GROWS = (BinaryOp.ADD, BinaryOp.SUB, BinaryOp.MUL, BinaryOp.SHL, BinaryOp.FLOORDIV)


def width_claims(symbols: Symbols, op: Op, block: Block, tag: str) -> Iterator[Claim]:
    """The index values that an operation makes fit."""
    bits = symbols.function.index_bits
    if isinstance(op, ops.For):
        past = symbols.int_at(op.lower, ()) + symbols.completed(op, block) * op.step
        yield _claim(symbols, op, block, past, bits, (), "the loop counter's last step")
    for value in index_values(op):
        if isinstance(op, ops.For | ops.While | ops.If) or (bits == 64 and not _can_grow(op)):
            continue
        if bits == 64 and isinstance(op, ops.Binary) and op.op is BinaryOp.FLOORDIV and not _may_be_least(symbols, op):
            continue
        lanes = symbols.lanes(value.type.shape, tag)
        if not _followed(op):
            number = _sum_bound(symbols, op)
        else:
            number = symbols.int_at(value, lanes)
        yield _claim(symbols, op, block, number, bits, lanes, "an index value")


def offset_claim(symbols: Symbols, access: Access) -> Claim | None:
    """The flattened offset of every active element fits 32 bits. None where 64 are used."""
    if symbols.function.index_bits == 64:
        return None
    shape = symbols.function.array(access.array).shape
    offset = reduce(
        lambda sofar, part: sofar * symbols.extent(part[1]) + part[0],
        zip(access.coordinates, shape, strict=True), const(0),
    )  # fmt: skip
    claim = _claim(symbols, access.op, access.block, offset, 32, access.lanes, f"the offset into '{access.array}'")
    return Claim(
        claim.kind, claim.code, claim.span, (access.active, *claim.assumptions), claim.goal, claim.what, claim.shown,
        claim.places, claim.lanes, access.array, claim.bound, present=claim.present,
    )  # fmt: skip


def _claim(symbols: Symbols, op: Op, block: Block, number: Int, bits: int, lanes: tuple[Int, ...], what: str) -> Claim:
    limit = 1 << (bits - 1)
    small = (
        (symbols.path(block), *_sizes(symbols))
        if symbols.ranges.interval(number)[1] >= limit
        else (symbols.path(block),)
    )
    return Claim(
        Kind.OVERFLOW, "ZL0401", op.span, small, terms.between(-limit, number, limit - 1), f"{what} fits {bits} bits",
        {"value": number, "largest": const(limit - 1)}, (block,), lanes, bound=str(bits),
        present=(*symbols.scope(block), *lanes),
    )  # fmt: skip


def _sizes(symbols: Symbols) -> Iterator[Bool]:
    """Launch conditions on the number of elements of arrays."""
    for array in symbols.function.arrays:
        if len(array.shape) > 2:
            count = reduce(Int.__mul__, map(symbols.extent, array.shape), const(1))
            yield terms.lt(count, ELEMENTS)


def _can_grow(op: Op) -> bool:
    match op:
        case ops.Constant(value=value):
            return not -(1 << 63) <= value < 1 << 63  # folded, from extents
        case ops.Binary():
            return op.op in _GROWS
        case ops.Unary():
            return op.op in (UnaryOp.NEG, UnaryOp.ABS)
        case ops.ExtentValue():
            return True
        case ops.Reduce() | ops.Scan():
            return op.op in (ReduceOp.SUM, ReduceOp.PROD)
    return False


def _may_be_least(symbols: Symbols, op: ops.Binary) -> bool:
    """Whether a quotient may be of the least number by −1, as far as bounds say: the only one that does not fit."""
    lanes = symbols.lanes(op.result.type.shape, ".quotient")
    x, y = (symbols.ranges.interval(symbols.int_at(value, lanes)) for value in (op.x, op.y))
    return x[0] <= -(1 << 63) and y[0] <= -1 <= y[1]


def _followed(op: Op) -> bool:
    match op:
        case ops.Reduce() | ops.Scan():
            return op.op not in (ReduceOp.SUM, ReduceOp.PROD)
        case ops.Binary(op=BinaryOp.SHL):
            return False
    return True


def _sum_bound(symbols: Symbols, op: Op) -> Int:
    """A number as large as a sum's elements can make it; too large to fit for what is not followed at all."""
    beyond = const(1 << 100)
    match op:
        case ops.Reduce(op=ReduceOp.SUM) | ops.Scan(op=ReduceOp.SUM):
            low, high = element_range(symbols, op.x)
            if low > -inf and high < inf:
                return const(int(max(-low, high))) * symbols.extent(op.x.type.shape[op.axis])
        case ops.Binary(op=BinaryOp.SHL):
            shift = symbols.int_at(op.y, symbols.lanes(op.y.type.shape, ".shift"))
            if shift.constant is not None and 0 <= shift.constant < 63:
                return symbols.int_at(op.x, symbols.lanes(op.x.type.shape, ".shift")) * (1 << shift.constant)
    return beyond


def element_range(symbols: Symbols, x: Value) -> tuple[float, float]:
    """Numbers that all elements of a tile lie between."""
    if x.type.dtype.is_bool:
        return 0, 1
    return symbols.ranges.interval(symbols.int_at(x, symbols.lanes(x.type.shape, ".element")))
