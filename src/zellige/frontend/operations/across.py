"""Operations along an axis: reductions, scans, sorting, products."""

from __future__ import annotations

from collections.abc import Callable

from zellige.frontend.context import Context, describe, plain
from zellige.frontend.errors import refuse
from zellige.frontend.operations.making import full_of
from zellige.frontend.operations.registry import axis_of, lowers
from zellige.frontend.operations.shape import expand
from zellige.frontend.values import (
    Tile,
    expand_mask,
    fresh_lanes,
)
from zellige.ir import dtypes
from zellige.ir.dtypes import DType
from zellige.ir.extent import Const, Extent
from zellige.ir.ops import BinaryOp, ReduceOp


def settle(context: Context, tile: Tile, axis: int, pad: object, *, neutral: bool, what: str) -> Tile:
    """``tile`` with the lanes that are inactive along ``axis`` holding ``pad``; masks along other axes stay."""
    varying = [m for m in tile.masks if axis in m.axes]
    kept = tuple(m for m in tile.masks if m not in varying)
    if not varying:
        return Tile(tile.value, kept, tile.lanes, tile.zero_padded)
    if pad is None:
        if not neutral:
            refuse(
                "ZL0107", f"zl.{what} over lanes that may be inactive; the 0 they hold could win", context.span,
                f"say what they count as: zl.{what}(…, pad={_losing(tile.dtype, what)})",
            )  # fmt: skip
        if tile.zero_padded:
            return Tile(tile.value, kept, tile.lanes, True)
        pad = False if tile.dtype.is_bool else 0
    filler = context.scalar_of(pad, tile.dtype)
    value = tile.value
    for mask in varying:
        active = context.builder.broadcast(expand_mask(context.builder, mask, tile.rank), tile.shape)
        value = context.builder.select(active, value, filler.value)
    return Tile(value, kept, tile.lanes)


def _losing(dtype: DType, what: str) -> str:
    """The pad that changes nothing, as the author would write it."""
    if what in ("prod", "cumprod", "all"):
        return "True" if dtype.is_bool else "1"
    sign = {"max": -1, "argmax": -1, "cummax": -1, "top_k": -1, "min": 1, "argmin": 1, "cummin": 1}.get(what)
    if sign is None or dtype.is_block or dtype.is_bool or dtype is dtypes.index:
        return "…"
    if dtype.is_float:
        return "-zl.inf" if sign < 0 else "zl.inf"
    return str(dtype.integer_range()[0 if sign < 0 else 1])


def reduce(context: Context, op: ReduceOp, x: object, axis: object, keepdims: bool, pad: object, what: str) -> Tile:
    """A reduction over one axis or, with None, over all."""
    tile = plain(context.scalar_of(x))
    context.check(op, f"zl.{what}", tile)
    if op in (ReduceOp.ARGMAX, ReduceOp.ARGMIN) and axis is None and tile.rank != 1:
        refuse("ZL0106", f"zl.{what} of a tile of rank {tile.rank} needs an axis", context.span,
               f"zl.{what}(x, axis=-1)" if tile.rank else "a scalar is its own maximum and minimum")  # fmt: skip
    axes = list(range(tile.rank)) if axis is None else [axis_of(context, axis, tile.rank)]
    neutral = op in (ReduceOp.SUM, ReduceOp.ANY)
    own, tile = tile.dtype, context.computable(tile)
    for a in reversed(axes):
        tile = settle(context, tile, a, pad, neutral=neutral, what=what)
        value = context.builder.reduce(op, tile.value, a)
        masks = tuple(m.moved(_without(a)) for m in tile.masks)
        tile = Tile(value, masks, (*tile.lanes[:a], *tile.lanes[a + 1 :]))
        if keepdims:
            tile = expand(context, tile, a)
    return tile if tile.dtype in (dtypes.index, dtypes.bool_) else context.cast(tile, own)


def _without(axis: int) -> Callable[[int], int]:
    """How axes are numbered once ``axis`` is gone."""
    return lambda a: a - (a > axis)


