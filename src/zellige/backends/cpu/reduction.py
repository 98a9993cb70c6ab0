"""Reductions and running reductions along an axis of a tile expression.

Along the vector axis, several rows and several accumulators are in flight at once, so that the latency of an addition is
hidden and an operand shared by the rows is computed once. Their order is fixed by the tile's shape alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zellige.backends.cpu import fixed_point
from zellige.backends.cpu.context import (
    Buffer,
    Context,
    Coordinate,
    Index,
    Lane,
    Position,
    index_of,
    lane_at,
    lanes_of,
    nest,
    pieces,
    row_blocks,
    vector_axis,
)
from zellige.backends.cpu.convert import COMPUTED_IN_F32, cast, literal
from zellige.backends.cpu.emit import Int, Reg
from zellige.backends.cpu.expression import binary_value
from zellige.backends.cpu.memory import address, loads_at, prefetch, prefetch_following, read_buffer, write_buffer
from zellige.backends.cpu.operands import once
from zellige.backends.cpu.plan import REDUCED, shape_of, size_of
from zellige.backends.cpu.quantised import LONG_ROW, prepare_scales
from zellige.backends.cpu.versions import step_lanes, versioned
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType, Kind
from zellige.ir.ops import BinaryOp, ReduceOp, Value

_COMBINE = {
    ReduceOp.SUM: BinaryOp.ADD,
    ReduceOp.PROD: BinaryOp.MUL,
    ReduceOp.MAX: BinaryOp.MAX,
    ReduceOp.MIN: BinaryOp.MIN,
    ReduceOp.ANY: BinaryOp.OR,
    ReduceOp.ALL: BinaryOp.AND,
}
_INF = float("inf")


@dataclass(frozen=True, slots=True)
class _Reducer:
    """How one reduction accumulates: the dtype it runs in and its accumulators (value, and position for arg-reductions)."""

    ctx: Context
    op: ReduceOp
    source: DType

    @property
    def dtype(self) -> DType:
        return dtypes.f32 if self.source in COMPUTED_IN_F32 else self.source

    @property
    def seeks_position(self) -> bool:
        return self.op in (ReduceOp.ARGMAX, ReduceOp.ARGMIN)

    @property
    def _maximises(self) -> bool:
        return self.op in (ReduceOp.MAX, ReduceOp.ARGMAX)

    def identity(self) -> Reg:
        if self.op is ReduceOp.SUM:
            return literal(0, self.dtype, self.ctx.target)
        if self.op is ReduceOp.PROD:
            return literal(1, self.dtype, self.ctx.target)
        if self.op is ReduceOp.ANY:
            return literal(False, dtypes.bool_, self.ctx.target)
        if self.op is ReduceOp.ALL:
            return literal(True, dtypes.bool_, self.ctx.target)
        if self.dtype.is_bool:
            return literal(not self._maximises, dtypes.bool_, self.ctx.target)
        if self.dtype.is_float:
            return literal(-_INF if self._maximises else _INF, self.dtype, self.ctx.target)
        low, high = dtypes.i64.integer_range() if self.dtype.kind is Kind.INDEX else self.dtype.integer_range()
        return literal(low if self._maximises else high, self.dtype, self.ctx.target)

    def start(self, lanes: int) -> list[Reg]:
        parts = [self.identity()] + ([Reg("0", "i64")] if self.seeks_position else [])
        return [self.ctx.emitter.splat(p, lanes) if lanes else p for p in parts]

    def element(self, x: Reg | Index, place: Coordinate, lanes: int) -> list[Reg]:
        """An accumulator that holds just the elements `x`, which stand at `place` along the reduced axis."""
        e = self.ctx.emitter
        if isinstance(x, Index):
            x = self.ctx.index_register(x, x.lanes)
        x = cast(e, x, self.source, self.dtype, self.ctx.target)
        x = e.splat(x, lanes) if lanes else x
        if not self.seeks_position:
            return [x]
        if isinstance(place, Lane):
            return [x, self.ctx.index_register(Index(place.base, 1, place.lanes), place.lanes)]
        return [x, e.splat(e.i64(place), lanes) if lanes else e.i64(place)]

    def combine(self, a: Sequence[Reg], b: Sequence[Reg]) -> list[Reg]:
        """Two accumulators as one; of equal values (and of two NaNs) the smaller position wins."""
        e = self.ctx.emitter
        if not self.seeks_position:
            return [binary_value(self.ctx, _COMBINE[self.op], a[0], b[0], self.dtype)]
        first = e.compare("icmp", "slt", b[1], a[1])
        equal = binary_value(self.ctx, BinaryOp.EQ, b[0], a[0], self.dtype)
        if self.dtype.is_float:
            equal = e.op("or", equal, e.op("and", *(e.compare("fcmp", "uno", x[0], x[0]) for x in (a, b))))
        wins = e.op("or", self._beats(b[0], a[0]), e.op("and", equal, first))
        return [e.select(wins, b[0], a[0]), e.select(wins, b[1], a[1])]

    def _beats(self, x: Reg, y: Reg) -> Reg:
        """Whether x comes before y as an extremum wherever they stand: it is beyond y, or a NaN and y is none, as NumPy has it."""
        better = BinaryOp.GT if self.op is ReduceOp.ARGMAX else BinaryOp.LT
        if not self.dtype.is_float:
            return binary_value(self.ctx, better, x, y, self.dtype)
        e = self.ctx.emitter
        beyond = e.compare("fcmp", "ugt" if self.op is ReduceOp.ARGMAX else "ult", x, y)  # also true if one is a NaN
        return e.op("and", beyond, e.compare("fcmp", "ord", y, y))

    def advance(self, a: Sequence[Reg], b: Sequence[Reg]) -> list[Reg]:
        """`combine` where all positions of b come after those of a."""
        if not self.seeks_position:
            return self.combine(a, b)
        e = self.ctx.emitter
        wins = self._beats(b[0], a[0])
        return [e.select(wins, b[0], a[0]), e.select(wins, b[1], a[1])]

    def widened(self, part: Sequence[Reg], lanes: int) -> list[Reg]:
        """`part` in the first lanes of a vector, the identity in the others."""
        e = self.ctx.emitter
        result = []
        for x, neutral in zip(part, self.start(0), strict=True):
            fill = e.splat(neutral, lanes)
            if not x.lanes:
                result.append(e.inst(f"insertelement {fill}, {x}, i64 0", x.type, lanes))
                continue
            spread = e.shuffle(x, None, [i if i < x.lanes else 0 for i in range(lanes)])
            keep = Reg("<" + ", ".join(f"i1 {str(i < x.lanes).lower()}" for i in range(lanes)) + ">", "i1", lanes)
            result.append(e.select(keep, spread, fill))
        return result

    def horizontal(self, acc: Sequence[Reg]) -> list[Reg]:
        """All lanes of an accumulator combined, by halves."""
        e = self.ctx.emitter
        current = list(acc)
        while current[0].lanes > 1:
            half = current[0].lanes // 2
            low = [e.shuffle(x, None, range(half)) for x in current]
            high = [e.shuffle(x, None, range(half, 2 * half)) for x in current]
            current = self.combine(low, high)
        return [e.extract(x, 0) for x in current]

    def finish(self, acc: Sequence[Reg]) -> Reg:
        """The result from a combined accumulator, in the result's dtype."""
        if self.seeks_position:
            return acc[1]
        return cast(self.ctx.emitter, acc[0], self.dtype, self.source, self.ctx.target)


