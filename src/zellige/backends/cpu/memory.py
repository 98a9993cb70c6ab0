"""Loads, stores and updates of arrays and buffers at a position: contiguous vectors where lanes are, else gathers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zellige.backends.cpu.context import Array, Buffer, Context, Index, Lane, Position, lanes_of, project
from zellige.backends.cpu.convert import cast, from_memory, literal, memory_type, register_type, to_memory
from zellige.backends.cpu.emit import FALSE, TRUE, Int, Reg
from zellige.backends.cpu.plan import WHOLE, Share, shape_of
from zellige.ir import ops
from zellige.ir.dtypes import DType, Kind
from zellige.ir.ops import UpdateOp, Value
from zellige.ir.types import Role

_ZEROS = "zellige_zeros"  # what a lane that must not read reads instead


@dataclass(frozen=True, slots=True)
class Address:
    """Element offsets of the lanes of an access: base + stride·lane, or a vector `scattered` of offsets."""

    base: Int
    stride: Int
    scattered: Reg | None


def address(ctx: Context, array: Array, index: tuple[Value, ...], position: Position) -> Address:
    """Where the lanes of an access are, in elements from the start of the array."""
    e = ctx.emitter
    base: Int = 0
    stride: Int = 0
    scattered: Reg | None = None
    for value, step in zip(index, array.strides, strict=True):
        place = ctx.index(value, project(value, position))
        if isinstance(place, Index):
            base = e.add(base, e.mul(place.base, step))
            stride = e.add(stride, e.mul(place.stride, step))
        else:
            scaled = place if step == 1 else e.op("mul", place, e.splat(e.i64(step), place.lanes))
            scattered = scaled if scattered is None else e.op("add", scattered, scaled)
    if scattered is not None:
        rest = ctx.index_register(Index(base, stride, scattered.lanes), scattered.lanes)
        scattered = e.op("add", scattered, rest)
    return Address(base, stride, scattered)


def mask_at(ctx: Context, masks: tuple[Value, ...], position: Position) -> Reg:
    """The conjunction of masks at a position: a scalar where it is the same in all lanes."""
    result = TRUE
    for mask in masks:
        result = ctx.emitter.both(result, ctx.value(mask, project(mask, position)))
    return result


def load(ctx: Context, op: ops.Load, position: Position) -> Reg | Index:
    """Elements of an array at a position of the load's result."""
    e = ctx.emitter
    array = ctx.arrays[op.array]
    mask = mask_at(ctx, op.masks, position)
    place = address(ctx, array, op.index, position)
    value = read(ctx, array, place, mask, op.pad, lanes_of(position))
    if op.result.type.dtype.kind is Kind.INDEX:
        unsigned = array.dtype.kind is Kind.UNSIGNED
        if value.type != "i64":
            value = e.convert("zext" if unsigned else "sext", value, "i64")
        return value if value.lanes else Index(value)
    return value