@lowers
def _sum(context: Context, x: object, axis: object = None, keepdims: bool = False) -> object:
    return reduce(context, ReduceOp.SUM, x, axis, keepdims, None, "sum")


@lowers
def _prod(context: Context, x: object, axis: object = None, keepdims: bool = False, pad: object = None) -> object:
    return reduce(context, ReduceOp.PROD, x, axis, keepdims, pad, "prod")


@lowers
def _max(context: Context, x: object, axis: object = None, keepdims: bool = False, pad: object = None) -> object:
    return reduce(context, ReduceOp.MAX, x, axis, keepdims, pad, "max")


@lowers
def _min(context: Context, x: object, axis: object = None, keepdims: bool = False, pad: object = None) -> object:
    return reduce(context, ReduceOp.MIN, x, axis, keepdims, pad, "min")


@lowers
def _argmax(context: Context, x: object, axis: object = None, pad: object = None) -> object:
    return reduce(context, ReduceOp.ARGMAX, x, axis, False, pad, "argmax")


@lowers
def _argmin(context: Context, x: object, axis: object = None, pad: object = None) -> object:
    return reduce(context, ReduceOp.ARGMIN, x, axis, False, pad, "argmin")


@lowers
def _any(context: Context, x: object, axis: object = None) -> object:
    return reduce(context, ReduceOp.ANY, x, axis, False, None, "any")


@lowers
def _all(context: Context, x: object, axis: object = None, pad: object = None) -> object:
    return reduce(context, ReduceOp.ALL, x, axis, False, pad, "all")


@lowers
def _mean(context: Context, x: object, axis: object = None, keepdims: bool = False) -> object:
    tile = plain(context.scalar_of(x))
    axes = list(range(tile.rank)) if axis is None else [axis_of(context, axis, tile.rank)]
    if any(a in m.axes for m in tile.masks for a in axes):
        refuse("ZL0107", "zl.mean over lanes that may be inactive: of how many?", context.span, "use zl.sum(x) / count")
    if not tile.dtype.is_float:
        refuse("ZL0105", f"zl.mean of {describe(tile)}", context.span, "convert it with .to(f32)")
    count: Extent = Const(1)
    for a in axes:
        count = count * tile.shape[a]
    own, tile = tile.dtype, context.computable(tile)
    total = reduce(context, ReduceOp.SUM, tile, axis, keepdims, None, "mean")
    return context.cast(context.binary(BinaryOp.DIV, total, context.scalar_of(count, tile.dtype)), own)


@lowers
def _cumsum(context: Context, x: object, axis: object = -1) -> object:
    tile = plain(context.scalar_of(x))
    a = axis_of(context, axis, tile.rank)
    context.check(ReduceOp.SUM, "zl.cumsum", tile)
    settled = settle(context, tile, a, None, neutral=True, what="cumsum")
    return running(context, ReduceOp.SUM, settled, a, tile)


def running(context: Context, op: ReduceOp, settled: Tile, axis: int, tile: Tile) -> Tile:
    """The scan of ``settled``, which is ``tile`` with values in its inactive lanes."""
    wide = context.computable(settled)
    if op in (ReduceOp.MAX, ReduceOp.MIN) and wide.dtype is dtypes.bf16:
        wide = context.cast(wide, dtypes.f32)  # the same values; GPUs have no running maximum of bf16
    return context.cast(Tile(context.builder.scan(op, wide.value, axis), tile.masks, tile.lanes), settled.dtype)


@lowers
def _offsets(context: Context, lengths: object, total: object) -> object:
    tile = plain(context.scalar_of(lengths))
    if tile.rank != 1 or not tile.dtype.is_integer:
        refuse("ZL0105", f"zl.offsets of {describe(tile)}", context.span, "it takes a tile of integers with one axis")
    end = context.as_index(total)
    if not end.is_scalar:
        refuse(
            "ZL0106",
            f"the total of zl.offsets is a scalar, not {describe(end)}",
            context.span,
            "zl.offsets(lengths, total=T)",
        )
    settled = settle(context, tile, 0, None, neutral=True, what="offsets")
    return Tile(context.builder.offsets(settled.value, end.value), (), (fresh_lanes(),))


