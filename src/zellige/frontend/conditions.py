"""``and``, ``or``, chained comparisons and ``x if c else y``: the side that Python does not evaluate is not evaluated here either.

What is decided at run time becomes an ``If``: loads, divisions and claims of a side are made, and have to be proved, under its condition
only. A side that cannot go wrong and costs next to nothing is computed in any case, without a branch.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce

from zellige.frontend import operations
from zellige.frontend.context import Context, describe, plain
from zellige.frontend.errors import refuse
from zellige.frontend.values import Mask, Tile, lift_masks, merge_lanes
from zellige.ir import dtypes, ops
from zellige.ir.builder import broadcast_shape
from zellige.ir.ops import BinaryOp, Block, Op, UnaryOp, Value
from zellige.ir.types import TileType

_HARMLESS = (
    ops.Constant, ops.ExtentValue, ops.ScalarValue, ops.ProgramId, ops.Iota, ops.Select, ops.Broadcast, ops.ExpandDims, ops.Reshape,
    ops.Transpose,
)  # fmt: skip
_CHOICE, _IF = "a side of a conditional expression", "use an if statement"


def logical(context: Context, op: ast.boolop, first: Tile, rest: Callable[[], object]) -> object:
    """``first and rest()`` or ``first or rest()``. LanguageError ZL0105 if an operand is neither a scalar bool nor static."""
    _truth(context, first)
    with _side(context, "a side of 'and' or 'or'") as block:
        second = rest()
        if isinstance(second, Tile):
            _truth(context, second)
    return _both(context, op, first, second, block)


def chained(context: Context, first: object, rest: Callable[[], object]) -> object:
    """Two comparisons of one chain: ``and`` of scalars, lane by lane for tiles."""
    if not isinstance(first, Tile):
        return first and rest()
    with _side(context, "a part of a chain of comparisons") as block:
        second = rest()
    if first.is_scalar and not (isinstance(second, Tile) and not second.is_scalar):
        return _both(context, ast.And(), first, second, block)
    context.builder.splice(block)
    return combined(context, BinaryOp.AND, first, second)


def choice(
    context: Context, condition: Tile, text: str, body: Callable[[], object], orelse: Callable[[], object]
) -> object:
    """``body() if condition else orelse()``, ``text`` in the source; of a tile of conditions, chosen lane by lane from both."""
    if not (condition.is_scalar and condition.dtype.is_bool):
        with context.without_effects(_CHOICE, _IF):
            sides = body(), orelse()
        return operations.call(context, "where", [condition, *sides], {})
    builder = context.builder
    with _side(context, _CHOICE) as then:
        x = body()
    with _side(context, _CHOICE) as other:
        y = orelse()
    if context.at_launch or (_cannot_go_wrong(then) and _cannot_go_wrong(other)):
        builder.splice(then)
        builder.splice(other)
        return operations.call(context, "where", [condition, x, y], {})
    with builder.block():  # is given up: it only tells what the two have in common
        a, b = context.promoted(x, y)
        context.fitting("'if … else'", a, b)
        type_ = TileType(a.dtype, broadcast_shape(a.shape, b.shape))
    rank = len(type_.shape)
    masks, lanes = dict.fromkeys(condition.masks), (frozenset[int](),) * rank
    yields = []
    for block, value in ((then, x), (other, y)):
        with builder.reopened(block):
            tile = context.cast(plain(context.scalar_of(value, type_.dtype)), type_.dtype)
            yields.append(builder.broadcast(tile.value, type_.shape))
        own = lift_masks(tile.masks, rank - tile.rank)
        if not all(builder.in_scope(m.value) for m in own):
            refuse("ZL0121", f"'{text}' has lanes that are inactive on one path only", context.span,
                   "give them a value with zl.where(x.active, x, pad)")  # fmt: skip
        masks.update(dict.fromkeys(own))
        lanes = merge_lanes(lanes, tile.lanes)
    result = Value(type_)
    blocks = (then, other)
    for block, value in zip(blocks, yields, strict=True):
        block.yields = (value,)
    builder.emit(ops.If(condition=condition.value, then=then, orelse=other, results=(result,), span=context.span))
    return Tile(result, tuple(masks), lanes)


def _both(context: Context, op: ast.boolop, first: Tile, second: object, block: Block) -> Tile:
    """Two scalar truth values, of which ``block`` computes the second. What makes the second inactive counts where it is looked at."""
    builder = context.builder
    is_and = isinstance(op, ast.And)
    lowered = BinaryOp.AND if is_and else BinaryOp.OR
    if context.at_launch or _cannot_go_wrong(block):
        builder.splice(block)
        tile = context.scalar_of(second, dtypes.bool_)
        result = combined(context, lowered, replace(first, masks=()), replace(tile, masks=()))
        active = _active(context, tile, (*first.masks, *(first.implies if is_and else ())))
        if active is None:
            return replace(result, masks=first.masks)
        skipped = builder.unary(UnaryOp.NOT, first.value) if is_and else first.value
        return replace(result, masks=(*first.masks, Mask(builder.binary(BinaryOp.OR, skipped, active), ())))
    with builder.reopened(block):
        tile = context.scalar_of(second, dtypes.bool_)
        active = _active(context, tile, (*first.masks, *(first.implies if is_and else ())))
        given = (tile.value,) if active is None else (tile.value, active)
    with builder.block() as alone:
        alone.yields = tuple(builder.constant(v, dtypes.bool_) for v in (not is_and, True)[: len(given)])
    block.yields = given
    results = tuple(Value(TileType(dtypes.bool_)) for _ in given)
    then, orelse = (block, alone) if is_and else (alone, block)
    builder.emit(ops.If(condition=first.value, then=then, orelse=orelse, results=results, span=context.span))
    return Tile(
        results[0], (*first.masks, *(Mask(r, ()) for r in results[1:])), implies=first.implies if is_and else ()
    )


def _active(context: Context, tile: Tile, given: tuple[Mask, ...]) -> Value | None:
    """Whether a scalar is active, where ``given`` are true; None if they are all that it takes."""
    added = [m.value for m in tile.masks if m not in given]
    return reduce(lambda a, b: context.builder.binary(BinaryOp.AND, a, b), added) if added else None


def combined(context: Context, op: BinaryOp, x: object, y: object) -> Tile:
    """An elementwise operation of two operands of which one is a tile at least; a conjunction remembers what it implies."""
    left, right = context.promoted(x, y)
    result = context.binary(op, left, right)
    if op is not BinaryOp.AND or not result.dtype.is_bool:
        return result
    implied = dict.fromkeys(m for t in (left, right) for m in lift_masks(t.implies, result.rank - t.rank))
    masks = tuple(m for m in result.masks if m not in implied)  # where such a mask is false, so is the conjunction
    return replace(result, masks=masks, implies=tuple(implied))


@contextmanager
def _side(context: Context, what: str) -> Iterator[Block]:
    """The block of what is evaluated under a condition. LanguageError ZL0114 if it does more than give a value."""
    with context.without_effects(what, _IF), context.builder.block() as block:
        context.depth += 1
        yield block
        context.depth -= 1


def _truth(context: Context, value: Tile) -> None:
    if not value.is_scalar:
        refuse("ZL0105", f"'and'/'or' of {describe(value)}", context.span, "use & and | for tiles, with parentheses")
    if not value.dtype.is_bool:
        refuse("ZL0105", f"'and'/'or' of {describe(value)}", context.span, "compare it first, such as n != 0")


def _cannot_go_wrong(block: Block) -> bool:
    """Whether a block may be run for nothing: none of its operations has anything to be proved, or takes long."""
    return all(map(_is_harmless, block.ops))


def _is_harmless(op: Op) -> bool:
    match op:
        case ops.Unary():
            return op.x.type.dtype is not dtypes.index
        case ops.Binary():
            if op.op in (BinaryOp.FLOORDIV, BinaryOp.MOD):
                return False
            return op.op.is_comparison or op.op in (BinaryOp.MIN, BinaryOp.MAX) or op.x.type.dtype is not dtypes.index
        case ops.Cast():
            source, target = op.x.type.dtype, op.result.type.dtype
            return source is not dtypes.index and not (target is dtypes.index and source is dtypes.u64)
    return isinstance(op, _HARMLESS)