def lower_reduce(ctx: Context, op: ops.Reduce) -> None:
    """Computes a reduction into a scalar or a new buffer."""
    shape = shape_of(op.x)
    reducer = _Reducer(ctx, op.op, op.x.type.dtype)
    along = op.axis == vector_axis(shape) or (shape[op.axis] == 1 and size_of(op.x) == 1)
    if size_of(op.result) == 1 and along:

        def whole() -> list[Reg]:
            place: list[Coordinate] = [0] * len(shape)
            return _rows(ctx, reducer, op, shape, [place], 1)

        (result,) = versioned(ctx, [op.x], (), whole)
        ctx.scalars[op.result] = index_of(result) if op.result.type.dtype.kind is Kind.INDEX else result
        return
    buffer = ctx.new_buffer(op.result.type.dtype, shape_of(op.result))
    product = fixed_point.recognised(ctx, op)
    if product is not None:
        vector = fixed_point.prepared(ctx, product, once)

        def whole_numbers() -> list[Reg]:
            fixed_point.lower(ctx, product, vector, buffer)
            return []

        versioned(ctx, [op.x], (), whole_numbers)
    elif along:

        def rows() -> list[Reg]:
            _all_rows(ctx, reducer, op, shape, buffer)
            return []

        versioned(ctx, [op.x], (), rows)
    else:

        def columns() -> list[Reg]:
            _columns(ctx, reducer, op, shape, buffer)
            return []

        versioned(ctx, [op.x], (), columns)
    ctx.buffers[op.result] = buffer
    if size_of(op.result) == 1:
        ctx.scalars[op.result] = read_buffer(ctx, buffer, (0,) * len(buffer.strides))


