"""Operations that move lanes and change none."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

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
from zellige.ir import dtypes
from zellige.ir.builder import ShapeError
from zellige.ir.extent import Const, Extent


@lowers
def _reshape(context: Context, x: object, shape: object) -> object:
    tile = plain(context.scalar_of(x))
    target = shape_of(context, _completed(tile, shape))
    if _product(tile.shape) != _product(target):
        refuse("ZL0106", f"a tile of {_product(tile.shape)} elements reshaped to {_product(target)}", context.span,
               "keep the number of elements; -1 stands for what is left")  # fmt: skip
    builder = context.builder
    axes = tuple(range(len(target)))
    masks = tuple(
        Mask(builder.reshape(builder.broadcast(expand_mask(builder, m, tile.rank), tile.shape), target), axes)
        for m in tile.masks
    )
    return Tile(builder.reshape(tile.value, target), masks, tuple(fresh_lanes() for _ in target), tile.zero_padded)


def _completed(tile: Tile, shape: object) -> object:
    """``shape`` with one −1 replaced by the extent that is left."""
    parts = list(shape) if isinstance(shape, tuple | list) else [shape]
    whole = _product(tile.shape).constant
    if sum(isinstance(p, int) and p == -1 for p in parts) != 1 or whole is None:
        return shape
    rest = [p.value if isinstance(p, Const) else p for p in parts if not isinstance(p, int) or p != -1]
    size = prod(p for p in rest if isinstance(p, int))
    if len([p for p in rest if isinstance(p, int)]) == len(rest) and size > 0 and whole % size == 0:
        parts[parts.index(-1)] = whole // size
    return tuple(parts)


def _product(extents: Sequence[Extent]) -> Extent:
    size: Extent = Const(1)
    for extent in extents:
        size = size * extent
    return size


@lowers
def _transpose(context: Context, x: object, permutation: object) -> object:
    tile = plain(context.scalar_of(x))
    if not isinstance(permutation, tuple | list) or sorted(permutation) != list(range(tile.rank)):
        axes = ", ".join(map(str, range(tile.rank)))
        refuse("ZL0106", f"{permutation!r} is not an order of the axes of {describe(tile)}", context.span,
               f"an order of ({axes})" if tile.rank > 1 else "x[:, None] or x[None, :] makes a matrix of it")  # fmt: skip
    order = tuple(int(p) for p in permutation)

    def moved(masks: tuple[Mask, ...]) -> tuple[Mask, ...]:
        return tuple(m.moved(order.index) for m in masks)

    lanes = tuple(tile.lanes[p] for p in order)
    value = context.builder.transpose(tile.value, order)
    return Tile(value, moved(tile.masks), lanes, tile.zero_padded, moved(tile.implies))


@lowers
def _broadcast_to(context: Context, x: object, shape: object) -> object:
    tile, target = plain(context.scalar_of(x)), shape_of(context, shape)
    try:
        value = context.builder.broadcast(tile.value, target)
    except ShapeError as error:
        refuse("ZL0106", str(error), context.span, "an axis of 1 stretches; others must be equal")
    lanes = (frozenset[int](),) * (len(target) - tile.rank) + tile.lanes
    return Tile(value, lift_masks(tile.masks, len(target) - tile.rank), lanes, tile.zero_padded)


@lowers
def _bitcast(context: Context, x: object, dtype: object) -> object:
    tile, target = plain(context.scalar_of(x)), dtype_of(context, dtype)
    if tile.dtype.is_bool or target.is_bool:
        refuse(
            "ZL0105",
            f"a bitcast from {tile.dtype} to {target}",
            context.span,
            "a bool is a truth value: .to(dtype) gives 0 or 1",
        )
    if tile.dtype.bits != target.bits or tile.dtype.is_block or target.is_block or dtypes.index in (tile.dtype, target):
        refuse("ZL0105", f"a bitcast from {tile.dtype} to {target}", context.span, "the widths must be equal")
    return tile.with_value(context.builder.bitcast(tile.value, target), zero_padded=tile.zero_padded)


def expand(context: Context, tile: Tile, axis: int) -> Tile:
    """``tile`` with an axis of 1 inserted."""

    def moved(masks: tuple[Mask, ...]) -> tuple[Mask, ...]:
        return tuple(m.moved(lambda a: a + (a >= axis)) for m in masks)

    lanes = (*tile.lanes[:axis], frozenset[int](), *tile.lanes[axis:])
    value = context.builder.expand_dims(tile.value, axis)
    return Tile(value, moved(tile.masks), lanes, tile.zero_padded, moved(tile.implies))
