"""Operations made of others: nothing below the frontend knows them."""

from __future__ import annotations

from collections.abc import Sequence

from zellige.frontend.context import Context, describe, plain
from zellige.frontend.errors import refuse
from zellige.frontend.operations.across import reduce, running, settle
from zellige.frontend.operations.elementwise import unary
from zellige.frontend.operations.making import uniform
from zellige.frontend.operations.registry import axis_of, call, lowers, shape_of
from zellige.frontend.operations.shape import expand
from zellige.frontend.values import Tile, fresh_lanes
from zellige.ir import dtypes
from zellige.ir.extent import Const
from zellige.ir.ops import BinaryOp, ReduceOp, UnaryOp, Value

# --- picking lanes


def picked(context: Context, tile: Tile, axis: int, positions: Value) -> Tile:
    """The lanes of ``tile`` at ``positions`` (an index tile of one axis, proved in bounds) along ``axis``."""
    builder = context.builder
    (count,) = positions.type.shape
    shape = (*tile.shape[:axis], count, *tile.shape[axis + 1 :])
    for i in range(tile.rank):
        if i != axis:
            positions = builder.expand_dims(positions, min(i, positions.type.rank))
    where = builder.broadcast(positions, shape)
    lanes = (*tile.lanes[:axis], fresh_lanes(), *tile.lanes[axis + 1 :])
    masks = tuple(m for m in tile.masks if axis not in m.axes)
    return Tile(builder.gather(tile.value, where, axis), masks, lanes)


def _fixed(context: Context, tile: Tile, axis: int, what: str) -> int:
    """The number of lanes along an axis, which ``zl.what`` must know."""
    size = tile.shape[axis].constant
    if size is None:
        refuse("ZL0106", f"zl.{what} along an axis of extent {tile.shape[axis]}, known only at the launch", context.span,
               "take tiles of a static size")  # fmt: skip
    return size


def _without_axis(context: Context, tile: Tile, axis: int) -> Tile:
    """``tile`` without an axis of 1 along which it has no masks."""
    value = context.builder.reshape(tile.value, (*tile.shape[:axis], *tile.shape[axis + 1 :]))
    masks = tuple(m.moved(lambda a: a - (a > axis)) for m in tile.masks)
    return Tile(value, masks, (*tile.lanes[:axis], *tile.lanes[axis + 1 :]))


def _all_active(context: Context, tile: Tile, axis: int, pad: object, what: str) -> Tile:
    """``tile`` with ``pad`` in lanes that are inactive along ``axis``, which must be given if there are any."""
    return settle(context, tile, axis, pad, neutral=False, what=what)


@lowers
def _flip(context: Context, x: object, axis: object = -1, pad: object = None) -> object:
    tile = plain(context.scalar_of(x))
    a = axis_of(context, axis, tile.rank)
    tile = _all_active(context, tile, a, pad, "flip")
    builder = context.builder
    last = builder.extent(tile.shape[a] - 1)
    return picked(context, tile, a, builder.sub(last, builder.iota(tile.shape[a])))


@lowers
def _top_k(context: Context, x: object, k: object, pad: object = None) -> object:
    tile = plain(context.scalar_of(x))
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        refuse(
            "ZL0106",
            f"zl.top_k takes a static int ≥ 1, not {describe(k)}",
            context.span,
            "make it a zl.Static parameter",
        )
    a = axis_of(context, -1, tile.rank)
    size = tile.shape[a].constant
    if size is not None and k > size:
        refuse("ZL0106", f"the {k} largest of {size} lanes", context.span, f"take at most {size}")
    tile = _all_active(context, tile, a, pad, "top_k")
    parts = call(context, "sort", [tile, True], {})
    assert isinstance(parts, tuple)
    first = context.builder.iota(k)
    values, order = (picked(context, part, a, first) for part in parts)
    return values, Tile(order.value, order.masks, values.lanes)


@lowers
def _join(context: Context, a: object, b: object) -> object:
    left, right = (plain(t) for t in context.promoted(a, b))
    if left.shape != right.shape:
        refuse(
            "ZL0106",
            f"zl.join of {describe(left)} and {describe(right)}",
            context.span,
            "it takes two tiles of one shape",
        )
    first = context.binary(BinaryOp.EQ, Tile(context.builder.iota(2), (), (fresh_lanes(),)), 0)
    left, right = (expand(context, t, t.rank) for t in (left, right))
    return call(context, "where", [first, left, right], {})