def _without(position: Sequence[Coordinate], axis: int) -> Position:
    return tuple(c for i, c in enumerate(position) if i != axis)


def _all_rows(ctx: Context, reducer: _Reducer, op: ops.Reduce, shape: tuple[int, ...], buffer: Buffer) -> None:
    """Reduces every row of the vector axis, `jam` of them at a time."""
    outer = [i for i, n in enumerate(shape) if i != op.axis and n > 1]
    if not outer:
        outer = [0 if op.axis != 0 else 1] if len(shape) > 1 else []
    jam_axis = outer[-1]
    jam = rows_in_flight(ctx, op.x, shape, op.axis, shape[jam_axis])

    def emit(place: list[Coordinate], count: int) -> None:
        rows = []
        for r in range(count):
            row = list(place)
            row[jam_axis] = ctx.emitter.add(_int(place[jam_axis]), r)
            rows.append(row)
        for row, result in zip(rows, _rows(ctx, reducer, op, shape, rows, count), strict=True):
            write_buffer(ctx, buffer, _without(row, op.axis), result)

    def loops(axes: list[int], place: list[Coordinate]) -> None:
        axis, *rest = axes
        steps = [(0, shape[axis], 1)] if rest else row_blocks(shape[axis], jam)
        for lower, upper, step in steps:

            def body(i: Int, _: list[Reg], step: int = step) -> tuple[()]:
                inner = list(place)
                inner[axis] = i
                if rest:
                    loops(rest, inner)
                else:
                    emit(inner, step)
                return ()

            ctx.emitter.loop(lower, upper, step, (), body)

    loops(outer, [0] * len(shape))


def _int(coordinate: Coordinate) -> Int:
    assert not isinstance(coordinate, Lane)
    return coordinate


