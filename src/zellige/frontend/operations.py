"""What each declaration of ``lang.operations`` lowers to: one function an operation, found by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from zellige.frontend.context import Context, describe, plain
from zellige.frontend.errors import refuse
from zellige.frontend.values import (
    Grouped,
    Mask,
    RaggedRange,
    RuntimeRange,
    SpanRange,
    SpanTile,
    Tile,
    Unrolled,
    expand_mask,
    fresh_lanes,
    lift_masks,
)
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType
from zellige.ir.extent import Const, Extent, as_extent, ceildiv
from zellige.ir.ops import BinaryOp, GridAxis, ReduceOp, UnaryOp, UpdateOp, Value
from zellige.ir.types import ArrayParam, ContractKind, Role
from zellige.lang import operations as declared

Lowering = Callable[..., object]
LOWERINGS: dict[str, Lowering] = {}


def lowers(function: Lowering) -> Lowering:
    """Registers ``_name(context, …)`` as the lowering of ``zl.name``."""
    LOWERINGS[function.__name__.removeprefix("_")] = function
    return function


def call(context: Context, name: str, arguments: Sequence[object], keywords: dict[str, object]) -> object:
    """Lowers a call of ``zl.name``. LanguageError ZL0104 if the arguments do not fit the declaration."""
    declaration = getattr(declared, name).__wrapped__
    try:
        inspect.signature(declaration).bind(*arguments, **keywords)
    except TypeError as error:
        refuse("ZL0104", f"zl.{name}: {error}", context.span, f"zl.{name}{inspect.signature(declaration)}")
    return LOWERINGS[name](context, *arguments, **keywords)


# --- the grid and loops


@lowers
def _grid(context: Context, *axes: object, order: object = None) -> object:
    if context.grid is not None:
        refuse("ZL0110", "zl.grid is declared twice", context.span, "one zl.grid a kernel: give it all axes")
    if context.depth:
        refuse(
            "ZL0110",
            "zl.grid stands inside a loop or branch",
            context.span,
            "declare the grid at the top of the kernel",
        )
    if isinstance(order, Grouped):
        context.group = order.rows
    elif order is not None:
        refuse("ZL0110", f"{describe(order)} is not a grid order", context.span, "order=zl.grouped(8)")
    declared_axes: list[GridAxis] = []
    results: list[Tile] = []
    for number, axis in enumerate(axes):
        match axis:
            case SpanRange(stop=Extent() as extent, size=size, start=Const(0)):
                declared_axes.append(GridAxis(extent, Const(size), ceildiv(extent, size)))
                results.append(span_of(context, context.builder.program_id(number), axis))
            case RaggedRange():
                programs, segment, rows = ragged_tile(context, context.builder.program_id(number), axis)
                declared_axes.append(GridAxis(programs, None, programs))
                results += (segment, rows)
            case int() | Extent() if not isinstance(axis, bool):
                extent = as_extent(axis)
                declared_axes.append(GridAxis(extent, None, extent))
                results.append(Tile(context.builder.program_id(number)))
            case _:
                refuse(
                    "ZL0110",
                    f"{describe(axis)} is not a grid axis",
                    context.span,
                    "give extents, extent.tiles(size) and offsets.tiles(size)",
                )
    context.grid = tuple(declared_axes)
    return results[0] if len(results) == 1 else tuple(results)


def span_of(context: Context, number: Value, tiles: SpanRange) -> SpanTile:
    """Tile ``number`` of a range: ``size`` lanes, those past the end inactive."""
    builder = context.builder
    first = builder.mul(number, builder.extent(tiles.size))
    if isinstance(tiles.start, Tile) or tiles.start != Const(0):
        first = builder.add(first, context.scalar_of(tiles.start).value)
    return _span_from(context, first, tiles)


def _span_from(context: Context, first: Value, tiles: SpanRange) -> SpanTile:
    """The tile that starts at ``first``, which lies in the range."""
    builder = context.builder
    position = builder.add(first, builder.iota(tiles.size))
    lanes = (fresh_lanes(),)
    whole = isinstance(tiles.start, Const) and isinstance(tiles.stop, Const)
    if tiles.size == 1 or (whole and (tiles.stop - tiles.start) % tiles.size == Const(0)):  # type: ignore[operator]
        return SpanTile(position, (), lanes, active=None, start=first)
    mask = builder.lt(position, context.scalar_of(tiles.stop).value)
    return SpanTile(position, (Mask(mask, (0,)),), lanes, active=mask, start=first)


def ragged_tile(context: Context, number: Value, axis: RaggedRange) -> tuple[Extent, Tile, SpanTile]:
    """How many programs a ragged axis has; the segment of program ``number`` and its tile of it.

    Segment s has the numbers from offsets[s] // size + s on, one more than it may have tiles: programs without a tile end here.
    """
    if context.inline_stack:
        refuse("ZL0110", "a ragged grid in a device function", context.span, "declare the grid in the kernel itself")
    builder, array = context.builder, axis.array
    segment = builder.segment(array.name, number, axis.size)
    start, stop = (
        builder.load(array.name, (s,), (), 0, dtypes.index, ()) for s in (segment, builder.add(segment, builder.extent(1)))
    )
    size = builder.extent(axis.size)
    before = builder.add(builder.binary(BinaryOp.FLOORDIV, start, size), segment)
    first = builder.add(start, builder.mul(builder.sub(number, before), size))
    busy = builder.lt(first, stop)
    context.busy = busy if context.busy is None else builder.binary(BinaryOp.AND, context.busy, busy)
    assert array.contract is not None
    programs = array.contract.bound // axis.size + array.shape[0] - 1
    return programs, Tile(segment), _span_from(context, first, SpanRange(Tile(stop), axis.size, Tile(start)))


@lowers
def _grouped(context: Context, rows: object) -> object:
    if not isinstance(rows, int) or rows < 1:
        refuse("ZL0110", f"zl.grouped takes a static int ≥ 1, not {describe(rows)}", context.span)
    return Grouped(rows)


@lowers
def _tiles(context: Context, *bounds: object, size: object = None) -> object:
    if size is None and len(bounds) > 1:
        *bounds, size = bounds  # type: ignore[assignment]
    if not 1 <= len(bounds) <= 2 or size is None:
        refuse("ZL0104", "zl.tiles takes an extent and a size, or a start, a stop and a size", context.span,
               "zl.tiles(length, 64) or zl.tiles(start, stop, 64)")  # fmt: skip
    lanes = tile_size(context, size)
    ends = tuple(_bound_of_tiles(context, bound) for bound in bounds)
    return SpanRange(ends[-1], lanes, *ends[:-1])


def _bound_of_tiles(context: Context, bound: object) -> Extent | Tile:
    if isinstance(bound, Tile):
        if not bound.is_scalar:
            refuse("ZL0110", f"zl.tiles takes a scalar extent, not {describe(bound)}", context.span)
        return context.as_index(bound)
    if isinstance(bound, int | Extent) and not isinstance(bound, bool):
        return as_extent(bound)
    refuse("ZL0110", f"zl.tiles takes an extent, not {describe(bound)}", context.span)


def tile_size(context: Context, size: object) -> int:
    """The size of tiles, which is known at compile time."""
    if isinstance(size, Const):
        size = size.value
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        refuse("ZL0110", f"a tile size is a static int ≥ 1, not {describe(size)}", context.span,
               "make it a zl.Static parameter")  # fmt: skip
    return size


def ragged_range(context: Context, array: ArrayParam, size: object) -> RaggedRange:
    """``offsets.tiles(size)``."""
    contract = array.contract
    if array.role is not Role.IN or contract is None or contract.kind is not ContractKind.OFFSETS:
        refuse("ZL0110", f"'{array.name}' does not cut a dimension into segments", context.span,
               f"declare it {array.name}: zl.In[zl.Offsets[T], S + 1]")  # fmt: skip
    return RaggedRange(array, tile_size(context, size))


@lowers
def _bounded(context: Context, condition: object, limit: object) -> object:
    refuse(
        "ZL0111", "zl.bounded stands outside the head of a while", context.span, "while zl.bounded(condition, limit):"
    )


@lowers
def _unroll(context: Context, iterable: object) -> object:
    if isinstance(iterable, RuntimeRange):
        low, high = (context.builder.constant_of(v) for v in (iterable.lower, iterable.upper))
        if low is None or high is None:
            refuse(
                "ZL0111",
                "zl.unroll of a range with bounds known only at run time",
                context.span,
                "use a plain for loop",
            )
        return Unrolled(tuple(range(int(low), int(high), iterable.step)))
    if isinstance(iterable, tuple | list):
        return Unrolled(tuple(iterable))
    refuse("ZL0111", f"zl.unroll takes a static range or tuple, not {describe(iterable)}", context.span)


# --- making tiles


def shape_of(context: Context, shape: object) -> tuple[Extent, ...]:
    """A tuple of ints and extents as a shape."""
    parts = shape if isinstance(shape, tuple | list) else (shape,)
    for part in parts:
        if not isinstance(part, int | Extent) or isinstance(part, bool):
            refuse("ZL0106", f"{describe(part)} in a shape; extents of tiles are known at compile time", context.span)
    return tuple(as_extent(p) for p in parts)


def dtype_of(context: Context, dtype: object) -> DType:
    """An argument that must be a dtype."""
    if not isinstance(dtype, DType):
        refuse("ZL0105", f"{describe(dtype)} is not a dtype", context.span, "zl.f32, zl.bf16, zl.i32, …")
    return dtype


@lowers
def _arange(context: Context, extent: object) -> object:
    (length,) = shape_of(context, extent)
    return Tile(context.builder.iota(length), (), (fresh_lanes(),))


@lowers
def _full(context: Context, shape: object, value: object, dtype: object) -> object:
    target, kind = shape_of(context, shape), dtype_of(context, dtype)
    scalar = context.cast(value, kind) if isinstance(value, Tile) else context.scalar_of(value, kind)
    if not scalar.is_scalar:
        refuse("ZL0106", "zl.full takes a scalar value", context.span, "use zl.broadcast_to")
    return Tile(context.builder.broadcast(scalar.value, target), (), (frozenset(),) * len(target))


@lowers
def _zeros(context: Context, shape: object, dtype: object) -> object:
    return _full(context, shape, 0, dtype)


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


@lowers
def _only(context: Context, x: object, condition: object) -> object:
    tile, mask = plain(context.scalar_of(x)), plain(context.scalar_of(condition))
    if not mask.dtype.is_bool or mask.rank > tile.rank:
        refuse(
            "ZL0105",
            f"zl.only({describe(tile)}, {describe(mask)}): the condition is a bool tile of no higher rank",
            context.span,
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
    builder.emit(ops.Guard(condition=checked, message=f"index not below {below}", span=context.span))
    axes = tuple(range(tile.rank))
    return Tile(tile.value, tuple(dict.fromkeys((*tile.masks, Mask(low, axes), Mask(high, axes)))), tile.lanes)


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
            refuse("ZL0112", "this precondition is false for these static parameters", context.span)
        return None
    tile = context.scalar_of(condition)
    if not tile.dtype.is_bool or not tile.is_scalar:
        refuse("ZL0105", f"zl.requires takes a scalar bool, not {describe(tile)}", context.span)
    context.builder.emit(ops.Require(condition=tile.value, text=context.source_text(), span=context.span))
    return None


@lowers
def _random_bits(context: Context, seed: object, counter: object) -> object:
    key = context.cast(context.scalar_of(seed), dtypes.u64)
    tile = context.scalar_of(counter)
    return plain(tile).with_value(context.builder.random(key.value, context.cast(tile, dtypes.u64).value))


@lowers
def _random_uniform(context: Context, seed: object, counter: object) -> object:
    bits = _random_bits(context, seed, counter)
    assert isinstance(bits, Tile)
    high = context.binary(BinaryOp.SHR, bits, 8)
    unit = context.binary(BinaryOp.ADD, context.cast(high, dtypes.f32), 0.5)
    return context.binary(BinaryOp.MUL, unit, 2.0**-24)


# --- elementwise


def unary(context: Context, op: UnaryOp, x: object) -> Tile:
    """An elementwise function of one tile."""
    tile = context.scalar_of(float(x) if isinstance(x, int) and not isinstance(x, bool) else x)
    any_number = op in (UnaryOp.NEG, UnaryOp.ABS)
    if op is UnaryOp.NOT:
        fits = tile.dtype.is_bool or tile.dtype.is_integer
    else:
        fits = tile.dtype.is_float or (any_number and tile.dtype.is_integer)
    if not fits:
        refuse("ZL0105", f"'{op.value}' of {describe(tile)}", context.span, "convert it with .to(f32)")
    return plain(tile).with_value(context.builder.unary(op, tile.value))


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
    return context.binary(BinaryOp.ADD, context.binary(BinaryOp.MUL, x, y), z)


# --- across lanes


def _axis(context: Context, axis: object, rank: int) -> int:
    if not isinstance(axis, int) or isinstance(axis, bool) or not -rank <= axis < rank:
        refuse("ZL0106", f"axis {describe(axis)} of a tile of rank {rank}", context.span)
    return axis % rank


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
                f"say what they count as: zl.{what}(…, pad=-zl.inf)" if "max" in what else f"say what they count as: zl.{what}(…, pad=…)",
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


def reduce(context: Context, op: ReduceOp, x: object, axis: object, keepdims: bool, pad: object, what: str) -> Tile:
    """A reduction over one axis or, with None, over all."""
    tile = plain(context.scalar_of(x))
    if tile.dtype.is_block:
        refuse(
            "ZL0105",
            f"a tile of block type {tile.dtype} has no arithmetic",
            context.span,
            "unpack it with .to(f32) first",
        )
    if op in (ReduceOp.ANY, ReduceOp.ALL) and not tile.dtype.is_bool:
        refuse("ZL0105", f"zl.{what} of {describe(tile)}", context.span, "compare it first")
    if op in (ReduceOp.ARGMAX, ReduceOp.ARGMIN) and axis is None and tile.rank != 1:
        refuse("ZL0106", f"zl.{what} of a tile of rank {tile.rank} needs an axis", context.span)
    axes = list(range(tile.rank)) if axis is None else [_axis(context, axis, tile.rank)]
    neutral = op in (ReduceOp.SUM, ReduceOp.ANY)
    for a in reversed(axes):
        tile = settle(context, tile, a, pad, neutral=neutral, what=what)
        value = context.builder.reduce(op, tile.value, a)
        masks = tuple(m.moved(_without(a)) for m in tile.masks)
        tile = Tile(value, masks, (*tile.lanes[:a], *tile.lanes[a + 1 :]))
        if keepdims:
            tile = expand(context, tile, a)
    return tile


def _without(axis: int) -> Callable[[int], int]:
    """How axes are numbered once ``axis`` is gone."""
    return lambda a: a - (a > axis)


def expand(context: Context, tile: Tile, axis: int) -> Tile:
    """``tile`` with an axis of 1 inserted."""

    def moved(masks: tuple[Mask, ...]) -> tuple[Mask, ...]:
        return tuple(m.moved(lambda a: a + (a >= axis)) for m in masks)

    lanes = (*tile.lanes[:axis], frozenset[int](), *tile.lanes[axis:])
    value = context.builder.expand_dims(tile.value, axis)
    return Tile(value, moved(tile.masks), lanes, tile.zero_padded, moved(tile.implies))


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
    axes = list(range(tile.rank)) if axis is None else [_axis(context, axis, tile.rank)]
    if any(a in m.axes for m in tile.masks for a in axes):
        refuse("ZL0107", "zl.mean over lanes that may be inactive: of how many?", context.span, "use zl.sum(x) / count")
    if not tile.dtype.is_float:
        refuse("ZL0105", f"zl.mean of {describe(tile)}", context.span, "convert it with .to(f32)")
    count: Extent = Const(1)
    for a in axes:
        count = count * tile.shape[a]
    total = reduce(context, ReduceOp.SUM, tile, axis, keepdims, None, "mean")
    return context.binary(BinaryOp.DIV, total, context.scalar_of(count, tile.dtype))


@lowers
def _cumsum(context: Context, x: object, axis: object = -1) -> object:
    tile = plain(context.scalar_of(x))
    a = _axis(context, axis, tile.rank)
    settled = settle(context, tile, a, None, neutral=True, what="cumsum")
    return Tile(context.builder.scan(ReduceOp.SUM, settled.value, a), tile.masks, tile.lanes)


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
    values, order = context.builder.sort(tile.value, bool(descending))
    lanes = (*tile.lanes[:-1], fresh_lanes())
    return Tile(values, tile.masks, lanes), Tile(order, tile.masks, lanes)


@lowers
def _gather(context: Context, x: object, positions: object, axis: object = -1) -> object:
    tile, where = plain(context.scalar_of(x)), context.as_index(positions)
    if tile.rank != where.rank:
        refuse("ZL0106", f"zl.gather from rank {tile.rank} by positions of rank {where.rank}", context.span)
    a = _axis(context, axis, tile.rank)
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
    for side in (left, right):
        if side.dtype.is_block:
            refuse(
                "ZL0105",
                f"zl.dot of block type {side.dtype}",
                context.span,
                "unpack it with .to(f32) or .to(bf16) first",
            )
    if left.rank < 2 or right.rank != left.rank:
        refuse("ZL0106", f"zl.dot takes two tiles of one rank ≥ 2, not {left.rank} and {right.rank}", context.span,
               "for a matrix times a vector use zl.sum(w * x, axis=1)")  # fmt: skip
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
        total = _full(
            context, shape, 0, dtypes.f32 if left.dtype.is_float and left.dtype.bits <= 32 else _wide(left.dtype)
        )
    else:
        total = acc
    if not isinstance(total, Tile) or total.shape != shape:
        refuse(
            "ZL0106", f"zl.dot gives shape ({', '.join(map(str, shape))}) but acc is {describe(total)}", context.span
        )
    lanes = (*left.lanes[:-1], right.lanes[-1])
    masks = tuple(dict.fromkeys((*left.masks, *right.masks, *total.masks)))
    return Tile(context.builder.dot(left.value, right.value, total.value), masks, lanes)


def _wide(dtype: DType) -> DType:
    return dtypes.f64 if dtype.is_float else dtypes.i32


# --- shape


@lowers
def _reshape(context: Context, x: object, shape: object) -> object:
    tile, target = plain(context.scalar_of(x)), shape_of(context, shape)
    if _product(tile.shape) != _product(target):
        refuse("ZL0106", f"a tile of {_product(tile.shape)} elements reshaped to {_product(target)}", context.span)
    builder = context.builder
    axes = tuple(range(len(target)))
    masks = tuple(
        Mask(builder.reshape(builder.broadcast(expand_mask(builder, m, tile.rank), tile.shape), target), axes)
        for m in tile.masks
    )
    return Tile(builder.reshape(tile.value, target), masks, tuple(fresh_lanes() for _ in target), tile.zero_padded)


def _product(extents: Sequence[Extent]) -> Extent:
    size: Extent = Const(1)
    for extent in extents:
        size = size * extent
    return size


@lowers
def _transpose(context: Context, x: object, permutation: object) -> object:
    tile = plain(context.scalar_of(x))
    if not isinstance(permutation, tuple | list) or sorted(permutation) != list(range(tile.rank)):
        refuse("ZL0106", f"{describe(permutation)} is not a permutation of {tile.rank} axes", context.span)
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
    except ValueError as error:
        refuse("ZL0106", str(error), context.span)
    lanes = (frozenset[int](),) * (len(target) - tile.rank) + tile.lanes
    return Tile(value, lift_masks(tile.masks, len(target) - tile.rank), lanes, tile.zero_padded)


@lowers
def _bitcast(context: Context, x: object, dtype: object) -> object:
    tile, target = plain(context.scalar_of(x)), dtype_of(context, dtype)
    if tile.dtype.bits != target.bits or tile.dtype.is_block or target.is_block or dtypes.index in (tile.dtype, target):
        refuse("ZL0105", f"a bitcast from {tile.dtype} to {target}", context.span, "the widths must be equal")
    return tile.with_value(context.builder.bitcast(tile.value, target), zero_padded=tile.zero_padded)


@lowers
def _unsafe(context: Context, reason: object) -> object:
    refuse("ZL0113", "zl.unsafe stands outside a with statement", context.span, 'with zl.unsafe("why it is sound"):')


UPDATES = {"add": UpdateOp.ADD, "max": UpdateOp.MAX, "min": UpdateOp.MIN, "and_": UpdateOp.AND, "or_": UpdateOp.OR}
"""Methods of an ``Acc`` array."""
