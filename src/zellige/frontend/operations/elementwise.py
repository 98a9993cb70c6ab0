"""Operations that treat each lane alone."""

from __future__ import annotations

from zellige.frontend.context import Context, plain
from zellige.frontend.operations.registry import LOWERINGS, lowers
from zellige.frontend.values import (
    Tile,
)
from zellige.ir import dtypes
from zellige.ir.ops import BinaryOp, UnaryOp


def unary(context: Context, op: UnaryOp, x: object) -> Tile:
    """An elementwise function of one tile."""
    tile = context.scalar_of(float(x) if isinstance(x, int) and not isinstance(x, bool) else x)
    context.check(op, {UnaryOp.NEG: "-", UnaryOp.NOT: "~"}.get(op, f"zl.{op.value}"), tile)
    wide = plain(context.computable(tile))
    return context.cast(wide.with_value(context.builder.unary(op, wide.value)), tile.dtype)


def _register_unary(op: UnaryOp) -> None:
    LOWERINGS[op.value] = lambda context, x: unary(context, op, x)


for _op in UnaryOp:
    if _op not in (UnaryOp.NEG, UnaryOp.NOT):
        _register_unary(_op)


@lowers
def _minimum(context: Context, x: object, y: object) -> object:
    return context.binary(BinaryOp.MIN, x, y)


@lowers
def _maximum(context: Context, x: object, y: object) -> object:
    return context.binary(BinaryOp.MAX, x, y)


@lowers
def _clamp(context: Context, x: object, low: object, high: object) -> object:
    return context.binary(BinaryOp.MIN, context.binary(BinaryOp.MAX, x, low), high)


@lowers
def _fma(context: Context, x: object, y: object, z: object) -> object:
    tiles = [t for t in (x, y, z) if isinstance(t, Tile)] or [context.promoted(x, y)[0]]
    like = tiles[0]
    for tile in tiles[1:]:
        like = context.promoted(like, tile)[0]
    if not like.dtype.is_float:
        return context.binary(BinaryOp.ADD, context.binary(BinaryOp.MUL, x, y), z)
    a, b, c = (context.promoted(t, like)[0] for t in (x, y, z))
    context.fitting("zl.fma", a, b, c)
    if like.dtype.bits < 32:
        a, b, c = (context.cast(t, dtypes.f32) for t in (a, b, c))
    return context.cast(context.combined(context.builder.fma(a.value, b.value, c.value), a, b, c), like.dtype)


def ceildiv(context: Context, x: object, y: object) -> Tile:
    """x / y rounded up, of integers of either sign: an index, so it is exact, and a divisor of 0 is refused."""
    numerator, denominator = context.as_index(x), context.as_index(y)
    divisor = context.builder.constant_of(denominator.value)
    if divisor is not None and divisor > 0:  # the form that tiles of an extent have
        above = context.binary(BinaryOp.ADD, numerator, int(divisor) - 1)
        return context.binary(BinaryOp.FLOORDIV, above, denominator)
    negated = context.binary(BinaryOp.SUB, 0, numerator)
    return context.binary(BinaryOp.SUB, 0, context.binary(BinaryOp.FLOORDIV, negated, denominator))
