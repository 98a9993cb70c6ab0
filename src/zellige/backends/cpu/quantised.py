"""Block-quantised elements unpacked to f32 in registers, as `ir.block_layout` describes each format.

Lanes whose place in their block is known when the code is written are unpacked as vectors: bytes that lie side by side are
one load, shifts and masks are constants. Any others are found one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zellige.backends.cpu.context import Array, Context, Index, Lane, Position, pieces, project
from zellige.backends.cpu.convert import cast, literal, widen
from zellige.backends.cpu.emit import FALSE, TRUE, Int, Reg, float_literal
from zellige.backends.cpu.memory import gather, loads_at, mask_at, zeros
from zellige.backends.cpu.plan import shape_of
from zellige.ir import dtypes, ops
from zellige.ir.block_layout import BlockLayout, Integers, Plane
from zellige.ir.dtypes import DType
from zellige.ir.ops import Value


def unpack(ctx: Context, value: Value, position: Position, to: DType = dtypes.f32) -> Reg:
    """Elements of a block-quantised load as f32, or rounded to another type."""
    e = ctx.emitter
    op = ctx.definitions[value]
    while isinstance(op, ops.Broadcast | ops.ExpandDims | ops.Transpose | ops.Reshape):
        value, position = _through_view(op, position)
        op = ctx.definitions[value]
    if not isinstance(op, ops.Load):
        raise AssertionError(f"a block-quantised tile comes from {type(op).__name__}")
    array = ctx.arrays[op.array]
    layout = _layout(array)
    mask = mask_at(ctx, op.masks, position)
    if mask == FALSE:
        return literal(op.pad, to, ctx.target)
    places = [ctx.index(v, project(v, position)) for v in op.index]
    lanes = max((p.lanes for p in places), default=0)
    *outer, last = places
    ready = ctx.scales.get((value, _row_of(position)))
    if (
        lanes
        and not mask.lanes
        and isinstance(last, Index)
        and last.stride == 1
        and all(isinstance(p, Index) and p.stride == 0 for p in outer)
    ):
        first = last.position_in(layout.elements)
        if first is not None and (first + lanes <= layout.elements or first == 0 == lanes % layout.elements):
            scales = None if ready is None or mask != TRUE else _scales_at(ctx, ready, layout, position)
            values = _together(ctx, array, outer, last.base, first, mask, lanes, scales, to)
            return values if mask == TRUE else e.select(mask, values, e.splat(literal(op.pad, to, ctx.target), lanes))
    if not lanes:
        found = _element(ctx, array, [_scalar(ctx, p, 0) for p in places], mask, op.pad)
        return cast(e, found, dtypes.f32, to, ctx.target)
    parts = []
    for lane in range(lanes):
        chosen = e.extract(mask, lane) if mask.lanes else mask
        parts.append(_element(ctx, array, [_scalar(ctx, p, lane) for p in places], chosen, op.pad))
    return cast(e, e.from_lanes(parts), dtypes.f32, to, ctx.target)


def _layout(array: Array) -> BlockLayout:
    layout = array.dtype.layout
    if layout is None:
        raise AssertionError(f"{array.dtype} has no block layout")
    return layout


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


def block_start(ctx: Context, array: Array, outer: list[Int], block: Int, mask: Reg) -> Reg:
    """The first byte of block number `block` of the row that the outer indices choose; of zeros where `mask` is false."""
    e = ctx.emitter
    layout = _layout(array)
    offset = e.mul(block, layout.bytes)
    for place, stride in zip(outer, array.strides[:-1], strict=True):
        offset = e.add(offset, e.mul(place, e.mul(e.udiv(stride, layout.elements), layout.bytes)))
    start = e.offset(array.pointer, offset, inbounds=mask == TRUE)
    return start if mask == TRUE else e.select(mask, start, zeros(ctx))


# --- scales of a whole row, converted together


LONG_ROW = 256
"""Elements of a row from which on that pays, and from which on rows are taken to come from memory."""
_GATHERED = 8
"""Blocks whose scales are read and converted at once."""


def prepare_scales(ctx: Context, value: Value, position: Position) -> None:
    """Converts the scales and minima of all blocks of a row that evaluating `value` along it will read.

    `position` is at the row's start. Otherwise each block converts its own, half of the work of a block with short codes:
    in registers they are spread by shuffles, of which a core does one a cycle; from memory, a broadcast is a load."""
    e = ctx.emitter
    for op, place in loads_at(ctx, value, position):
        load = op.result
        if not load.type.dtype.is_block:
            continue
        array = ctx.arrays[op.array]
        layout = _layout(array)
        *rows, along = place
        if _numbers(layout) == 1 or mask_at(ctx, op.masks, place) != TRUE:
            continue
        if not isinstance(along, Lane) or along.base != 0 or any(isinstance(row, Lane) for row in rows):
            continue
        *outer, last = [ctx.index(v, project(v, place)) for v in op.index]
        if not isinstance(last, Index) or last.stride != 1 or last.position_in(layout.elements) != 0:
            continue
        if not all(isinstance(p, Index) and p.stride == 0 for p in outer):
            continue
        count = shape_of(load)[-1] // layout.elements
        if count * layout.elements != shape_of(load)[-1]:
            continue
        start = block_start(ctx, array, [_scalar(ctx, p, 0) for p in outer], e.udiv(last.base, layout.elements), TRUE)
        ctx.scales[load, _row_of(place)] = _converted(ctx, layout, start, count, array.load_metadata)


def _numbers(layout: BlockLayout) -> int:
    """How many scales and minima a block has, one of each for every group."""
    return max(1, layout.groups) * (1 if layout.minimum is None else 2)


def _converted(ctx: Context, layout: BlockLayout, start: Reg, count: int, metadata: str) -> Reg:
    """The address of the scales and then the minima of each of `count` blocks from `start`, as f32."""
    e = ctx.emitter
    room = ctx.scratch(4 * _numbers(layout) * count)
    for lower, upper, lanes in pieces(count, 1 if layout.group else _GATHERED):

        def some(first: Int, _: list[Reg], lanes: int = lanes) -> tuple[()]:
            if layout.group:
                block = Block(ctx, layout, e.offset(start, e.mul(first, layout.bytes)), metadata, None)
                at = e.offset(room, e.mul(first, 4 * _numbers(layout)))
                for i, numbers in enumerate(block.by_group()):
                    e.store(numbers, e.offset(at, 4 * i * layout.groups), 4, ctx.scratch_metadata)
            else:
                _convert(ctx, layout, start, room, first, lanes, metadata)
            return ()

        e.loop(lower, upper, lanes, (), some)
    # through an assembler statement that does nothing, so that LLVM keeps the way through memory
    return e.inst(f'call ptr asm "", "=r,0"({room})', "ptr")


def scale_words(ctx: Context, layout: BlockLayout, start: Reg, first: Int, lanes: int, metadata: str) -> Reg:
    """Of blocks first … first + lanes − 1: 32 bits from the scale on, in which it is followed by the minimum, if there is one."""
    e = ctx.emitter
    at = e.offset(e.offset(start, layout.scale), e.mul(first, layout.bytes))
    if lanes == 1:
        return e.from_lanes([e.load(at, "i32", 0, 2, metadata)])
    places = ", ".join(f"i64 {i * layout.bytes}" for i in range(lanes))
    return gather(ctx, at, Reg(f"<{places}>", "i64", lanes), "i32", 1, TRUE, Reg("poison", "i32", lanes), metadata)


def _convert(ctx: Context, layout: BlockLayout, start: Reg, room: Reg, first: Int, lanes: int, metadata: str) -> None:
    """Scales (and minima) of blocks first … first + lanes − 1."""
    e = ctx.emitter
    found = scale_words(ctx, layout, start, first, lanes, metadata)
    halves = e.inst(f"bitcast {found} to <{2 * lanes} x i16>", "i16", 2 * lanes)
    wide = widen(e, halves, dtypes.f16, ctx.target)
    e.store(wide, e.offset(room, e.mul(first, 8)), 4, ctx.scratch_metadata)


def _row_of(position: Position) -> Position:
    return position[:-1]


def _scales_at(ctx: Context, ready: Reg, layout: BlockLayout, position: Position) -> Reg:
    """Where the scales of the blocks at a position are."""
    e = ctx.emitter
    along = position[-1]
    base = along.base if isinstance(along, Lane) else along
    first = along.position_in(layout.elements) if isinstance(along, Lane) else None
    block = e.udiv(base if first is None else e.sub(base, first), layout.elements)
    return e.offset(ready, e.mul(block, 4 * _numbers(layout)))


# --- lanes whose place in the block is known


def _together(
    ctx: Context, array: Array, outer: list[Index | Reg], base: Int, first: int, mask: Reg, lanes: int,
    scales: Reg | None, to: DType,
) -> Reg:  # fmt: skip
    """`lanes` elements from index `base`, which is element `first` of its block: part of a block, or whole blocks.

    `scales` is the address of the blocks' scales and minima as f32, if they have been converted already."""
    e = ctx.emitter
    layout = _layout(array)
    block = e.udiv(e.sub(base, first), layout.elements)
    row = [_scalar(ctx, p, 0) for p in outer]
    size = min(lanes, layout.elements)
    parts = []
    for number in range(lanes // size):
        start = block_start(ctx, array, row, e.add(block, number), mask)
        ready = None if scales is None else e.offset(scales, 4 * _numbers(layout) * number)
        found = Block(ctx, layout, start, array.load_metadata, ready)
        if to is dtypes.bf16 and found.in_words(first, size):
            parts.append(found.words(first))
        else:
            parts.append(_narrowed(ctx, found.elements(first, size), to))
    return e.concatenate(parts)


def _narrowed(ctx: Context, x: Reg, to: DType) -> Reg:
    """Elements of blocks, or values of codes, in another dtype.

    They are sums of products of integers and f16 numbers, so multiples of 2⁻²⁴: none is subnormal, and AVX-512's instruction,
    which takes such numbers for 0, may be used."""
    e = ctx.emitter
    if to is dtypes.bf16 and ctx.target.bf16_dot and x.lanes:
        return e.convert("bitcast", e.convert("fptrunc", x, "bfloat"), "i16")
    return cast(e, x, dtypes.f32, to, ctx.target)


@dataclass(frozen=True, slots=True)
class Block:
    """A block at `start`. What its parts have in common (scale, factors) is written for each, and found equal by LLVM."""

    ctx: Context
    layout: BlockLayout
    start: Reg
    metadata: str
    scales: Reg | None
    """Where its scale (and minimum) are as f32, if they have been converted already."""

    def elements(self, first: int, lanes: int) -> Reg:
        """Elements first … first + lanes − 1 as f32."""
        e, layout = self.ctx.emitter, self.layout
        scale, low = self._affine(first, lanes)
        if self._looked_up(first, lanes):
            halves = range(0, lanes, 16)
            return e.concatenate(
                [self._by_table(first + i, e.part(scale, i, 16), low and e.part(low, i, 16)) for i in halves]
            )
        codes = self._integers(layout.codes, first, lanes, "i8")
        signed = layout.codes.signed or layout.codes.zero > 0
        wide = e.convert("sext" if signed else "zext", codes, "i32")
        scaled = e.fop("fmul", e.convert("sitofp", wide, "float"), scale)
        return scaled if low is None else e.fop("fadd", scaled, low)

    # --- integers
    def _integers(self, integers: Integers, first: int, lanes: int, type_: str) -> Reg:
        """Packed integers first … first + lanes − 1, in lanes of `type_` (i8 or i32)."""
        e = self.ctx.emitter
        total: Reg | None = None
        place = 0
        for plane in integers.planes:
            bits = self._plane(plane, first, lanes, type_, place)
            total = bits if total is None else e.op("or", total, bits)
            place += plane.bits
        assert total is not None
        if integers.signed and type_ != "i8":
            total = e.convert("sext", e.convert("trunc", total, "i8"), type_)
        return e.op("sub", total, e.splat(Reg(str(integers.zero), type_), lanes)) if integers.zero else total

    def _plane(self, plane: Plane, first: int, lanes: int, type_: str, place: int) -> Reg:
        """The bits of one plane, moved to bit `place`."""
        e = self.ctx.emitter
        if plane.bits == 1:
            one = e.splat(Reg(str(1 << place), type_), lanes)
            return e.select(self.bits(plane, range(first, first + lanes)), one, e.splat(Reg("0", type_), lanes))
        bytes_, shifts = zip(*(plane.place(i) for i in range(first, first + lanes)), strict=True)
        raw = self.bytes_at(list(bytes_))
        if type_ != "i8":
            raw = e.convert("zext", raw, type_)
        if any(shifts):
            raw = e.op("lshr", raw, _constants(shifts, type_))
        if type_ != "i8" or any(shift + plane.bits < 8 for shift in shifts):
            raw = e.op("and", raw, e.splat(Reg(str((1 << plane.bits) - 1), type_), lanes))
        return e.op("shl", raw, e.splat(Reg(str(place), type_), lanes)) if place else raw

    def bits(self, plane: Plane, elements: Sequence[int]) -> Reg:
        """Whether the single bit of each of some integers is set."""
        e, lanes = self.ctx.emitter, len(elements)
        bytes_, shifts = zip(*(plane.place(i) for i in elements), strict=True)
        if [8 * byte + shift for byte, shift in zip(bytes_, shifts, strict=True)] == list(
            range(8 * bytes_[0], 8 * bytes_[0] + lanes)
        ):  # one after the other, as a mask register has them
            bits = e.load(e.offset(self.start, bytes_[0]), f"i{lanes}", 0, 1, self.metadata)
            return e.inst(f"bitcast {bits} to <{lanes} x i1>", "i1", lanes)
        wanted = e.op("and", self.bytes_at(list(bytes_)), _constants([1 << shift for shift in shifts], "i8"))
        return e.compare("icmp", "ne", wanted, e.splat(Reg("0", "i8"), lanes))

    def bytes_at(self, wanted: list[int]) -> Reg:
        """The given bytes of the block, one a lane: one load of the range that they are from."""
        e = self.ctx.emitter
        low, count = min(wanted), len(wanted)
        if wanted == list(range(low, low + count)):
            return e.load(e.offset(self.start, low), "i8", count, 1, self.metadata)
        size = 1 << (max(wanted) - low).bit_length()
        low = max(0, min(low, self.layout.bytes - size))
        raw = e.load(e.offset(self.start, low), "i8", size, 1, self.metadata)
        return e.shuffle(raw, None, [byte - low for byte in wanted])

    # --- scales
    def _affine(self, first: int, lanes: int) -> tuple[Reg, Reg | None]:
        """What multiplies each of some elements' codes, and what is then added, if anything."""
        e, layout = self.ctx.emitter, self.layout
        if not layout.group:
            halves = self._halves()
            return e.shuffle(halves[0], None, [0] * lanes), halves[1] and e.shuffle(halves[1], None, [0] * lanes)
        if self.scales is not None:
            wanted = range(first // layout.group, (first + lanes - 1) // layout.group + 1)
            each = lanes // len(wanted)
            spread = [
                e.concatenate(
                    [e.splat(e.load(e.offset(self.scales, 4 * (kind + g)), "float", 0, 4), each) for g in wanted]
                )
                for kind in range(0, _numbers(layout), layout.groups)
            ]
        else:
            place = [i // layout.group for i in range(first, first + lanes)]
            spread = [e.shuffle(numbers, None, place) for numbers in self.by_group()]
        return spread[0], spread[1] if len(spread) > 1 else None

    def by_group(self) -> list[Reg]:
        """The scale of each group, and what is added to each group if anything is."""
        e, layout = self.ctx.emitter, self.layout
        found = []
        for one, factors in zip(self._halves(), (layout.factors, layout.lows), strict=True):
            if one is not None and factors is not None:
                numbers = e.convert("sitofp", self._integers(factors, 0, layout.groups, "i32"), "float")
                found.append(e.fop("fmul", e.part(one, 0, layout.groups), numbers))
        if layout.minimum_sign < 0:
            found[1] = e.inst(f"fneg {found[1]}", "float", layout.groups)
        return found

    def _halves(self) -> tuple[Reg, Reg | None]:
        """The block's scale, and its minimum if it has one, as f32 in all of 16 lanes.

        Broadcast first, converted afterwards: a scalar conversion would leave the upper lanes of its register, and a
        false dependence on whatever was there.
        """
        e, layout = self.ctx.emitter, self.layout
        if self.scales is not None:
            found = [e.splat(e.load(e.offset(self.scales, 4 * i), "float", 0, 4), 16) for i in range(2)]
            return found[0], found[1]
        at = e.offset(self.start, layout.scale)
        if layout.minimum is None:
            bits = e.splat(e.load(at, "i16", 0, 2, self.metadata), 16)
            return widen(e, bits, dtypes.f16, self.ctx.target), None
        if layout.minimum != layout.scale + 2:
            raise AssertionError("a block's minimum follows its scale")
        pairs = e.splat(e.load(at, "i32", 0, 2, self.metadata), 8)  # scale, minimum, scale, …
        both = widen(e, e.inst(f"bitcast {pairs} to <16 x i16>", "i16", 16), dtypes.f16, self.ctx.target)
        return tuple(e.shuffle(both, None, [i & ~1 | odd for i in range(16)]) for odd in (0, 1))  # type: ignore[return-value]

    # --- short codes by table
    def _looked_up(self, first: int, lanes: int) -> bool:
        """True if 16 elements at a time share scale and low, and have codes whose lowest 4 bits can index a permutation."""
        layout = self.layout
        return (
            self.ctx.target.vector_bits == 512
            and lanes % 16 == 0
            and layout.codes.planes[0].bits == 4
            and all((plane.bits, plane.run) == (1, 1) for plane in layout.codes.planes[1:])
            and layout.codes.planes[0].run % 16 == 0
            and first % 16 == 0
            and layout.group % 16 == 0
        )

    def _by_table(self, first: int, scale: Reg, low: Reg | None) -> Reg:
        """16 elements, looked up among the 16 values that 4 bits can mean; the permutation reads the low 4 bits of an index.

        A fifth bit chooses between two tables: to add 16 steps to what was found would round twice."""
        e, codes = self.ctx.emitter, self.layout.codes
        byte, shift = codes.planes[0].place(first)
        index = e.convert("zext", e.load(e.offset(self.start, byte), "i8", 16, 1, self.metadata), "i32")
        if shift:
            index = e.op("lshr", index, e.splat(Reg(str(shift), "i32"), 16))
        found = [
            e.call("llvm.x86.avx512.permvar.sf.512", "float", 16, self._table(scale, low, begin), index)
            for begin in range(0, 16 * len(codes.planes), 16)
        ]
        if len(found) == 1:
            return found[0]
        return e.select(self.bits(codes.planes[1], range(first, first + 16)), found[1], found[0])

    def _table(self, scale: Reg, low: Reg | None, begin: int = 0) -> Reg:
        """The values that 16 codes can mean, from one on."""
        e, zero = self.ctx.emitter, self.layout.codes.zero
        steps = ", ".join(f"float {float_literal(i - zero, 'float').ref}" for i in range(begin, begin + 16))
        table = e.fop("fmul", Reg(f"<{steps}>", "float", 16), scale)
        return table if low is None else e.fop("fadd", table, low)

    def in_words(self, first: int, lanes: int) -> bool:
        """True if ``words`` gives these elements: 32 with one scale, whose codes are in 16 bytes."""
        planes = self.layout.codes.planes
        if lanes != 32 or len(planes) > 1 or self.layout.group or not self.ctx.target.bf16_dot:
            return False
        plane = planes[0]
        if not self._looked_up(first, lanes):
            return False
        return plane.place(first)[0] == plane.place(first + 16)[0]

    def words(self, first: int) -> Reg:
        """32 elements as bf16: the values that a code can mean are rounded, and one permutation looks up all elements.

        It reads 5 bits of an index; the fifth is another code's, so both halves of the table are the same."""
        e, plane = self.ctx.emitter, self.layout.codes.planes[0]
        scale, low = self._affine(first, 16)
        table = _narrowed(self.ctx, self._table(scale, low), dtypes.bf16)
        raw = e.load(e.offset(self.start, plane.place(first)[0]), "i8", 16, 1, self.metadata)
        index = e.convert("zext", e.shuffle(raw, None, [*range(16), *range(16)]), "i16")
        shifts = [plane.place(first + i)[1] for i in range(32)]
        index = e.op("lshr", index, _constants(shifts, "i16"))
        twice = e.shuffle(table, None, [*range(16), *range(16)])
        return e.call("llvm.x86.avx512.permvar.hi.512", "i16", 32, twice, index)


def _constants(values: list[int] | tuple[int, ...], type_: str) -> Reg:
    if len(set(values)) == 1:
        return Reg(f"splat ({type_} {_wrapped(values[0], type_)})", type_, len(values))
    return Reg("<" + ", ".join(f"{type_} {_wrapped(v, type_)}" for v in values) + ">", type_, len(values))


def _wrapped(value: int, type_: str) -> int:
    return value - 256 if type_ == "i8" and value > 127 else value


# --- one element, wherever it is in its block


def _element(ctx: Context, array: Array, places: list[Int], mask: Reg, pad: float) -> Reg:
    e = ctx.emitter
    layout = _layout(array)
    *outer, last = places
    start = block_start(ctx, array, outer, e.udiv(last, layout.elements), mask)
    inside = e.urem(last, layout.elements)

    def half(offset: int) -> Reg:
        return widen(e, e.load(e.offset(start, offset), "i16", 0, 2, array.load_metadata), dtypes.f16, ctx.target)

    def integer(integers: Integers, i: Int) -> Reg:
        return _integer(ctx, integers, start, i, array.load_metadata)

    group = e.udiv(inside, layout.group) if layout.group else 0
    scale = half(layout.scale)
    if layout.factors is not None:
        scale = e.fop("fmul", scale, integer(layout.factors, group))
    value = e.fop("fmul", integer(layout.codes, inside), scale)
    if layout.minimum is not None:
        low = half(layout.minimum)
        if layout.lows is not None:
            low = e.fop("fmul", low, integer(layout.lows, group))
        value = e.fop("fadd" if layout.minimum_sign > 0 else "fsub", value, low)
    return e.select(mask, value, float_literal(pad, "float"))


def _integer(ctx: Context, integers: Integers, start: Reg, i: Int, metadata: str) -> Reg:
    """Packed integer number `i` of a block as f32."""
    e = ctx.emitter
    total: Int = 0
    place = 0
    for plane in integers.planes:
        turn = e.urem(e.udiv(i, plane.run), plane.turns)
        step = e.mul(e.udiv(i, plane.run * plane.turns), plane.run)
        byte = e.add(e.add(plane.offset, step), e.add(e.mul(turn, plane.byte_turn), e.urem(i, plane.run)))
        raw = e.convert("zext", e.load(e.offset(start, byte), "i8", 0, 1, metadata), "i64")
        bits = e.op("lshr", raw, e.i64(e.add(plane.shift, e.mul(turn, plane.shift_turn))))
        bits = e.op("and", bits, Reg(str((1 << plane.bits) - 1), "i64"))
        total = e.add(total, e.op("shl", bits, Reg(str(place), "i64")) if place else bits)
        place += plane.bits
    found = e.i64(total)
    if integers.signed:
        found = e.convert("sext", e.convert("trunc", found, "i8"), "i64")
    return e.convert("sitofp", e.convert("trunc", e.i64(e.sub(found, integers.zero)), "i32"), "float")
