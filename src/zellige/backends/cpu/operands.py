"""Operands of products in scratch memory, as the micro-kernels want them.

*Rows*: k-contiguous, row after row. *Columns*: (K, N). *Panels*: 16 columns at a time, for each two steps of k (four, of
bytes) the 16 pairs side by side, 32-bit words. An operand that only some axes of the grid choose is packed once for
consecutive programs that share those; one that lies in an array as rows already is not packed at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from zellige.backends.cpu.context import Buffer, Context, Index, Lane, Position, lanes_of, nest, row_major, vector_axis
from zellige.backends.cpu.convert import cast, memory_type
from zellige.backends.cpu.emit import FALSE, TRUE, Int, Reg
from zellige.backends.cpu.memory import address, loads_at, prefetch, prefetch_lanes, write_buffer
from zellige.backends.cpu.microkernels import PANEL, Form, Product, k_step, transposed
from zellige.backends.cpu.plan import is_unit_reshape, shape_of, shared_axes, size_of, twins
from zellige.backends.cpu.quantised import LONG_ROW, prepare_scales
from zellige.backends.cpu.versions import all_true, step_lanes, versioned
from zellige.ir import ops
from zellige.ir.dtypes import DType
from zellige.ir.ops import BinaryOp, Value
from zellige.ir.types import Role

_LINE, _CROWDED = 64, 4096


def contiguous_axis(ctx: Context, value: Value) -> int:
    """The axis of a tile expression along which its elements lie next to each other in memory."""
    shape = shape_of(value)
    found = _contiguous(ctx, value)
    return found if found is not None and shape[found] > 1 else vector_axis(shape)


def _contiguous(ctx: Context, value: Value) -> int | None:
    """That axis, or None if the expression reads nothing that has one."""
    if value in ctx.scalars or value.type.rank == 0:
        return None
    if value in ctx.buffers:
        return vector_axis(shape_of(value))
    match ctx.definitions.get(value):
        case ops.Transpose(x=x, permutation=permutation):
            axis = _contiguous(ctx, x)
            return None if axis is None else permutation.index(axis)
        case ops.ExpandDims(x=x, axis=inserted):
            axis = _contiguous(ctx, x)
            return axis if axis is None or axis < inserted else axis + 1
        case ops.Broadcast(x=x):
            return _contiguous(ctx, x)
        case ops.Reshape(x=x, result=result) if is_unit_reshape(x, result):
            axis = _contiguous(ctx, x)
            if axis is None or shape_of(x)[axis] == 1:
                return None
            rank = sum(n != 1 for n in shape_of(x)[:axis])
            return [i for i, n in enumerate(shape_of(result)) if n != 1][rank]
        case ops.Load(index=index):
            if index and index[-1].type.rank:
                return max((i for i, n in enumerate(shape_of(index[-1])) if n > 1), default=None)
            return None
        case ops.Unary(x=x) | ops.Cast(x=x) | ops.Bitcast(x=x):
            return _contiguous(ctx, x)
        case ops.Binary(x=x, y=y) | ops.Select(x=x, y=y) | ops.Fma(x=x, y=y):
            first = _contiguous(ctx, x)
            return first if first is not None else _contiguous(ctx, y)
    return None


def padded(extent: int, multiple: int) -> int:
    """The next multiple."""
    return -(-extent // multiple) * multiple


# --- packing once for several programs


def once(ctx: Context, value: Value, pack: Callable[[], None]) -> None:
    """Emits ``pack``, under a test that skips it where the program before has packed the same operand."""
    e = ctx.emitter
    axes = shared_axes(ctx.function, ctx.definitions, value)
    if axes is None:
        pack()
        return
    key: Int = 0
    for coordinate, count in zip(ctx.program_ids[:axes], ctx.program_counts[:axes], strict=True):
        key = e.add(e.mul(key, count), coordinate)
    slot = e.alloca(8)
    e.entry.append(f"  store i64 -1, {slot}, align 8")
    before = e.load(slot, "i64", 0, 8)

    def fresh() -> tuple[()]:
        e.store(e.i64(key), slot, 8)
        pack()
        return ()

    e.if_else(e.icmp("ne", before, key), fresh)


# --- rows


def pack_rows(ctx: Context, value: Value, product: Product, *, transpose: bool) -> Buffer:
    """a as (…, M, K), or b as (…, N, K) with ``transpose``; k padded by zeros to whole vectors where the form needs it."""
    shape = shape_of(value)
    stored = (*shape[:-2], shape[-1], shape[-2]) if transpose else shape
    tall = product.form.in_panels  # whole tiles of rows, too
    height, k = padded(stored[-2], PANEL if tall else 1), stored[-1]
    width = padded(k, 1 if product.form is Form.OUTER else k_step(ctx, product))
    exact = (height, width) == stored[-2:]
    ready = _in_buffer(ctx, value, product, transpose=transpose) if exact else None
    if ready is not None:
        return ready
    key = (value, product.packed, ("rows", height, width), transpose)
    if key in ctx.packed:
        return ctx.packed[key]
    borrowed = _in_array(ctx, value, product, transpose=transpose) if exact else None
    row = borrowed.row if borrowed is not None else width
    size = product.packed.bits // 8
    if tall and borrowed is None and row * size // _LINE % 2 == 0:
        row += _LINE // size  # an odd number of lines: neighbouring rows use different sets of the cache
    extents = (*stored[:-2], height, row)
    pointer = ctx.scratch(math.prod(extents) * product.packed.bits // 8)
    rows = Buffer(pointer, product.packed, row_major(extents))

    def pack() -> None:
        *outer, far, near = rows.strides
        _copy(ctx, value, Buffer(pointer, product.packed, (*outer, near, far)) if transpose else rows)
        if width != k:
            _zero_tail(ctx, rows, stored, k, width)

    if borrowed is None:
        once(ctx, value, pack)
    else:

        def unless_borrowed() -> tuple[()]:
            once(ctx, value, pack)
            return ()

        ctx.emitter.if_else(borrowed.usable, lambda: (), unless_borrowed)
        place = ctx.emitter.select(borrowed.usable, borrowed.pointer, pointer)
        streamed = shared_axes(ctx.function, ctx.definitions, value) is None
        rows = Buffer(place, product.packed, rows.strides, streamed)
    ctx.packed[key] = rows
    return rows


def _in_buffer(ctx: Context, value: Value, product: Product, *, transpose: bool) -> Buffer | None:
    """The buffer that holds an operand already as the micro-kernel wants it."""
    if transpose:
        inner = _untransposed(ctx, value)
        if inner is None:
            return None
        value = inner
    buffer = ctx.buffers.get(value)
    return buffer if buffer is not None and buffer.dtype is product.packed else None


def _untransposed(ctx: Context, value: Value) -> Value | None:
    """x of a value that is xᵀ in its last two axes."""
    op = ctx.definitions.get(value)
    swapped = (*range(value.type.rank - 2), value.type.rank - 1, value.type.rank - 2)
    if value in ctx.buffers or not isinstance(op, ops.Transpose) or op.permutation != swapped:
        return None
    return op.x


@dataclass(frozen=True, slots=True)
class _Borrowed:
    """Rows of an array that serve as an operand where they are: `usable` if no lane is masked; `row` elements apart."""

    pointer: Reg
    row: int
    usable: Reg


def _in_array(ctx: Context, value: Value, product: Product, *, transpose: bool) -> _Borrowed | None:
    """A two-dimensional operand loaded whole from rows of an array that nobody writes, if it is one."""
    inner = _untransposed(ctx, value) if transpose else value
    op = None if inner is None or inner in ctx.buffers else ctx.definitions.get(inner)
    if not isinstance(op, ops.Load) or op.result.type.rank != 2 or op.result.type.dtype is not product.packed:
        return None
    if any(a.name == op.array and a.role is not Role.IN for a in ctx.function.arrays):
        return None
    e, array = ctx.emitter, ctx.arrays[op.array]
    usable = TRUE
    for mask in op.masks:
        holds = TRUE if mask in ctx.assumed else all_true(ctx, mask)
        if holds is None:
            return None
        usable = e.both(usable, holds)
    spans = [_span(ctx, index) for index in op.index]
    offset: Int = 0
    row: Int | None = None
    for place, (span, stride) in enumerate(zip(spans, array.strides, strict=True)):
        if span is None:
            return None
        base, axis = span
        offset = e.add(offset, e.mul(base, stride))
        if axis == 1 and (place != len(spans) - 1 or stride != 1):
            return None
        if axis == 0:
            if row is not None:
                return None
            row = stride
    size = product.packed.bits // 8
    if not isinstance(row, int) or spans[-1] is None or spans[-1][1] != 1 or usable == FALSE:
        return None
    if product.form.in_panels and row * size % _CROWDED == 0:
        return None  # rows at such distances share so few sets of the cache that they drive each other out
    return _Borrowed(e.offset(array.pointer, e.mul(offset, size), inbounds=False), row, usable)


def _span(ctx: Context, value: Value) -> tuple[Int, int | None] | None:
    """An index tile as base + the coordinate along an axis (None: along none); None if it is something else."""
    if value in ctx.scalars:
        scalar = ctx.scalars[value]
        return (scalar.base, None) if isinstance(scalar, Index) else None
    if value in ctx.buffers:
        return None
    match ctx.definitions.get(value):
        case ops.Iota():
            return 0, 0
        case ops.Broadcast(x=x, result=result):
            found = _span(ctx, x)
            return (found[0], None) if found and x.type.rank != result.type.rank and found[1] is None else found
        case ops.ExpandDims(x=x, axis=inserted):
            found = _span(ctx, x)
            if found is None or found[1] is None:
                return found
            return found[0], found[1] + (found[1] >= inserted)
        case ops.Binary(op=BinaryOp.ADD, x=x, y=y):
            a, b = _span(ctx, x), _span(ctx, y)
            if a is None or b is None or (a[1] is not None and b[1] is not None):
                return None
            return ctx.emitter.add(a[0], b[0]), a[1] if b[1] is None else b[1]
    return None


def _copy(ctx: Context, value: Value, target: Buffer) -> None:
    """All elements of an operand, converted to the packed type, where `target` has them."""
    source = value.type.dtype
    axis = contiguous_axis(ctx, value)

    def fetch(position: Position) -> None:
        """Prefetches rows of packed weights: unpacking them keeps the processor from looking ahead by itself."""
        for load, where in loads_at(ctx, value, position):
            if load.result.type.dtype.is_block and size_of(load.result) == size_of(value):
                place = address(ctx, ctx.arrays[load.array], load.index, where)
                if place.scattered is None and place.stride == 1:
                    prefetch(ctx, ctx.arrays[load.array], place, lanes_of(position))
            for twin in twins(ctx.definitions, load):
                prefetch_lanes(ctx, twin, where)

    lanes, period = step_lanes(ctx, [value])

    def begin(position: Position) -> None:
        line = tuple(Lane(0, lanes, 0) if i == axis else c for i, c in enumerate(position))
        prepare_scales(ctx, value, line)

    def loops() -> list[Reg]:
        def step(position: Position) -> None:
            fetch(position)
            register = cast(ctx.emitter, ctx.value(value, position), source, target.dtype, ctx.target)
            write_buffer(ctx, target, position, register)

        long = shape_of(value)[axis] >= LONG_ROW and ctx.target.vector_bits == 512
        nest(ctx, shape_of(value), axis, step, lanes, period, begin if long else None)
        ctx.scales.clear()
        return []

    with ctx.region():
        versioned(ctx, [value], (), loops)


def _zero(dtype: DType) -> Reg:
    type_ = memory_type(dtype)
    return Reg("0.0" if type_ in ("float", "double") else "0", type_)


def _zero_tail(ctx: Context, buffer: Buffer, shape: tuple[int, ...], k: int, width: int) -> None:
    """Zeros after the last element of each row."""
    outer = (*shape[:-1], 1)

    def step(position: Position) -> None:
        for tail in range(k, width):
            write_buffer(ctx, buffer, (*position[:-1], tail), _zero(buffer.dtype))

    nest(ctx, outer, len(outer) - 1, step, 1)


# --- columns and panels


def pack_columns(ctx: Context, value: Value, product: Product) -> Buffer:
    """b as (…, K, N)."""
    key = (value, product.packed, ("columns",), False)
    if key not in ctx.packed:
        buffer = ctx.new_buffer(product.packed, shape_of(value))
        once(ctx, value, lambda: _copy(ctx, value, buffer))
        ctx.packed[key] = buffer
    return ctx.packed[key]


def pack_panels(ctx: Context, value: Value, product: Product, *, transpose: bool) -> Buffer:
    """b (…, K, N), or a (…, M, K) with ``transpose``, in panels of 16 columns: (…, N/16, K/2, 16, 2), of bytes (…, N/16, K/4, 16, 4).

    The strides of the result: …, of a panel, 1. k is padded by zeros; columns past the last are not initialised."""
    shape = shape_of(value)
    *batch, k, n = (*shape[:-2], shape[-1], shape[-2]) if transpose else shape
    key = (value, product.packed, ("panels",), transpose)
    if key in ctx.packed:
        return ctx.packed[key]
    depth = padded(k, k_step(ctx, product))
    extents = (*batch, padded(n, PANEL) // PANEL, depth * PANEL)
    panels = Buffer(ctx.scratch(math.prod(extents) * product.packed.bits // 8), product.packed, row_major(extents))
    along_k = contiguous_axis(ctx, value) == len(shape) - (1 if transpose else 2)
    rows = pack_rows(ctx, value, product, transpose=not transpose) if along_k else None

    def pack() -> None:
        if rows is not None:
            _panels_of_rows(ctx, rows, panels, math.prod(batch), extents[-2], depth)
        else:
            _panels_of_columns(ctx, value, panels, depth, transpose=transpose)

    once(ctx, value, pack)
    ctx.packed[key] = panels
    return panels


def _panels_of_rows(ctx: Context, rows: Buffer, panels: Buffer, batch: int, count: int, depth: int) -> None:
    """16 rows at a time, 16 words of each: a transposition."""
    e = ctx.emitter
    line = 4 * PANEL
    size = rows.dtype.bits // 8
    row = rows.strides[-2] * size

    def over_panels(i: Int, _: list[Reg]) -> tuple[()]:
        source = e.offset(rows.pointer, e.mul(i, PANEL * row))
        target = e.offset(panels.pointer, e.mul(i, panels.strides[-2] * size))

        def over_k(word: Int, _: list[Reg]) -> tuple[()]:
            words = [
                e.load(e.offset(source, e.add(e.mul(word, 4), r * row)), "i32", PANEL, size, ctx.scratch_metadata)
                for r in range(PANEL)
            ]
            place = e.offset(target, e.mul(word, line))
            for c, column in enumerate(transposed(ctx, words)):
                e.store(column, e.offset(place, c * line), line, ctx.scratch_metadata)
            return ()

        e.loop(0, depth * size // 4, PANEL, (), over_k)
        return ()

    e.loop(0, batch * count, 1, (), over_panels)


def _panels_of_columns(ctx: Context, value: Value, panels: Buffer, depth: int, *, transpose: bool) -> None:
    """Vectors along the columns: neighbours along k are put side by side in 32-bit words."""
    e = ctx.emitter
    shape = shape_of(value)
    *batch, k, n = (*shape[:-2], shape[-1], shape[-2]) if transpose else shape
    bits = panels.dtype.bits
    together = 32 // bits  # elements of a word
    panel = panels.strides[-2] // together  # in words

    def read(position: Position, row: Int) -> Reg:
        """Packed elements of one row of b."""
        *outer, _, column = position
        place = (*outer, column, row) if transpose else (*outer, row, column)
        lanes = lanes_of(position)
        register = cast(e, ctx.value(value, place), value.type.dtype, panels.dtype, ctx.target)
        return e.splat(register, lanes) if lanes else register

    def write(position: Position, words: Reg) -> None:
        *outer, word, column = position
        assert not isinstance(word, Lane)
        base = column.base if isinstance(column, Lane) else column
        place: Int = 0
        for coordinate, extent in zip(outer, batch, strict=True):
            assert not isinstance(coordinate, Lane)
            place = e.add(e.mul(place, extent), coordinate)
        place = e.mul(place, padded(n, PANEL) // PANEL * panel)
        place = e.add(place, e.mul(e.udiv(base, PANEL), panel))
        place = e.add(place, e.add(e.mul(word, PANEL), e.urem(base, PANEL)))
        e.store(words, e.offset(panels.pointer, e.mul(place, 4)), 4, ctx.scratch_metadata)

    def words(position: Position, first: Int, count: int) -> Reg:
        """Elements first … first + count − 1 along k, the first lowest."""
        found: Reg | None = None
        for i in range(count):
            part = e.convert("zext", read(position, e.add(first, i)), "i32")
            shift = Reg(str(bits * i), "i32")
            part = e.op("shl", part, e.splat(shift, part.lanes) if part.lanes else shift) if i else part
            found = part if found is None else e.op("or", found, part)
        assert found is not None
        return found

    def step(position: Position) -> None:
        write(position, words(position, e.mul(_whole(position[-2]), together), together))

    def last(position: Position) -> None:
        count = k % together
        write((*position[:-2], k // together, position[-1]), words(position, k - count, count))

    def rest(position: Position) -> None:
        lanes = lanes_of(position)
        write(
            (*position[:-2], e.add(-(-k // together), _whole(position[-2])), position[-1]),
            Reg("zeroinitializer" if lanes else "0", "i32", lanes),
        )

    def loops() -> list[Reg]:
        axis = len(shape) - 1
        nest(ctx, (*batch, k // together, n), axis, step, PANEL)
        if k % together:
            nest(ctx, (*batch, 1, n), axis, last, PANEL)
        nest(ctx, (*batch, depth // together - -(-k // together), n), axis, rest, PANEL)
        return []

    with ctx.region():
        versioned(ctx, [value], (), loops)


def _whole(coordinate: Int | Lane) -> Int:
    assert not isinstance(coordinate, Lane)
    return coordinate
