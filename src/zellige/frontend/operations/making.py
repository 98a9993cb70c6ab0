"""Operations that make tiles, or say something of their lanes."""

from __future__ import annotations

from pathlib import PurePath

from zellige.frontend.context import Context, describe, plain
from zellige.frontend.errors import refuse
from zellige.frontend.operations.registry import dtype_of, lowers, shape_of
from zellige.frontend.values import (
    Mask,
    Tile,
    expand_mask,
    fresh_lanes,
    lift_masks,
)
from zellige.ir import dtypes, ops
from zellige.ir.ops import BinaryOp, UnaryOp


@lowers
def _arange(context: Context, extent: object) -> object:
    length, *more = shape_of(context, extent)
    if more:
        refuse(
            "ZL0106",
            f"zl.arange of {len(more) + 1} extents",
            context.span,
            "it makes one axis; zl.reshape makes more of it",
        )
    return Tile(context.builder.iota(length), (), (fresh_lanes(),))


@lowers
def _full(context: Context, shape: object, value: object, dtype: object) -> object:
    return full_of(context, shape, value, dtype)


def full_of(context: Context, shape: object, value: object, dtype: object) -> Tile:
    """A tile of one value, active everywhere."""
    target, kind = shape_of(context, shape), dtype_of(context, dtype)
    scalar = context.cast(value, kind) if isinstance(value, Tile) else context.scalar_of(value, kind)
    if not scalar.is_scalar:
        refuse("ZL0106", "zl.full takes a scalar value", context.span, "use zl.broadcast_to")
    return Tile(context.builder.broadcast(scalar.value, target), (), (frozenset(),) * len(target))


@lowers
def _zeros(context: Context, shape: object, dtype: object) -> object:
    return full_of(context, shape, 0, dtype)


@lowers
def _where(context: Context, condition: object, x: object, y: object) -> object:
    chosen = context.scalar_of(condition)
    if not chosen.dtype.is_bool:
        refuse("ZL0105", f"zl.where chooses by a bool, not {chosen.dtype}", context.span, "compare it first")
    left, right = context.promoted(x, y)
    result = context.builder.select(chosen.value, left.value, right.value)
    rank = result.type.rank
    implied = set(lift_masks(chosen.implies, rank - chosen.rank))
    kept = tuple(m for m in lift_masks(left.masks, rank - left.rank) if m not in implied)
    lanes = (frozenset[int](),) * (rank - left.rank) + left.lanes
    return context.combined(result, plain(chosen), Tile(result, kept, lanes), plain(right))


def activity(context: Context, tile: Tile) -> Tile:
    """``tile.active``: true in the active lanes, and known in all of them."""
    builder = context.builder
    value = builder.broadcast(builder.constant(True, dtypes.bool_), tile.shape)
    for i, mask in enumerate(tile.masks):
        active = builder.broadcast(expand_mask(builder, mask, tile.rank), tile.shape)
        value = active if i == 0 else builder.binary(BinaryOp.AND, value, active)
    return Tile(value, (), tile.lanes, implies=tile.masks)


@lowers
def _only(context: Context, x: object, condition: object) -> object:
    tile, mask = plain(context.scalar_of(x)), plain(context.scalar_of(condition))
    if not mask.dtype.is_bool or mask.rank > tile.rank:
        refuse(
            "ZL0105",
            f"zl.only({describe(tile)}, {describe(mask)}): the condition is a bool tile of no higher rank",
            context.span,
            "zl.only(index, index < N): a bool for each lane of the index",
        )
    own = Mask(mask.value, tuple(range(tile.rank - mask.rank, tile.rank)))
    result = context.combined(tile.value, tile, mask)
    return Tile(tile.value, tuple(dict.fromkeys((*result.masks, own))), result.lanes)


@lowers
def _guard(context: Context, x: object, below: object) -> object:
    tile = context.as_index(x)
    builder = context.builder
    low = context.binary(BinaryOp.GE, tile, 0).value
    high = context.binary(BinaryOp.LT, tile, below).value
    inside = builder.binary(BinaryOp.AND, low, high)
    checked = inside
    for mask in tile.masks:
        active = builder.broadcast(expand_mask(builder, mask, tile.rank), tile.shape)
        checked = builder.binary(BinaryOp.OR, checked, builder.unary(UnaryOp.NOT, active))
    builder.emit(ops.Guard(condition=checked, message=_guard_message(context, below), span=context.span))
    axes = tuple(range(tile.rank))
    return Tile(tile.value, tuple(dict.fromkeys((*tile.masks, Mask(low, axes), Mask(high, axes)))), tile.lanes)


def _guard_message(context: Context, below: object) -> str:
    """What is told after a launch in which the guard failed: it has no other way to show the line."""
    place = f"{PurePath(context.span.file).name}:{context.span.line}"
    return f"at {place}, {context.source_text()} met an index outside 0 … {below} - 1"


@lowers
def _requires(context: Context, condition: object) -> object:
    if context.depth:
        refuse(
            "ZL0110",
            "zl.requires stands inside a loop or branch",
            context.span,
            "state preconditions at the top of the kernel, before a ragged zl.grid",
        )
    if isinstance(condition, bool):
        if not condition:
            refuse("ZL0112", "this precondition is false for these static parameters", context.span,
                   "choose other static parameters")  # fmt: skip
        return None
    tile = context.scalar_of(condition)
    if not tile.dtype.is_bool or not tile.is_scalar:
        refuse(
            "ZL0105",
            f"zl.requires takes a scalar bool, not {describe(tile)}",
            context.span,
            "compare: zl.requires(M > 0)",
        )
    if not context.builder.of_launch_time(tile.value):
        refuse("ZL0110", "zl.requires depends on more than dims and scalars, which the call can look at before it launches", context.span,
               "of what is loaded, a contract such as zl.In[zl.Index[M], N] says more, or zl.guard, or an if")  # fmt: skip
    context.builder.emit(ops.Require(condition=tile.value, text=context.argument_text(), span=context.span))
    return None


@lowers
def _random_bits(context: Context, seed: object, counter: object) -> object:
    key, tile = context.scalar_of(seed), context.scalar_of(counter)
    for what, given in (("seed", key), ("counter", tile)):
        if not given.dtype.is_integer or (what == "seed" and not given.is_scalar):
            shape = "a scalar" if what == "seed" else "a tile of integers"
            refuse("ZL0105", f"the {what} of random numbers is {shape}, not {describe(given)}", context.span,
                   "zl.random_bits(seed, m * N + zl.arange(N)): a u64, and a number of its own for each lane")  # fmt: skip
    key = context.cast(key, dtypes.u64)
    return plain(tile).with_value(context.builder.random(key.value, context.cast(tile, dtypes.u64).value))


@lowers
def _random_uniform(context: Context, seed: object, counter: object) -> object:
    return uniform(context, seed, counter)


def uniform(context: Context, seed: object, counter: object) -> Tile:
    """f32 numbers in (0, 1)."""
    bits = _random_bits(context, seed, counter)
    assert isinstance(bits, Tile)
    high = context.binary(BinaryOp.SHR, bits, 8)
    unit = context.binary(BinaryOp.ADD, context.cast(high, dtypes.f32), 0.5)
    return context.binary(BinaryOp.MUL, unit, 2.0**-24)