@lowers
def _split(context: Context, x: object) -> object:
    tile = plain(context.scalar_of(x))
    a = axis_of(context, -1, tile.rank)
    if tile.shape[a] != Const(2):
        refuse("ZL0106", f"zl.split of {describe(tile)}", context.span, "it takes a tile whose last axis has extent 2")
    if any(a in m.axes for m in tile.masks):
        refuse(
            "ZL0107", "zl.split of lanes that may be inactive", context.span, "give them a value first with zl.where(…)"
        )
    halves = []
    for side in (0, 1):
        position = context.builder.broadcast(context.builder.extent(side), (Const(1),))
        one = picked(context, tile, a, position)
        halves.append(_without_axis(context, one, a))
    return tuple(halves)


# --- running and combined values


def _running(context: Context, op: ReduceOp, x: object, axis: object, pad: object, what: str) -> Tile:
    tile = plain(context.scalar_of(x))
    a = axis_of(context, axis, tile.rank)
    context.check(op, f"zl.{what}", tile)
    return running(context, op, _all_active(context, tile, a, pad, what), a, tile)


@lowers
def _cumprod(context: Context, x: object, axis: object = -1, pad: object = None) -> object:
    return _running(context, ReduceOp.PROD, x, axis, pad, "cumprod")


@lowers
def _cummax(context: Context, x: object, axis: object = -1, pad: object = None) -> object:
    return _running(context, ReduceOp.MAX, x, axis, pad, "cummax")


@lowers
def _cummin(context: Context, x: object, axis: object = -1, pad: object = None) -> object:
    return _running(context, ReduceOp.MIN, x, axis, pad, "cummin")


@lowers
def _reduce(context: Context, x: object, combine: object, axis: object = -1, pad: object = None) -> object:
    tiles, size, a = _operands(context, x, axis, pad, "reduce")
    tail: tuple[Tile, ...] | None = None
    while size > 1:
        half = size // 2
        evens, odds = (_every_second(context, tiles, a, start, half) for start in (0, 1))
        if size % 2:
            last = _every_second(context, tiles, a, size - 1, 1)
            tail = last if tail is None else _combined(context, combine, last, tail, "reduce")
        tiles, size = _combined(context, combine, evens, odds, "reduce"), half
    if tail is not None:
        tiles = _combined(context, combine, tiles, tail, "reduce")
    results = tuple(_without_axis(context, t, a) for t in tiles)
    return results if isinstance(x, tuple) else results[0]


@lowers
def _scan(context: Context, x: object, combine: object, axis: object = -1, pad: object = None) -> object:
    tiles, size, a = _operands(context, x, axis, pad, "scan")
    builder = context.builder
    distance = 1
    while distance < size:
        place = builder.iota(size)
        before = builder.binary(BinaryOp.MAX, builder.sub(place, builder.extent(distance)), builder.extent(0))
        earlier = tuple(picked(context, t, a, before) for t in tiles)
        reached = builder.binary(BinaryOp.GE, place, builder.extent(distance))
        for _ in range(tiles[0].rank - 1 - a):
            reached = builder.expand_dims(reached, reached.type.rank)
        both = _combined(context, combine, earlier, tiles, "scan")
        tiles = tuple(
            Tile(builder.select(reached, new.value, old.value), old.masks, old.lanes)
            for new, old in zip(both, tiles, strict=True)
        )
        distance *= 2
    return tiles if isinstance(x, tuple) else tiles[0]


def _operands(context: Context, x: object, axis: object, pad: object, what: str) -> tuple[tuple[Tile, ...], int, int]:
    """The tiles that are combined together, how many lanes they have along the axis, and the axis."""
    parts = tuple(plain(context.scalar_of(part)) for part in (x if isinstance(x, tuple) else (x,)))
    pads = pad if isinstance(pad, tuple) else (pad,) * len(parts)
    if not parts or len({p.shape for p in parts}) != 1 or len(pads) != len(parts):
        refuse(
            "ZL0106",
            f"zl.{what} of {describe(x)}",
            context.span,
            "tiles that are combined together have one shape and a pad each",
        )
    a = axis_of(context, axis, parts[0].rank)
    size = _fixed(context, parts[0], a, what)
    if size < 1:
        refuse("ZL0106", f"zl.{what} of no lanes", context.span, "the axis has at least one lane")
    return tuple(_all_active(context, p, a, q, what) for p, q in zip(parts, pads, strict=True)), size, a


def _every_second(context: Context, tiles: Sequence[Tile], axis: int, start: int, count: int) -> tuple[Tile, ...]:
    builder = context.builder
    positions = builder.add(builder.mul(builder.iota(count), builder.extent(2)), builder.extent(start))
    return tuple(picked(context, t, axis, positions) for t in tiles)


