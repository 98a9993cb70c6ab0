"""Block-quantised elements (GGML's Q8_0, Q4_0, Q4_1) unpacked to f32 in registers."""

from __future__ import annotations

from dataclasses import dataclass

from zellige.backends.cpu.context import Array, Context, Index, Position, project
from zellige.backends.cpu.convert import widen
from zellige.backends.cpu.emit import FALSE, TRUE, Int, Reg, float_literal
from zellige.backends.cpu.memory import mask_at, zeros
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType
from zellige.ir.ops import Value


@dataclass(frozen=True, slots=True)
class _Format:
    """Block layout: bytes of a block, where its codes begin, nibbles or bytes, offset taken off, minimum added."""

    bytes: int
    codes: int
    nibbles: bool
    zero: int
    minimum: bool


_FORMATS: dict[DType, _Format] = {
    dtypes.Q8_0: _Format(34, 2, nibbles=False, zero=0, minimum=False),
    dtypes.Q4_0: _Format(18, 2, nibbles=True, zero=8, minimum=False),
    dtypes.Q4_1: _Format(20, 4, nibbles=True, zero=0, minimum=True),
}


def unpack(ctx: Context, value: Value, position: Position) -> Reg:
    """Elements of a block-quantised load as f32.

    Lanes that are whole blocks of the last array axis are unpacked together; any others one by one.
    """
    e = ctx.emitter
    op = ctx.definitions[value]
    while isinstance(op, ops.Broadcast | ops.ExpandDims | ops.Transpose | ops.Reshape):
        value, position = _through_view(op, position)
        op = ctx.definitions[value]
    if not isinstance(op, ops.Load):
        raise AssertionError(f"a block-quantised tile comes from {type(op).__name__}")
    array = ctx.arrays[op.array]
    mask = mask_at(ctx, op.masks, position)
    if mask == FALSE:
        return float_literal(op.pad, "float")
    places = [ctx.index(v, project(v, position)) for v in op.index]
    lanes = max((p.lanes for p in places), default=0)
    *outer, last = places
    if (
        lanes
        and lanes % 32 == 0
        and not mask.lanes
        and isinstance(last, Index)
        and last.stride == 1
        and last.multiple % 32 == 0
        and all(isinstance(p, Index) and p.stride == 0 for p in outer)
    ):
        return _whole_blocks(ctx, array, outer, last, mask, op.pad, lanes)
    if not lanes:
        return _element(ctx, array, [_scalar(ctx, p, 0) for p in places], mask, op.pad)
    values = []
    for lane in range(lanes):
        chosen = e.extract(mask, lane) if mask.lanes else mask
        values.append(_element(ctx, array, [_scalar(ctx, p, lane) for p in places], chosen, op.pad))
    return e.from_lanes(values)


def _through_view(op: ops.Op, position: Position) -> tuple[Value, Position]:
    match op:
        case ops.Broadcast(x=x):
            return x, project(x, position)
        case ops.ExpandDims(x=x, axis=axis):
            return x, position[:axis] + position[axis + 1 :]
        case ops.Transpose(x=x, permutation=permutation):
            source = list(position)
            for axis, origin in enumerate(permutation):
                source[origin] = position[axis]
            return x, tuple(source)
    raise AssertionError("a block-quantised tile can only be cast")


def _scalar(ctx: Context, place: Index | Reg, lane: int) -> Int:
    e = ctx.emitter
    if isinstance(place, Reg):
        return e.extract(place, lane)
    return e.add(place.base, e.mul(place.stride, lane))


def _row(ctx: Context, array: Array, form: _Format, outer: list[Int]) -> Int:
    """Bytes from the array's start to the row that the outer indices choose."""
    e = ctx.emitter
    offset: Int = 0
    for place, stride in zip(outer, array.strides[:-1], strict=True):
        offset = e.add(offset, e.mul(place, e.mul(e.udiv(stride, 32), form.bytes)))
    return offset


