"""Stable sorts along the last axis, by keys that hold an order in their high bits and a position in the low ones.

A key of 64 bits has room for a number of at most 32 bits and its position. Numbers of 64 bits are sorted twice, by their low half
and then by their high half: the second sort keeps the order of the first where high halves are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zellige.backends.cuda.expressions import Term
from zellige.ir import ops
from zellige.ir.dtypes import Kind
from zellige.passes.bounds import is_index

if TYPE_CHECKING:
    from zellige.backends.cuda.lowering import Lowering

_POSITION_BITS = 24
_LAST = str(1 << 62)
"""The key of a lane past the true extent: after all others."""


def lower_sort(lowering: Lowering, op: ops.Sort) -> None:
    """Writes the sorted values and the positions that they come from."""
    x, bind = lowering.x, lowering.source.bind
    axis = op.x.type.rank - 1
    text = x.typed(op.x)
    extent = lowering.padding.extent(op.x, axis)
    padded = any(lowering.padding.is_padded(op.x, a) for a in range(op.x.type.rank))
    wide = op.x.type.dtype.bits > 32 and not (is_index(op.x) and not x.is_wide(op.x))

    lanes = bind(f"tl.arange(0, {extent})", "lanes")
    place = lanes if not axis else f"{lanes}[{', '.join(['None'] * axis + [':'])}]"

    def order_by(number: str) -> str:
        """The positions of the true lanes in the order of their numbers, each of at most 32 bits."""
        key = bind(f"({number} << {_POSITION_BITS}) | {place}", "key")
        key = bind(f"tl.sort({x.where_true(op.x, key, (axis,), _LAST)})", "sorted")
        return bind(f"({key} & {(1 << _POSITION_BITS) - 1}).to(tl.int32)", "order")

    def inside(order: str) -> str:
        """Positions to gather from: past the true extent they are any."""
        return f"{order} & {extent - 1}" if padded else order

    ordered = bind(_ordered(lowering, op, text), "ordered")
    if wide:
        first = order_by(f"({ordered} & 4294967295)")
        high = bind(f"tl.gather({ordered}, {inside(first)}, {axis}) >> 32", "high")
        order = bind(f"tl.gather({first}, {inside(order_by(high))}, {axis})", "order")
    else:
        order = order_by(ordered)
    x.define(op.order, Term(order))
    x.bind(op.result, f"tl.gather({text}, {inside(order)}, {axis})")


def _ordered(lowering: Lowering, op: ops.Sort, text: str) -> str:
    """i64 numbers that are ordered as the values are; of floats, both zeros are equal and NaNs are largest."""
    bind, dtype = lowering.source.bind, op.x.type.dtype
    if dtype.is_float:
        size, most, nan = (64, (1 << 63) - 1, 0x7FF8 << 48) if dtype.bits == 64 else (32, (1 << 31) - 1, 0x7FC0 << 16)
        number = text if dtype.bits >= 32 else bind(f"{text}.to(tl.float32)", "number")
        bits = f"{number}.to(tl.int{size}, bitcast=True)"
        bits = bind(f"tl.where({number} == 0, 0, tl.where({number} == {number}, {bits}, {nan}))", "bits")
        ordered = f"({bits} ^ (({bits} >> {size - 1}) & {most}))"
        if size == 32:
            ordered = f"{ordered}.to(tl.int64)"
    elif dtype.kind is Kind.UNSIGNED and dtype.bits == 64:
        ordered = f"({text}.to(tl.int64, bitcast=True) ^ ({-(1 << 63)}))"
    else:
        ordered = f"{text}.to(tl.int64)"
    return f"~{ordered}" if op.descending else ordered