def _combined(context: Context, combine: object, a: Sequence[Tile], b: Sequence[Tile], what: str) -> tuple[Tile, ...]:
    """``combine(a, b)``, which must have the dtypes and shape of its operands."""
    if not callable(combine):
        refuse(
            "ZL0105",
            f"zl.{what} combines with {describe(combine)}",
            context.span,
            "pass a function decorated with @zl.inline",
        )
    b = tuple(Tile(y.value, y.masks, x.lanes) for x, y in zip(a, b, strict=True))
    single = len(a) == 1
    made = combine(*((a[0], b[0]) if single else (tuple(a), b)))
    results = (made,) if single else made
    if not isinstance(results, tuple) or len(results) != len(a):
        refuse("ZL0104", f"the function that zl.{what} combines with gives {describe(made)}", context.span,
               f"it returns as many tiles as it is given: {len(a)}")  # fmt: skip
    for x, result in zip(a, results, strict=True):
        if not isinstance(result, Tile) or result.value.type != x.value.type:
            refuse("ZL0119", f"the function that zl.{what} combines with makes {describe(result)} of {describe(x)}", context.span,
                   "it keeps dtype and shape: convert with .to(dtype)")  # fmt: skip
    return tuple(plain(r) for r in results if isinstance(r, Tile))


@lowers
def _histogram(context: Context, x: object, bins: object) -> object:
    tile = plain(context.scalar_of(x))
    if tile.rank != 1 or not tile.dtype.is_integer:
        refuse("ZL0105", f"zl.histogram of {describe(tile)}", context.span, "it takes a tile of integers with one axis")
    (count,) = shape_of(context, bins)
    numbers = Tile(context.builder.iota(count), (), (fresh_lanes(),))
    if tile.dtype.bits < 64:
        tile = context.as_index(tile)
    else:  # a number of a bin fits 64 bits, a value may not fit an index
        numbers = context.cast(numbers, tile.dtype)
    here = context.binary(BinaryOp.EQ, expand(context, tile, 0), expand(context, numbers, 1))
    return reduce(context, ReduceOp.SUM, context.cast(here, dtypes.i32), 1, False, None, "histogram")


@lowers
def _popcount(context: Context, x: object) -> object:
    """Bits are added in pairs, then in groups of 4 and 8; a multiplication adds up the bytes (Warren, Hacker's Delight, 5-1)."""
    tile = plain(context.scalar_of(x))
    if not tile.dtype.is_integer or tile.dtype is dtypes.index:
        refuse(
            "ZL0105",
            f"zl.popcount of {describe(tile)}",
            context.span,
            "it counts the bits of i8 … u64; convert with .to(zl.u64)",
        )
    unsigned = dtypes.ALL[f"u{tile.dtype.bits}"]
    word = dtypes.u64 if tile.dtype.bits == 64 else dtypes.u32
    bits = tile if tile.dtype is unsigned else tile.with_value(context.builder.bitcast(tile.value, unsigned))
    counted: object = context.cast(bits, word)

    def op(name: BinaryOp, a: object, b: object) -> Tile:
        return context.binary(name, a, b)

    def repeated(byte: int) -> int:
        return int.from_bytes(bytes([byte]) * (word.bits // 8), "little")

    odd = op(BinaryOp.AND, op(BinaryOp.SHR, counted, 1), repeated(0x55))
    counted = op(BinaryOp.SUB, counted, odd)
    upper = op(BinaryOp.AND, op(BinaryOp.SHR, counted, 2), repeated(0x33))
    counted = op(BinaryOp.ADD, op(BinaryOp.AND, counted, repeated(0x33)), upper)
    counted = op(BinaryOp.AND, op(BinaryOp.ADD, counted, op(BinaryOp.SHR, counted, 4)), repeated(0x0F))
    total = op(BinaryOp.SHR, op(BinaryOp.MUL, counted, repeated(0x01)), word.bits - 8)
    return context.cast(total, dtypes.i32)


@lowers
def _random_normal(context: Context, seed: object, counter: object) -> object:
    place = context.binary(BinaryOp.MUL, context.scalar_of(counter), 2)
    first, second = (uniform(context, seed, context.binary(BinaryOp.ADD, place, k)) for k in (0, 1))
    radius = unary(context, UnaryOp.SQRT, context.binary(BinaryOp.MUL, unary(context, UnaryOp.LOG, first), -2.0))
    turn = unary(context, UnaryOp.COS, context.binary(BinaryOp.MUL, second, 6.283185307179586))
    return context.binary(BinaryOp.MUL, radius, turn)