def _whole_blocks(
    ctx: Context, array: Array, outer: list[Index | Reg], last: Index, mask: Reg, pad: float, lanes: int
) -> Reg:
    e = ctx.emitter
    form = _FORMATS[array.dtype]
    row = _row(ctx, array, form, [_scalar(ctx, p, 0) for p in outer])
    first = e.add(row, e.mul(e.udiv(last.base, 32), form.bytes))
    pointer = e.offset(array.pointer, first)
    blocks = []
    for block in range(lanes // 32):
        start = e.offset(pointer, block * form.bytes)
        if mask != TRUE:
            start = e.select(mask, start, zeros(ctx))
        blocks.append(_block(ctx, form, start, array.load_metadata))
    values = e.concatenate(blocks)
    if mask != TRUE:
        values = e.select(mask, values, e.splat(float_literal(pad, "float"), lanes))
    return values


def _block(ctx: Context, form: _Format, start: Reg, metadata: str) -> Reg:
    """The 32 elements of one block."""
    e = ctx.emitter
    scale, minimum = _scales(ctx, form, start, metadata)
    codes_at = e.offset(start, form.codes)
    if form.nibbles and ctx.target.vector_bits == 512:
        return _nibbles_by_table(ctx, form, codes_at, scale, minimum, metadata)
    if form.nibbles:
        packed = e.load(codes_at, "i8", 16, 1, metadata)
        low = e.op("and", packed, e.splat(Reg("15", "i8"), 16))
        high = e.op("lshr", packed, e.splat(Reg("4", "i8"), 16))
        codes = e.concatenate([_to_float(ctx, part, signed=False) for part in (low, high)])
    else:
        codes = _to_float(ctx, e.load(codes_at, "i8", 32, 1, metadata), signed=True)
    if form.zero:
        codes = e.fop("fsub", codes, e.splat(float_literal(form.zero, "float"), 32))
    scaled = e.fop("fmul", codes, scale)
    return e.fop("fadd", scaled, minimum) if minimum is not None else scaled


def _nibbles_by_table(
    ctx: Context, form: _Format, codes_at: Reg, scale: Reg, minimum: Reg | None, metadata: str
) -> Reg:
    """Looks each nibble up among the block's 16 values; the permute instruction reads only the low 4 bits of an index."""
    e = ctx.emitter
    first = range(16)
    scale = e.shuffle(scale, None, first)
    steps = ", ".join(f"float {float_literal(i - form.zero, 'float').ref}" for i in range(16))
    table = e.fop("fmul", Reg(f"<{steps}>", "float", 16), scale)
    if minimum is not None:
        table = e.fop("fadd", table, e.shuffle(minimum, None, first))
    bytes_ = e.convert("zext", e.load(codes_at, "i8", 16, 1, metadata), "i32")
    high = e.op("lshr", bytes_, e.splat(Reg("4", "i32"), 16))
    return e.concatenate([e.call("llvm.x86.avx512.permvar.sf.512", "float", 16, table, i) for i in (bytes_, high)])


def _to_float(ctx: Context, codes: Reg, *, signed: bool) -> Reg:
    e = ctx.emitter
    wide = e.convert("sext" if signed else "zext", codes, "i32")
    return e.convert("sitofp", wide, "float")


def _scales(ctx: Context, form: _Format, start: Reg, metadata: str) -> tuple[Reg, Reg | None]:
    """The block's scale, and its minimum if it has one, in all 32 lanes.

    Broadcast first, converted afterwards: a scalar conversion would leave the upper lanes of its register, and a false
    dependence on whatever was there.
    """
    e = ctx.emitter
    half = 16
    if not form.minimum:
        bits = e.splat(e.load(start, "i16", 0, 2, metadata), half)
        scale = widen(e, bits, dtypes.f16, ctx.target)
        return e.concatenate([scale, scale]), None
    pairs = e.splat(e.load(start, "i32", 0, 2, metadata), half // 2)  # scale, minimum, scale, …
    both = widen(e, e.inst(f"bitcast {pairs} to <{half} x i16>", "i16", half), dtypes.f16, ctx.target)
    scale = e.shuffle(both, None, [i & ~1 for i in range(half)])
    minimum = e.shuffle(both, None, [i | 1 for i in range(half)])
    return e.concatenate([scale, scale]), e.concatenate([minimum, minimum])


def _element(ctx: Context, array: Array, places: list[Int], mask: Reg, pad: float) -> Reg:
    """One element, wherever it is in its block."""
    e = ctx.emitter
    form = _FORMATS[array.dtype]
    *outer, last = places
    row = _row(ctx, array, form, outer)
    start = e.offset(array.pointer, e.add(row, e.mul(e.udiv(last, 32), form.bytes)))
    if mask != TRUE:
        start = e.select(mask, start, zeros(ctx))
    inside = e.i64(e.urem(last, 32))
    scale = widen(e, e.load(start, "i16", 0, 2, array.load_metadata), dtypes.f16, ctx.target)
    codes_at = e.offset(start, form.codes)
    if form.nibbles:
        byte = e.load(e.offset(codes_at, e.urem(inside, 16)), "i8", 0, 1, array.load_metadata)
        shift = e.convert("trunc", e.op("lshr", inside, Reg("2", "i64")), "i8")  # 0 … 3 below 16, 4 … 7 above
        shift = e.op("and", shift, Reg("4", "i8"))
        code = e.op("and", e.op("lshr", byte, shift), Reg("15", "i8"))
        value = e.convert("uitofp", code, "float")
    else:
        value = e.convert("sitofp", e.load(e.offset(codes_at, inside), "i8", 0, 1, array.load_metadata), "float")
    if form.zero:
        value = e.fop("fsub", value, float_literal(form.zero, "float"))
    value = e.fop("fmul", value, scale)
    if form.minimum:
        at_minimum = e.load(e.offset(start, 2), "i16", 0, 2, array.load_metadata)
        value = e.fop("fadd", value, widen(e, at_minimum, dtypes.f16, ctx.target))
    return e.select(mask, value, float_literal(pad, "float"))