def read(ctx: Context, array: Array, place: Address, mask: Reg, pad: int | float, lanes: int) -> Reg:
    """Elements at `place` where `mask` holds, `pad` elsewhere, as a register value of the array's dtype."""
    e = ctx.emitter
    type_, width = memory_type(array.dtype), max(1, array.dtype.bits // 8)
    pad_value = literal(pad, array.dtype, ctx.target)
    if mask == FALSE:
        return pad_value
    if array.dtype.is_bool:
        pad_value = Reg("1" if pad else "0", "i8")
    metadata = array.load_metadata
    if place.scattered is None and (place.stride == 0 or not lanes):
        pointer = e.offset(array.pointer, e.mul(place.base, width), inbounds=mask == TRUE)
        if mask.lanes:  # one element for all lanes: read it if any lane wants it
            anyone = e.call(f"llvm.vector.reduce.or.v{mask.lanes}i1", "i1", 0, mask)
            one = e.load(_guarded(ctx, pointer, anyone), type_, 0, width, metadata)
            chosen = e.select(mask, e.splat(one, mask.lanes), e.splat(pad_value, mask.lanes))
            return from_memory(e, chosen, array.dtype)
        one = e.load(_guarded(ctx, pointer, mask), type_, 0, width, metadata)
        return from_memory(e, e.select(mask, one, pad_value), array.dtype)
    if place.scattered is None and place.stride == 1:
        pointer = e.offset(array.pointer, e.mul(place.base, width), inbounds=mask == TRUE)
        if mask == TRUE:
            return from_memory(e, e.load(pointer, type_, lanes, width, metadata), array.dtype)
        value = _masked_load(ctx, pointer, mask, pad_value, type_, lanes, width, metadata)
        if ctx.function.array(array.name).role is not Role.IN:
            # LLVM 22 makes one of a select by the mask and the load behind it, and puts that where the select stood, past stores
            value = e.inst(f"freeze {value}", type_, lanes)
        return from_memory(e, value, array.dtype)
    offsets = place.scattered
    if offsets is None:
        offsets = ctx.index_register(Index(place.base, place.stride, lanes), lanes)
    value = gather(ctx, array.pointer, offsets, type_, width, mask, pad_value, metadata)
    return from_memory(e, value, array.dtype)


def _guarded(ctx: Context, pointer: Reg, condition: Reg) -> Reg:
    """`pointer`, or a readable place when the condition is false."""
    return pointer if condition == TRUE else ctx.emitter.select(condition, pointer, zeros(ctx))


def zeros(ctx: Context) -> Reg:
    """Address of readable bytes that stand in for an element, or a packed block, that must not be read."""
    text = f"@{_ZEROS} = internal constant [256 x i8] zeroinitializer, align 64"
    if text not in ctx.emitter.globals:
        ctx.emitter.globals.append(text)
    return Reg(f"@{_ZEROS}", "ptr")


def _masked_lanes(ctx: Context, lanes: int, bits: int) -> int:
    """Lanes of one masked access: without AVX-512, no more than a register holds.

    LLVM 22 splits a wider one itself, and where half of the mask is known to be false it then reads (or writes) all of
    that half: `and (splat c), <true, true, true, false, …>` over 16 floats for AVX2 loads 8 floats without a mask.
    """
    if ctx.target.vector_bits == 512 or bits < 32:
        return lanes
    return min(lanes, max(2, ctx.target.vector_bits // bits))


def _masked_load(
    ctx: Context, pointer: Reg, mask: Reg, pad: Reg, type_: str, lanes: int, align: int, metadata: str
) -> Reg:
    e = ctx.emitter
    mask, pad = e.splat(mask, lanes), e.splat(pad, lanes)
    size = _masked_lanes(ctx, lanes, 8 * align)
    vector = f"<{size} x {type_}>"
    name = f"llvm.masked.load.v{size}{_mangled(type_)}.p0"
    e.declare(f"{vector} @{name}(ptr, <{size} x i1>, {vector})")
    parts = []
    for first in range(0, lanes, size):
        at = e.offset(pointer, first * align, inbounds=False)
        some, fill = e.part(mask, first, size), e.part(pad, first, size)
        call = f"call {vector} @{name}(ptr align {align} {at.ref}, {some}, {fill}){metadata}"
        parts.append(e.inst(call, type_, size))
    return e.concatenate(parts)


def gather(ctx: Context, pointer: Reg, offsets: Reg, type_: str, width: int, mask: Reg, pad: Reg, metadata: str) -> Reg:
    """Elements at a vector of offsets (in elements of `width` bytes)."""
    e = ctx.emitter
    lanes = offsets.lanes
    pointers = _pointers(ctx, pointer, offsets, width)
    mask, pad = e.splat(mask, lanes), e.splat(pad, lanes)
    size = _masked_lanes(ctx, lanes, 64)
    vector = f"<{size} x {type_}>"
    name = f"llvm.masked.gather.v{size}{_mangled(type_)}.v{size}p0"
    e.declare(f"{vector} @{name}(<{size} x ptr>, <{size} x i1>, {vector})")
    parts = []
    for first in range(0, lanes, size):
        at, some, fill = (e.part(x, first, size) for x in (pointers, mask, pad))
        call = f"call {vector} @{name}(<{size} x ptr> align {width} {at.ref}, {some}, {fill}){metadata}"
        parts.append(e.inst(call, type_, size))
    return e.concatenate(parts)


def _masked_store(ctx: Context, value: Reg, pointer: Reg, mask: Reg, align: int, metadata: str) -> None:
    e = ctx.emitter
    mask = e.splat(mask, value.lanes)
    size = _masked_lanes(ctx, value.lanes, 8 * align)
    vector = f"<{size} x {value.type}>"
    name = f"llvm.masked.store.v{size}{_mangled(value.type)}.p0"
    e.declare(f"void @{name}({vector}, ptr, <{size} x i1>)")
    for first in range(0, value.lanes, size):
        at = e.offset(pointer, first * align, inbounds=False)
        some, part = e.part(mask, first, size), e.part(value, first, size)
        e.line(f"call void @{name}({part}, ptr align {align} {at.ref}, {some}){metadata}")


def _scatter(ctx: Context, value: Reg, pointers: Reg, mask: Reg, align: int, metadata: str) -> None:
    e = ctx.emitter
    mask = e.splat(mask, value.lanes)
    size = _masked_lanes(ctx, value.lanes, 64)
    name = f"llvm.masked.scatter.v{size}{_mangled(value.type)}.v{size}p0"
    e.declare(f"void @{name}(<{size} x {value.type}>, <{size} x ptr>, <{size} x i1>)")
    for first in range(0, value.lanes, size):
        part, at, some = (e.part(x, first, size) for x in (value, pointers, mask))
        e.line(f"call void @{name}({part}, <{size} x ptr> align {align} {at.ref}, {some}){metadata}")


def _pointers(ctx: Context, pointer: Reg, offsets: Reg, width: int) -> Reg:
    e = ctx.emitter
    return e.inst(f"getelementptr [{width} x i8], {pointer}, {offsets}", "ptr", offsets.lanes)


def _mangled(type_: str) -> str:
    return {"float": "f32", "double": "f64", "ptr": "p0"}.get(type_, type_)


def loads_at(
    ctx: Context, value: Value, position: Position, kept: Value | None = None
) -> list[tuple[ops.Load, Position]]:
    """The loads that evaluating a tile at a position reads through lanewise operations and views, each with its position.

    Not those behind tiles in buffers, except behind `kept`."""
    if value in ctx.scalars or (value in ctx.buffers and value is not kept) or value.type.rank == 0:
        return []
    match ctx.definitions.get(value):
        case ops.Load() as op:
            return [(op, position)]
        case ops.Cast(x=x) | ops.Unary(x=x):
            return loads_at(ctx, x, position)
        case ops.Binary(x=x, y=y):
            return loads_at(ctx, x, position) + loads_at(ctx, y, position)
        case ops.Broadcast(x=x):
            return loads_at(ctx, x, project(x, position))
        case ops.ExpandDims(x=x, axis=axis):
            return loads_at(ctx, x, position[:axis] + position[axis + 1 :])
        case ops.Transpose(x=x, permutation=permutation):
            source: list[Int | Lane] = [0] * len(position)
            for here, origin in enumerate(permutation):
                source[origin] = position[here]
            return loads_at(ctx, x, tuple(source))
    return []


_LINE = 64
_PLAIN = ((3072, 2),)
"""How far ahead plain elements are asked for, in bytes, and into which cache (2: the second, 3: the first). A core's second cache
waits for 48 lines at once; asking for more than those is slower (8 KB: 0.91 of this)."""
_PACKED = ((6144, 2), (1024, 3))
"""The same for packed blocks: between their loads is so much arithmetic that lines of the second cache, too, are asked for in time."""


def prefetch(ctx: Context, array: Array, place: Address, elements: int) -> None:
    """Asks for the memory some way after `place`, as much of it as so many elements take.

    The processor's own prefetch follows a stream of loads, but not across pages, nor while the loads of a block wait behind the
    arithmetic of those before: Q4_1 rows of 576 came at 5.8 GB/s without this, at 10 with it. Past the end of an array it does
    nothing."""
    e = ctx.emitter
    layout = array.dtype.layout
    each, size = (1, max(1, array.dtype.bits // 8)) if layout is None else (layout.elements, layout.bytes)
    start = e.offset(array.pointer, e.mul(e.udiv(place.base, each), size), inbounds=False)
    for line in range(-(-elements // each * size // _LINE)):
        prefetch_ahead(ctx, start, line, packed=layout is not None)


def prefetch_ahead(ctx: Context, start: Reg, line: int, *, packed: bool) -> None:
    """Asks for what lies some way ahead of line `line` from `start` on."""
    e = ctx.emitter
    e.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    for ahead, locality in _PACKED if packed else _PLAIN:
        at = e.offset(start, ahead + line * _LINE, inbounds=False)
        e.line(f"call void @llvm.prefetch.p0({at}, i32 0, i32 {locality}, i32 1)")


def prefetch_line(ctx: Context, place: Reg) -> None:
    """Asks for a line of memory, into the second cache."""
    ctx.emitter.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    ctx.emitter.line(f"call void @llvm.prefetch.p0({place}, i32 0, i32 2, i32 1)")


def prefetch_lanes(ctx: Context, load_: ops.Load, position: Position) -> None:
    """Asks for what a load will read at a position, if its lanes are neighbours."""
    e, array = ctx.emitter, ctx.arrays[load_.array]
    place, lanes = address(ctx, array, load_.index, position), lanes_of(position)
    if array.dtype.is_block or place.scattered is not None or place.stride != 1:
        return
    size = max(1, array.dtype.bits // 8)
    start = e.offset(array.pointer, e.mul(place.base, size), inbounds=False)
    for line in range(0, lanes * size, _LINE):
        prefetch_line(ctx, e.offset(start, line, inbounds=False))


def prefetch_following(ctx: Context, value: Value, position: Position, share: Share = WHOLE) -> None:
    """Asks for what the next program will read where this one computes `value`, if that comes next in memory: whole rows.

    Of each row only a share, spread over the positions of all of it."""
    e = ctx.emitter
    extent = shape_of(value)[-1]
    *outer, along = position or (0,)
    if not isinstance(along, Lane) or (share != WHOLE and extent % 8):
        return
    base = (
        along.base if share == WHOLE else e.add(share.first * extent // 8, e.mul(e.udiv(along.base, 8), share.eighths))
    )
    spread = (*outer, Lane(base, along.lanes, 1))
    for load_, where in loads_at(ctx, value, spread, kept=value):
        array, (*_, last) = ctx.arrays[load_.array], (0, *where)
        if array.dtype.is_block or len(array.strides) < 2 or not isinstance(last, Lane):
            continue
        place = address(ctx, array, load_.index, where)
        if place.scattered is None and place.stride == 1:
            size = max(1, array.dtype.bits // 8)
            start = e.offset(array.pointer, e.mul(place.base, size), inbounds=False)
            for line in range(0, max(1, along.lanes * size * share.eighths // 8), _LINE):
                prefetch_line(ctx, e.offset(start, size * shape_of(load_.result)[-1] + line, inbounds=False))


def prefetch_store(ctx: Context, op: ops.Store, position: Position, past_caches: Reg, instead: Reg) -> None:
    """Asks for the memory that a store will write at a position, to be written; if it will go `past_caches`, for `instead`.

    A store waits for its line to come from memory; where values are computed into scratch first, the lines can come meanwhile."""
    e, array = ctx.emitter, ctx.arrays[op.array]
    place, lanes = address(ctx, array, op.index, position), lanes_of(position)
    if place.scattered is not None or place.stride != 1 or not lanes:
        return
    size = max(1, array.dtype.bits // 8)
    start = e.offset(array.pointer, e.mul(place.base, size), inbounds=False)
    e.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    for line in range(0, lanes * size, _LINE):
        at = e.select(past_caches, instead, e.offset(start, line, inbounds=False))
        e.line(f"call void @llvm.prefetch.p0({at}, i32 1, i32 3, i32 1)")


def store(ctx: Context, op: ops.Store, position: Position, *, past_caches: bool = False) -> None:
    """Writes the elements of a store at a position; `past_caches`: whole vectors lie on lines and are to go to memory at once."""
    array = ctx.arrays[op.array]
    mask = mask_at(ctx, op.masks, position)
    if mask == FALSE:
        return
    value = _stored(ctx, op.value, array, position)
    place = address(ctx, array, op.index, position)
    lanes, align, metadata = lanes_of(position), 0, array.store_metadata
    if past_caches and mask == TRUE and place.stride == 1 and lanes * array.dtype.bits >= ctx.target.vector_bits:
        align, metadata = ctx.target.vector_bits // 8, metadata + ctx.past_caches
    write(ctx, array.pointer, array.dtype, place, mask, value, lanes, metadata, align)


def _stored(ctx: Context, value: Value, array: Array, position: Position) -> Reg:
    """Elements of a tile in the array's dtype; contract arrays hold `index` values in theirs."""
    return cast(ctx.emitter, ctx.value(value, position), value.type.dtype, array.dtype, ctx.target)


def write(
    ctx: Context, pointer: Reg, dtype: DType, place: Address, mask: Reg, value: Reg, lanes: int, metadata: str,
    align: int = 0,
) -> None:  # fmt: skip
    """Stores a register value of `dtype` at `place` where `mask` holds; `align`: of the address, if more than an element's."""
    e = ctx.emitter
    width = max(1, dtype.bits // 8)
    value = to_memory(e, value, dtype)
    if not lanes:

        def put() -> tuple[()]:
            e.store(value, e.offset(pointer, e.mul(place.base, width)), width, metadata)
            return ()

        e.if_else(mask, put)
        return
    value = e.splat(value, lanes)
    if place.scattered is None and place.stride == 1:
        target = e.offset(pointer, e.mul(place.base, width), inbounds=mask == TRUE)
        if mask == TRUE:
            e.store(value, target, align or width, metadata)
        else:
            _masked_store(ctx, value, target, mask, width, metadata)
        return
    offsets = place.scattered
    if offsets is None:
        offsets = ctx.index_register(Index(place.base, place.stride, lanes), lanes)
    _scatter(ctx, value, _pointers(ctx, pointer, offsets, width), mask, width, metadata)


def update(ctx: Context, op: ops.Update, position: Position) -> None:
    """Combines one element of an update into an `Acc` array, atomically: other programs may update it too."""
    e = ctx.emitter
    array = ctx.arrays[op.array]
    dtype = array.dtype
    value = _stored(ctx, op.value, array, position)
    place = address(ctx, array, op.index, position)

    def combine() -> tuple[()]:
        pointer = e.offset(array.pointer, e.mul(place.base, max(1, dtype.bits // 8)))
        if dtype.bits < 32 or (dtype.is_float and op.op is not UpdateOp.ADD):
            _compare_and_swap(ctx, op.op, dtype, pointer, value)
        else:
            e.line(f"atomicrmw {_atomic_name(op.op, dtype)} {pointer}, {value} monotonic")
        return ()

    e.if_else(mask_at(ctx, op.masks, position), combine)


def _atomic_name(op: UpdateOp, dtype: DType) -> str:
    if dtype.is_float:
        return "fadd"
    unsigned = "u" if dtype.kind is Kind.UNSIGNED else ""
    return {"max": f"{unsigned}max", "min": f"{unsigned}min"}.get(op.value, op.value)


def _compare_and_swap(ctx: Context, op: UpdateOp, dtype: DType, pointer: Reg, value: Reg) -> None:
    """An atomic update that the machine has no instruction for: recomputed until nobody came in between."""
    from zellige.backends.cpu.expression import binary_value

    e = ctx.emitter
    bits = f"i{max(8, dtype.bits)}"
    align = max(1, dtype.bits // 8)
    first = e.inst(f"load atomic {bits}, {pointer} monotonic, align {align}", bits)

    def attempt(carried: list[Reg]) -> list[Reg]:
        old = carried[0]
        current = e.convert("bitcast", old, register_type(dtype)) if dtype.is_float and dtype.bits >= 32 else old
        if dtype.is_bool:
            current = e.convert("trunc", old, "i1")
        result = to_memory(e, binary_value(ctx, ops.BinaryOp(op.value), current, value, dtype), dtype)
        new = result if result.type == bits else e.convert("bitcast", result, bits)
        pair = "{ " + bits + ", i1 }"
        swapped = e.inst(f"cmpxchg {pointer}, {old}, {new} monotonic monotonic", pair)
        seen = e.inst(f"extractvalue {swapped}, 0", bits)
        done = e.inst(f"extractvalue {swapped}, 1", "i1")
        return [seen, e.op("xor", done, TRUE)]

    e.while_loop([first, TRUE], lambda carried: carried[1], attempt)


def _place_in(ctx: Context, buffer: Buffer, position: Position) -> tuple[Int, int]:
    """The offset of a position's first element in a buffer, and how far apart its lanes are."""
    e = ctx.emitter
    base: Int = 0
    stride = 0
    for coordinate, step in zip(position, buffer.strides, strict=True):
        if isinstance(coordinate, Lane):
            base = e.add(base, e.mul(coordinate.base, step))
            stride = step
        else:
            base = e.add(base, e.mul(coordinate, step))
    return base, stride


def read_buffer(ctx: Context, buffer: Buffer, position: Position) -> Reg | Index:
    """Elements of a materialised tile."""
    e = ctx.emitter
    base, stride = _place_in(ctx, buffer, position)
    lanes = lanes_of(position)
    type_, width = memory_type(buffer.dtype), max(1, buffer.dtype.bits // 8)
    if lanes and stride != 1:
        offsets = ctx.index_register(Index(base, stride, lanes), lanes)
        pad = Reg("poison", type_, lanes)
        value = gather(ctx, buffer.pointer, offsets, type_, width, TRUE, pad, ctx.scratch_metadata)
    else:
        pointer = e.offset(buffer.pointer, e.mul(base, width))
        value = e.load(pointer, type_, lanes, _alignment(base, width), ctx.scratch_metadata)
    value = from_memory(e, value, buffer.dtype)
    if buffer.dtype.kind is Kind.INDEX and not lanes:
        return Index(value)
    return value


def write_buffer(ctx: Context, buffer: Buffer, position: Position, value: Reg | Index) -> None:
    """Stores elements of a tile into its buffer."""
    e = ctx.emitter
    lanes = lanes_of(position)
    if isinstance(value, Index):
        value = ctx.index_register(value, lanes) if lanes else e.i64(value.base)
    base, stride = _place_in(ctx, buffer, position)
    write(ctx, buffer.pointer, buffer.dtype, Address(base, stride, None), TRUE, value, lanes, ctx.scratch_metadata)


def _alignment(base: Int, width: int) -> int:
    return math.gcd(64, base * width) if isinstance(base, int) and base else 64 if base == 0 else width