@lowers
def _sort(context: Context, x: object, descending: object = False) -> object:
    tile = plain(context.scalar_of(x))
    if not tile.rank or any(tile.rank - 1 in m.axes for m in tile.masks):
        refuse(
            "ZL0107",
            "zl.sort over lanes that may be inactive",
            context.span,
            "give them a value first with zl.where(span.active, …)",
        )
    context.check(BinaryOp.LT, "zl.sort", tile)
    values, order = context.builder.sort(context.computable(tile).value, bool(descending))
    lanes = (*tile.lanes[:-1], fresh_lanes())
    return context.cast(Tile(values, tile.masks, lanes), tile.dtype), Tile(order, tile.masks, lanes)


@lowers
def _gather(context: Context, x: object, positions: object, axis: object = -1) -> object:
    tile, where = plain(context.scalar_of(x)), context.as_index(positions)
    if tile.rank != where.rank:
        refuse("ZL0106", f"zl.gather from rank {tile.rank} by positions of rank {where.rank}", context.span,
               "the positions have the tile's shape, but for the axis; to pick elements of an array, index it: x[positions]")  # fmt: skip
    a = axis_of(context, axis, tile.rank)
    if any(a in m.axes for m in tile.masks):
        refuse(
            "ZL0107",
            "zl.gather from lanes that may be inactive",
            context.span,
            "give them a value first with zl.where(span.active, …)",
        )
    return Tile(context.builder.gather(tile.value, where.value, a), where.masks, where.lanes)


@lowers
def _dot(context: Context, a: object, b: object, acc: object = None) -> object:
    left, right = plain(context.scalar_of(a)), plain(context.scalar_of(b))
    if left.rank < 2 or right.rank != left.rank:
        refuse("ZL0106", f"zl.dot takes two tiles of one rank ≥ 2, not {left.rank} and {right.rank}", context.span,
               "for a matrix times a vector use zl.sum(w * x, axis=1)")  # fmt: skip
    context.check(BinaryOp.MUL, "zl.dot", left)
    if left.dtype is not right.dtype:
        refuse("ZL0105", f"zl.dot of {left.dtype} and {right.dtype}", context.span, "convert one with .to(dtype)")
    if left.shape[-1] != right.shape[-2] or left.shape[:-2] != right.shape[:-2]:
        refuse("ZL0106", f"zl.dot of shapes ({', '.join(map(str, left.shape))}) and ({', '.join(map(str, right.shape))})",
               context.span, "the last axis of a and the last but one of b are summed over")  # fmt: skip
    rank = left.rank
    left = settle(context, left, rank - 1, None, neutral=True, what="dot")
    right = settle(context, right, rank - 2, None, neutral=True, what="dot")
    shape = (*left.shape[:-1], right.shape[-1])
    if acc is None:
        total = full_of(
            context, shape, 0, dtypes.f32 if left.dtype.is_float and left.dtype.bits <= 32 else _wide(left.dtype)
        )
    else:
        if not isinstance(acc, Tile) or acc.shape != shape:
            shown = ", ".join(map(str, shape))
            refuse("ZL0106", f"zl.dot gives shape ({shown}) but acc is {describe(acc)}", context.span,
                   f"start it with zl.zeros(({shown}), zl.f32)")  # fmt: skip
        if acc.dtype.kind is not left.dtype.kind and (
            acc.dtype.is_float or left.dtype.is_float or not acc.dtype.is_integer
        ):
            refuse("ZL0105", f"zl.dot of {left.dtype} into an acc of {acc.dtype}", context.span,
                   f"start it with zl.zeros(shape, {dtypes.f32 if left.dtype.is_float else dtypes.i32})")  # fmt: skip
        total = plain(acc)
    lanes = (*left.lanes[:-1], right.lanes[-1])
    masks = tuple(dict.fromkeys((*left.masks, *right.masks, *total.masks)))
    return Tile(context.builder.dot(left.value, right.value, total.value), masks, lanes)


def _wide(dtype: DType) -> DType:
    return dtypes.f64 if dtype.is_float else dtypes.i32
