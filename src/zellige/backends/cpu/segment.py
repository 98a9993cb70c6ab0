"""Running sums that cut a dimension in segments: making one, and finding the segment that a position lies in."""

from __future__ import annotations

from zellige.backends.cpu.context import Context, Index, Position, index_of, nest
from zellige.backends.cpu.convert import cast
from zellige.backends.cpu.emit import Int, Reg
from zellige.backends.cpu.expression import extent_int
from zellige.backends.cpu.memory import write_buffer
from zellige.backends.cpu.plan import shape_of, size_of
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import Kind


def lower_offsets(ctx: Context, op: ops.Offsets) -> None:
    """Computes a saturated running sum into a new buffer, one element after the other."""
    e = ctx.emitter
    (count,) = shape_of(op.lengths)
    buffer = ctx.new_buffer(op.result.type.dtype, (count + 1,))
    limit = ctx.index(op.total, ())
    assert isinstance(limit, Index)
    total = e.extremum("smax", limit.base, 0)

    def step(i: Int, carried: list[Reg]) -> list[Reg]:
        write_buffer(ctx, buffer, (i,), index_of(carried[0]))
        dtype, sofar = op.lengths.type.dtype, carried[0]
        length = cast(e, ctx.value(op.lengths, (i,)), dtype, dtypes.index, ctx.target)
        if dtype is dtypes.u64:  # the larger ones would be negative as signed numbers
            length = e.select(e.compare("icmp", "slt", length, Reg("0", "i64")), e.i64(total), length)
        # what is left, and not the sum, is compared: the sum of two numbers of 64 bits may wrap
        added = e.extremum("smin", e.extremum("smax", length, 0), e.sub(total, sofar))
        return [e.i64(e.add(sofar, added))]

    e.loop(0, count, 1, [Reg("0", "i64")], step)
    write_buffer(ctx, buffer, (count,), index_of(total))
    ctx.buffers[op.result] = buffer


def lower_segment(ctx: Context, op: ops.Segment) -> None:
    """Computes the segments of all positions: a scalar at once, a tile into a new buffer."""
    if size_of(op.result) == 1:
        ctx.scalars[op.result] = index_of(_search(ctx, op, (0,) * op.result.type.rank))
        return
    buffer = ctx.new_buffer(op.result.type.dtype, shape_of(op.result))
    shape = shape_of(op.result)
    nest(ctx, shape, len(shape) - 1, lambda p: write_buffer(ctx, buffer, p, index_of(_search(ctx, op, p))), 1)
    ctx.buffers[op.result] = buffer


def _search(ctx: Context, op: ops.Segment, position: Position) -> Int:
    """The last of the segments 0 … S−1 that starts at or before the position (0 if none does)."""
    e = ctx.emitter
    wanted = ctx.index(op.position, position)
    assert isinstance(wanted, Index)
    extent = extent_int(ctx, ctx.function.array(op.array).shape[0])

    def unsettled(carried: list[Reg]) -> Reg:
        low, high = carried
        return e.icmp("sgt", e.sub(high, low), 1)

    def halve(carried: list[Reg]) -> list[Reg]:
        low, high = carried
        middle = e.udiv(e.add(low, high), 2)
        starts = e.icmp("sle", _start(ctx, op, middle), wanted.base)
        return [e.select(starts, e.i64(middle), low), e.select(starts, high, e.i64(middle))]

    # in every round: segment `low` starts at or before the position (or is 0), segment `high` after it (or is S)
    low, _ = e.while_loop([Reg("0", "i64"), e.i64(e.sub(extent, 1))], unsettled, halve)
    return low


def _start(ctx: Context, op: ops.Segment, segment: Int) -> Int:
    """Where a segment starts: its offset, or the number of its first tile."""
    e = ctx.emitter
    array = ctx.arrays[op.array]
    width = array.dtype.bits // 8
    place = e.offset(array.pointer, e.mul(e.mul(segment, array.strides[0]), width))
    stored = e.load(place, f"i{array.dtype.bits}", 0, width, array.load_metadata)
    widen = "zext" if array.dtype.kind is Kind.UNSIGNED else "sext"
    start: Int = stored if stored.type == "i64" else e.convert(widen, stored, "i64")
    return start if op.tile is None else e.add(e.udiv(start, op.tile), segment)