def rows_in_flight(ctx: Context, x: Value, shape: tuple[int, ...], axis: int, available: int) -> int:
    """How many rows are reduced at once: several short ones, to fill the registers with accumulators, but one long one.

    Long rows come from memory, and one stream of addresses is what the hardware prefetches best: with four rows side by
    side, Q8_0 weights arrived at 8 GB/s instead of 30.
    """
    if shape[axis] >= LONG_ROW:
        return 1
    registers = max(1, step_lanes(ctx, [x])[0] // ctx.target.lanes)
    return max(1, min(available, ctx.target.vectors // 4 // registers))


def _rows(
    ctx: Context, reducer: _Reducer, op: ops.Reduce, shape: tuple[int, ...], rows: list[list[Coordinate]], count: int
) -> list[Reg]:
    """Results of the reductions along op.axis at the given places of the other axes."""
    e = ctx.emitter
    extent = shape[op.axis]
    lanes, period = step_lanes(ctx, [op.x])
    while lanes > extent and lanes > 1:
        lanes //= 2
    unroll = 1
    registers = max(1, lanes // ctx.target.lanes)
    accumulators = ctx.target.vectors // (4 if period == 1 else 8)  # unpacking gives additions time enough
    while unroll * 2 * count * registers <= accumulators and unroll * 2 * lanes <= extent:
        unroll *= 2
    width = len(reducer.start(0))

    def at(row: list[Coordinate], coordinate: Coordinate, lanes_: int) -> list[Reg]:
        place = list(row)
        place[op.axis] = coordinate
        return reducer.element(ctx.evaluate(op.x, tuple(place)), coordinate, lanes_)

    flat = [part for _ in range(count * unroll) for part in reducer.start(lanes if lanes > 1 else 0)]
    stride = max(lanes * unroll, period)  # elements of one step of the loop; its vectors take turns at the accumulators

    if extent >= LONG_ROW and ctx.target.vector_bits == 512:
        for row in rows:
            prepare_scales(ctx, op.x, tuple(Lane(0, lanes, 0) if i == op.axis else c for i, c in enumerate(row)))

    def fetch(i: Int) -> None:
        """Prefetches what each row streams from memory: arrays of which every element is read once."""
        for row in rows if extent >= LONG_ROW else ():
            position = tuple(lane_at(i, lanes, stride) if axis == op.axis else c for axis, c in enumerate(row))
            for load, where in loads_at(ctx, op.x, position):
                if size_of(load.result) == size_of(op.x) > extent:
                    place = address(ctx, ctx.arrays[load.array], load.index, where)
                    if place.scattered is None and place.stride == 1:
                        prefetch(ctx, ctx.arrays[load.array], place, stride)

    def step(i: Int, carried: list[Reg]) -> list[Reg]:
        fetch(i)
        if op.result in ctx.ahead and count == 1:
            place = tuple(lane_at(i, stride, stride) if axis == op.axis else c for axis, c in enumerate(rows[0]))
            prefetch_following(ctx, ctx.ahead[op.result], place, REDUCED)
        result = list(carried)
        for u in range(stride // lanes):
            coordinate = lane_at(e.add(i, u * lanes), lanes, stride, u * lanes)
            for r, row in enumerate(rows):
                k = (u % unroll * count + r) * width
                result[k : k + width] = reducer.advance(
                    result[k : k + width], at(row, coordinate, lanes if lanes > 1 else 0)
                )
        return result

    main = extent // stride * stride
    flat = e.loop(0, main, stride, flat, step)
    totals = []
    for r in range(count):
        parts = [flat[(u * count + r) * width : (u * count + r + 1) * width] for u in range(unroll)]
        while len(parts) > 1:
            parts = [reducer.combine(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        totals.append(parts[0])
    for lower, upper, size in pieces(extent - main, lanes):
        for start in range(lower + main, upper + main, size):
            coordinate = lane_at(start, size, size)
            for r, row in enumerate(rows):
                part = at(row, coordinate, size if size > 1 else 0)
                if lanes > 1 and size < lanes:
                    part = reducer.widened(part, lanes)
                totals[r] = reducer.advance(totals[r], part)
    ctx.scales.clear()
    return [reducer.finish(reducer.horizontal(t)) for t in totals]


def _columns(ctx: Context, reducer: _Reducer, op: ops.Reduce, shape: tuple[int, ...], buffer: Buffer) -> None:
    """Reduces along an axis across vectors of the last axis."""
    column_shape = tuple(1 if i == op.axis else n for i, n in enumerate(shape))
    lanes, period = step_lanes(ctx, [op.x])

    def column(position: Position) -> None:
        width = lanes_of(position)

        def step(i: Int, carried: list[Reg]) -> list[Reg]:
            place = list(position)
            place[op.axis] = i
            x = ctx.evaluate(op.x, tuple(place))
            return reducer.advance(carried, reducer.element(x, i, width))

        total = ctx.emitter.loop(0, shape[op.axis], 1, reducer.start(width), step)
        write_buffer(ctx, buffer, _without(position, op.axis), reducer.finish(total))

    nest(ctx, column_shape, vector_axis(column_shape), column, 2 * lanes if period == 1 else lanes, period)


def lower_scan(ctx: Context, op: ops.Scan) -> None:
    """Computes a running reduction into a new buffer: sequential along its axis, in vectors along another if there is."""
    shape = shape_of(op.x)
    reducer = _Reducer(ctx, op.op, op.x.type.dtype)
    buffer = ctx.new_buffer(op.result.type.dtype, shape)
    others = tuple(1 if i == op.axis else n for i, n in enumerate(shape))

    def line(position: Position) -> None:
        width = lanes_of(position)

        def step(i: Int, carried: list[Reg]) -> list[Reg]:
            place = list(position)
            place[op.axis] = i
            total = reducer.advance(carried, reducer.element(ctx.evaluate(op.x, tuple(place)), i, width))
            write_buffer(ctx, buffer, tuple(place), reducer.finish(total))
            return total

        ctx.emitter.loop(0, shape[op.axis], 1, reducer.start(width), step)

    nest(ctx, others, vector_axis(others), line, ctx.vector)
    ctx.buffers[op.result] = buffer
