"""Grids, spans and what loops run over."""

from __future__ import annotations

from zellige.frontend.context import MOST_STATEMENTS, Context, describe
from zellige.frontend.errors import refuse
from zellige.frontend.operations import elementwise
from zellige.frontend.operations.registry import lowers
from zellige.frontend.values import (
    Grouped,
    Mask,
    RaggedRange,
    RuntimeRange,
    SpanRange,
    SpanTile,
    Tile,
    Unrolled,
    fresh_lanes,
)
from zellige.ir import dtypes
from zellige.ir.extent import Const, Extent, as_extent, ceildiv
from zellige.ir.ops import BinaryOp, GridAxis, Value
from zellige.ir.types import ArrayParam, ContractKind, Role


@lowers
def _grid(context: Context, *axes: object, order: object = None) -> object:
    if context.grid is not None:
        refuse(
            "ZL0110",
            "zl.grid is declared twice",
            context.span,
            "a kernel has one zl.grid, which takes all axes: i, j = zl.grid(M, N)",
        )
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


def numbered(context: Context, tiles: SpanRange, number: object) -> SpanTile:
    """``tiles[number]``: any tile of a range, by a number that the verifier has still to find sensible."""
    tile = context.as_index(number)
    if not tile.is_scalar:
        refuse(
            "ZL0108", f"tiles are numbered by a scalar, not {describe(tile)}", context.span, "M.tiles(64)[n] with one n"
        )
    span = span_of(context, tile.value, tiles)
    mask = span.active
    if mask is None:
        mask = context.builder.lt(span.value, context.scalar_of(tiles.stop).value)
    return SpanTile(span.value, (Mask(mask, (0,)), *tile.masks), span.lanes, active=mask, start=span.start)


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
        builder.load(array.name, (s,), (), 0, dtypes.index, ())
        for s in (segment, builder.add(segment, builder.extent(1)))
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
        refuse(
            "ZL0110", f"zl.grouped takes a static int ≥ 1, not {describe(rows)}", context.span, "order=zl.grouped(8)"
        )
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
            refuse(
                "ZL0110",
                f"zl.tiles takes a scalar extent, not {describe(bound)}",
                context.span,
                "loop with one length at a time: zl.tiles(length[b], 64)",
            )
        return context.as_index(bound)
    if isinstance(bound, int | Extent) and not isinstance(bound, bool):
        return as_extent(bound)
    refuse(
        "ZL0110",
        f"zl.tiles takes an extent, not {describe(bound)}",
        context.span,
        "M.tiles(64), zl.tiles(stop, size) or zl.tiles(start, stop, size), of dims or index scalars",
    )


def tile_size(context: Context, size: object) -> int:
    """The size of tiles, which is known at compile time."""
    if isinstance(size, Const):
        size = size.value
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        help = "make it a zl.Static parameter" if isinstance(size, Tile | Extent) else "give a whole number, such as 64"
        refuse("ZL0110", f"a tile size is a static int ≥ 1, not {describe(size)}", context.span, help)
    return size


def ragged_range(context: Context, array: ArrayParam, size: object) -> RaggedRange:
    """``offsets.tiles(size)``."""
    contract = array.contract
    if array.role is not Role.IN or contract is None or contract.kind is not ContractKind.OFFSETS:
        refuse("ZL0110", f"'{array.name}' does not cut a dimension into segments", context.span,
               f"declare it {array.name}: zl.In[zl.Offsets[T], S + 1]")  # fmt: skip
    return RaggedRange(array, tile_size(context, size))


def count(context: Context, numbers: RuntimeRange) -> Value:
    """How many members a range has, by Python's meaning for a step of either sign; 0 or less if it has none."""
    first, last, step = Tile(numbers.lower), Tile(numbers.upper), _step(numbers)
    if isinstance(step, int) and step < 0:
        first, last, step = last, first, -step
    return elementwise.ceildiv(context, context.binary(BinaryOp.SUB, last, first), step).value


def backwards(context: Context, numbers: RuntimeRange) -> RuntimeRange:
    """``reversed(range(…))`` of a range without a step."""
    if numbers.step != 1:
        refuse("ZL0111", "reversed of a range with a step", context.span,
               "write the range downwards, such as range(last, first - 1, -2)")  # fmt: skip
    one = context.builder.extent(1)
    return RuntimeRange(context.builder.sub(numbers.upper, one), context.builder.sub(numbers.lower, one), -1)


def member(context: Context, numbers: RuntimeRange, position: Tile) -> Tile:
    """The member of a range at a position."""
    return context.binary(BinaryOp.ADD, Tile(numbers.lower), context.binary(BinaryOp.MUL, position, _step(numbers)))


def _step(numbers: RuntimeRange) -> Tile | int:
    return Tile(numbers.step) if isinstance(numbers.step, Value) else numbers.step


@lowers
def _bounded(context: Context, condition: object, limit: object) -> object:
    refuse(
        "ZL0111", "zl.bounded stands outside the head of a while", context.span, "while zl.bounded(condition, limit):"
    )


@lowers
def _unroll(context: Context, iterable: object) -> object:
    if isinstance(iterable, RuntimeRange):
        low, high = (context.builder.constant_of(v) for v in (iterable.lower, iterable.upper))
        if low is None or high is None or isinstance(iterable.step, Value):
            refuse(
                "ZL0111",
                "zl.unroll of a range with bounds or a step known only at run time",
                context.span,
                "use a plain for loop",
            )
        count = -(-(int(high) - int(low)) // iterable.step)
        if count > MOST_STATEMENTS:
            refuse(
                "ZL0111", f"zl.unroll of {count} iterations; a kernel has {MOST_STATEMENTS:,} statements at most, repeated ones counted "
                "each time", context.span, "use a plain for loop",
            )  # fmt: skip
        return Unrolled(tuple(range(int(low), int(high), iterable.step)))
    if isinstance(iterable, tuple | list):
        return Unrolled(tuple(iterable))
    if isinstance(iterable, zip | enumerate | reversed | map | filter):
        try:
            return Unrolled(tuple(iterable))
        except TypeError as error:
            refuse("ZL0114", f"at compile time: {error}", context.span, "choose by static values")
    refuse("ZL0111", f"zl.unroll takes a static range or tuple, not {describe(iterable)}", context.span,
           "a loop over something known at run time is a plain for")  # fmt: skip


@lowers
def _unsafe(context: Context, reason: object) -> object:
    refuse("ZL0113", "zl.unsafe stands outside a with statement", context.span, 'with zl.unsafe("why it is sound"):')
