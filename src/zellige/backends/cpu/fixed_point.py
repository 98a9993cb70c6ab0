"""Products of block-quantised rows with one vector, in whole numbers: sum(w[n, :] · x) for many n.

A weight is scale · code + low, and codes are small integers. So x, once for all rows, becomes integers of 24 bits with a scale for
each 32 elements, split into three signed bytes each; byte products (AVX-512 VNNI: 64 at once) add up exactly, and scales are
applied to sums of 8 or 4 products instead of every weight. Rounding x costs at most 2⁻²⁴ of the largest |x| of its 32 neighbours
(2⁻²³ for 8-bit codes), what f32 sums lose, too (measured in tests/backends/cpu/test_fixed_point.py). The idea is Ozaki's splitting of
products into exact ones (Ozaki, Ogita, Oishi, Rump, 2012).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from zellige.backends.cpu.context import Buffer, Context, lane_at, pieces
from zellige.backends.cpu.convert import widen
from zellige.backends.cpu.emit import Int, Reg, float_literal
from zellige.backends.cpu.memory import mask_at, prefetch_ahead
from zellige.backends.cpu.microkernels import sum_each
from zellige.backends.cpu.plan import product_with_vector, shape_of
from zellige.backends.cpu.quantised import LONG_ROW, Block, block_start, scale_words
from zellige.backends.cpu.target import ByteDot
from zellige.diagnostics.errors import InternalError
from zellige.ir import dtypes, ops
from zellige.ir.block_layout import BlockLayout
from zellige.ir.ops import Value

_UNIT = 32
"""Elements of x that share a scale."""
_LANES = 16
_MOST = 127 * 65536 + 127 * 256 + 127
"""The largest number of three signed bytes."""
_SMALLEST = 1e-38
"""The least step of x: smaller ones and their reciprocals are no normal numbers."""
_ACCUMULATORS = 2


@dataclass(frozen=True, slots=True)
class Chunk:
    """Weights that are multiplied together: `vectors` lists, lane by lane, which elements (from the chunk's start) stand in
    each register of codes. Four neighbouring lanes belong to one group, the same in all registers."""

    elements: int
    vectors: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Region:
    """`count` chunks of a kind from element `first` on; their part of the vector is at byte `offset`, `record` bytes each."""

    chunk: Chunk
    first: int
    count: int
    offset: int
    record: int


@dataclass(frozen=True)
class Arrangement:
    """How a row of `extent` elements of a layout is taken apart."""

    layout: BlockLayout
    extent: int

    @property
    def group(self) -> int:
        """Elements that share a scale."""
        return self.layout.group or self.layout.elements

    @property
    def zero(self) -> int:
        """What is taken off a code, which is read as a number of 0 or more."""
        return 128 if self.layout.codes.signed else self.layout.codes.zero

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        found: list[Region] = []
        first = offset = 0
        for chunk in self._chunks():
            count = (self.extent - first) // chunk.elements
            if count:
                record = 3 * chunk.elements + (64 if self.zero else 0)
                record = -(-record // 64) * 64
                found.append(Region(chunk, first, count, offset, record))
                first, offset = first + count * chunk.elements, offset + count * record
        return tuple(found)

    def region_of(self, block: int) -> Region:
        """The region that a block belongs to."""
        return next(r for r in reversed(self.regions) if r.first <= block * self.layout.elements)

    def _chunks(self) -> list[Chunk]:
        """Kinds of chunks, the best first. Codes in nibbles 16 bytes apart: 16 bytes of four blocks are two registers."""
        nibbles = self.layout.codes.planes[0]
        found = []
        if (nibbles.bits, nibbles.run, self.layout.elements) == (4, 16, 32):
            halves = (tuple(32 * b + h + i for b in range(4) for i in range(16)) for h in (0, 16))
            found.append(Chunk(128, tuple(halves)))
        return [*found, *(Chunk(n, (tuple(range(n)),)) for n in (64, 32) if n <= max(64, self.layout.elements))]

    @property
    def most(self) -> int:
        """The largest number that x becomes: no sum of a lane leaves 32 bits, nor three bytes after rounding."""
        top = (1 << sum(plane.bits for plane in self.layout.codes.planes)) - 1
        products = 4 * max(len(region.chunk.vectors) for region in self.regions)
        return min(_MOST, (2**31 - 1) // (products * max(self.zero, top - self.zero))) - 4

    # Where the vector's parts are, in bytes from its start.
    @property
    def pitch(self) -> int:
        """2 if the step of x is followed by the sum that belongs to it, as a block's scale is by its minimum."""
        return 1 if self.layout.group or self.layout.minimum is None else 2

    @property
    def steps_at(self) -> int:
        last = self.regions[-1]
        return last.offset + last.count * last.record

    @property
    def sums_at(self) -> int:
        """Of the sums by group, if there are minima."""
        return self.steps_at + (4 if self.pitch == 2 else 4 * self.extent // _UNIT)

    @property
    def bytes(self) -> int:
        return self.steps_at + 4 * self.extent // _UNIT + 4 * self.extent // self.group


@dataclass(frozen=True, slots=True)
class Pattern:
    """A sum over the last axis of weights times a vector: `load` gives rows of weights, `vector` is what all are multiplied with."""

    load: ops.Load
    vector: Value
    arrangement: Arrangement


def recognised(ctx: Context, op: ops.Reduce) -> Pattern | None:
    """The product that a reduction computes, if this is how it is done best."""
    found = product_with_vector(ctx.definitions, op)
    if found is None or ctx.target.byte_dot is not ByteDot.VNNI or ctx.target.vector_bits != 512:
        return None
    load, vector = found
    layout = ctx.arrays[load.array].dtype.layout
    extent = shape_of(load.result)[-1]
    if layout is None or extent < LONG_ROW or extent % max(_UNIT, layout.elements):
        return None
    return Pattern(load, vector, Arrangement(layout, extent))


def lower(ctx: Context, pattern: Pattern, vector: Buffer, out: Buffer) -> None:
    """Sums of all rows, one after the other in `out`."""
    e = ctx.emitter
    rows = shape_of(pattern.load.result)[-2]
    sums = ctx.scratch(4 * _LANES * rows)

    def row(n: Int, _: list[Reg]) -> tuple[()]:
        e.store(_row(ctx, pattern, vector, n), e.offset(sums, e.mul(n, 4 * _LANES)), 64, ctx.scratch_metadata)
        return ()

    e.loop(0, rows, 1, (), row)
    for lower_, upper, lanes in pieces(rows, _LANES):

        def together(n: Int, _: list[Reg], lanes: int = lanes) -> tuple[()]:
            places = [e.offset(sums, e.mul(e.add(n, i), 4 * _LANES)) for i in range(lanes)]
            total = sum_each(ctx, [e.load(at, "float", _LANES, 64, ctx.scratch_metadata) for at in places])
            total = e.part(total, 0, lanes) if lanes > 1 else e.extract(total, 0)
            e.store(total, e.offset(out.pointer, e.mul(n, 4)), 4, ctx.scratch_metadata)
            return ()

        e.loop(lower_, upper, lanes, (), together)


# --- the vector


def prepared(ctx: Context, pattern: Pattern, once: Callable[[Context, Value, Callable[[], None]], None]) -> Buffer:
    """The vector's bytes in the order of the chunks, its steps, and its sums by group; `once` for programs that share it."""
    parts = pattern.arrangement
    shape: tuple[str | int, ...] = ("fixed", parts.most, parts.group, *(r.record for r in parts.regions))
    key = (pattern.vector, dtypes.i8, shape, False)
    if key not in ctx.packed:
        made = Buffer(ctx.scratch(parts.bytes), dtypes.i8, (1,))
        numbers = ctx.scratch(4 * parts.extent)

        def prepare() -> None:
            with ctx.region():
                _round(ctx, pattern, made.pointer, numbers)
            for region in parts.regions:
                _split(ctx, parts, region, made.pointer, numbers)

        once(ctx, pattern.vector, prepare)
        ctx.packed[key] = made
    return ctx.packed[key]


def _round(ctx: Context, pattern: Pattern, made: Reg, numbers: Reg) -> None:
    """The vector as i32 in `numbers`, and its steps and sums."""
    e, parts = ctx.emitter, pattern.arrangement
    most = Reg(float_literal(float(parts.most), "float").ref, "float")

    def unit(first: Int, _: list[Reg]) -> tuple[()]:
        xs = []
        for i in range(0, _UNIT, _LANES):
            place = [0] * pattern.vector.type.rank
            axis = next(i for i, n in enumerate(shape_of(pattern.vector)) if n > 1)
            xs.append(
                ctx.value(
                    pattern.vector, (*place[:axis], lane_at(e.add(first, i), _LANES, _UNIT, i), *place[axis + 1 :])
                )
            )
        # The largest of |x|, as unsigned numbers: those of infinity and NaN are larger still, and stay what they are.
        bits = [e.op("and", e.convert("bitcast", x, "i32"), e.splat(Reg(str(2**31 - 1), "i32"), _LANES)) for x in xs]
        largest = e.call(f"llvm.vector.reduce.umax.v{_LANES}i32", "i32", 0, e.intrinsic("umax", *bits))
        top = e.convert("bitcast", largest, "float")
        step, scale = e.op("fdiv", top, most), e.op("fdiv", most, top)
        least, greatest = float_literal(_SMALLEST, "float"), float_literal(1 / _SMALLEST, "float")
        step = e.select(e.compare("fcmp", "olt", step, least), least, step)
        scale = e.select(e.compare("fcmp", "ogt", scale, greatest), greatest, scale)
        at = e.offset(made, e.add(parts.steps_at, e.udiv(e.mul(first, 4 * parts.pitch), _UNIT)))
        e.store(step, at, 4, ctx.scratch_metadata)
        for i, x in enumerate(xs):
            scaled = e.intrinsic("roundeven", e.op("fmul", x, e.splat(scale, _LANES)))
            number = e.select(
                e.compare("fcmp", "ord", scaled, scaled), scaled, e.splat(float_literal(0.0, "float"), _LANES)
            )
            whole = e.convert("fptosi", number, "i32")
            e.store(whole, e.offset(numbers, e.mul(e.add(first, _LANES * i), 4)), 64, ctx.scratch_metadata)
        if parts.layout.minimum is not None:
            groups = [e.fop("fadd", *xs)] if parts.group == _UNIT else xs
            at = e.offset(made, e.add(parts.sums_at, e.udiv(e.mul(first, 4 * parts.pitch), parts.group)))
            for i, x in enumerate(groups):
                e.store(_total(ctx, x), e.offset(at, 4 * i), 4, ctx.scratch_metadata)
        return ()

    e.loop(0, parts.extent, _UNIT, (), unit)


def _total(ctx: Context, x: Reg) -> Reg:
    """The sum of a vector's lanes, by halves."""
    e = ctx.emitter
    while x.lanes > 1:
        half = x.lanes // 2
        x = e.fop("fadd", e.part(x, 0, half), e.part(x, half, half))
    return e.extract(x, 0)


def _split(ctx: Context, parts: Arrangement, region: Region, made: Reg, numbers: Reg) -> None:
    """The three bytes of each number of a region's chunks, and what their products with `zero` sum up to."""
    e = ctx.emitter

    def chunk(c: Int, _: list[Reg]) -> tuple[()]:
        first = e.offset(numbers, e.mul(e.add(region.first, e.mul(c, region.chunk.elements)), 4))
        record = e.offset(made, e.add(region.offset, e.mul(c, region.record)))
        taken: Reg | None = None
        for v, vector in enumerate(region.chunk.vectors):
            lanes = len(vector)
            runs = [
                e.load(e.offset(first, 4 * vector[i]), "i32", 16, 64, ctx.scratch_metadata) for i in range(0, lanes, 16)
            ]
            x = e.concatenate(runs)
            sums = x
            for _half in range(2):
                even, odd = range(0, sums.lanes, 2), range(1, sums.lanes, 2)
                sums = e.op("add", e.shuffle(sums, None, even), e.shuffle(sums, None, odd))
            taken = sums if taken is None else e.op("add", taken, sums)
            for digit in (2, 1, 0):  # the lowest first; they are stored highest first
                low = e.convert("trunc", x, "i8")
                e.store(low, e.offset(record, (3 * v + digit) * lanes), 32, ctx.scratch_metadata)
                x = e.op("sub", x, e.convert("sext", low, "i32"))
                x = e.op("ashr", x, e.splat(Reg("8", "i32"), lanes))
        if parts.zero and taken is not None:
            taken = e.op("mul", taken, e.splat(Reg(str(-parts.zero), "i32"), taken.lanes))
            e.store(taken, e.offset(record, 3 * region.chunk.elements), 32, ctx.scratch_metadata)
        return ()

    e.loop(0, region.count, 1, (), chunk)


# --- a row


def _row(ctx: Context, pattern: Pattern, vector: Buffer, n: Int) -> Reg:
    """16 partial sums of row `n`."""
    e, parts = ctx.emitter, pattern.arrangement
    array = ctx.arrays[pattern.load.array]
    rank = len(shape_of(pattern.load.result))
    place = (*(0 for _ in range(rank - 2)), n, 0)
    mask = mask_at(ctx, pattern.load.masks, place)
    outer = [ctx.index(v, tuple(0 if s == 1 else c for s, c in zip(shape_of(v), place, strict=True)) if v.type.rank else ())
             for v in pattern.load.index[:-1]]  # fmt: skip
    start = block_start(ctx, array, [p.base if not isinstance(p, Reg) else p for p in outer], 0, mask)
    zero = Reg("zeroinitializer", "float", _LANES)
    sums = [zero] * (_ACCUMULATORS + 1)
    for lower_, upper, blocks in pieces(parts.extent // parts.layout.elements, 1 if parts.layout.group else _LANES):

        def some(
            b: Int, carried: list[Reg], region: Region = parts.region_of(lower_), blocks: int = blocks
        ) -> list[Reg]:
            return _section(ctx, parts, region, start, vector.pointer, b, blocks, carried, array.load_metadata)

        sums = e.loop(lower_, upper, blocks, sums, some)
    return e.fop("fadd", e.fop("fadd", sums[0], sums[1]), sums[_ACCUMULATORS])


def _section(
    ctx: Context, parts: Arrangement, region: Region, start: Reg, vector: Reg, b: Int, blocks: int, carried: list[Reg],
    metadata: str,
) -> list[Reg]:  # fmt: skip
    """`carried` (sums of products, and of what is added to codes) with `blocks` blocks of the row from block `b` on: their scales
    together, then their chunks.

    Scales of a whole row at once were slower: they touch every line of it, and meanwhile nobody asked for the next ones."""
    e, layout, chunk = ctx.emitter, parts.layout, region.chunk
    found = list(carried)
    scales = ctx.scratch(4 * parts.pitch * blocks * layout.elements // parts.group)
    if layout.group:
        found[-1] = _by_group(ctx, parts, start, vector, b, scales, found[-1], metadata)
    else:
        found[-1] = _by_block(ctx, parts, start, vector, b, blocks, scales, found[-1], metadata)
    # through an assembler statement that does nothing, so that LLVM keeps the way through memory: a broadcast is then a load
    scales = e.inst(f'call ptr asm "", "=r,0"({scales})', "ptr")
    place = e.offset(start, e.mul(b, layout.bytes))
    done = e.udiv(
        e.sub(e.mul(b, layout.elements), region.first), chunk.elements
    )  # chunks of the region before this section
    count = blocks * layout.elements // chunk.elements
    lines = -(-blocks * layout.bytes // 64)
    for i in range(count):
        for line in range(i * lines // count, (i + 1) * lines // count):
            prefetch_ahead(ctx, place, line, packed=True)
        record = e.offset(vector, e.add(region.offset, e.mul(e.add(done, i), region.record)))
        which = i % _ACCUMULATORS
        found[which] = _chunk(ctx, parts, region, place, i * chunk.elements, record, scales, found[which], metadata)
    return found


def _by_group(
    ctx: Context, parts: Arrangement, start: Reg, vector: Reg, b: Int, to: Reg, low: Reg, metadata: str
) -> Reg:
    """Scales of the groups of block `b`, stored at `to`; `low` with what is added to codes."""
    e, layout = ctx.emitter, parts.layout
    numbers = Block(ctx, layout, e.offset(start, e.mul(b, layout.bytes)), metadata, None).by_group()
    units = layout.elements // _UNIT
    step = e.load(e.offset(vector, e.add(parts.steps_at, e.mul(b, 4 * units))), "float", units, 4, ctx.scratch_metadata)
    step = e.shuffle(step, None, [i * parts.group // _UNIT for i in range(layout.groups)])
    e.store(e.fop("fmul", numbers[0], step), to, 4, ctx.scratch_metadata)
    if len(numbers) == 1:
        return low
    at = e.offset(vector, e.add(parts.sums_at, e.mul(b, 4 * layout.groups)))
    sums = e.load(at, "float", layout.groups, 4, ctx.scratch_metadata)
    return e.fop("fadd", low, _sixteen(ctx, e.fop("fmul", numbers[1], sums)))


def _by_block(
    ctx: Context, parts: Arrangement, start: Reg, vector: Reg, b: Int, lanes: int, to: Reg, low: Reg, metadata: str
) -> Reg:
    """The same for the scales of `lanes` blocks from block `b`; minima stay beside them, as they are in the blocks."""
    e, layout = ctx.emitter, parts.layout
    found = scale_words(ctx, layout, start, b, lanes, metadata)
    if layout.minimum is None:
        halves = e.convert("trunc", found, "i16")
    elif layout.minimum == layout.scale + 2:
        halves = e.inst(f"bitcast {found} to <{2 * lanes} x i16>", "i16", 2 * lanes)
    else:
        raise InternalError("a block's minimum does not follow its scale")
    numbers = widen(e, halves, dtypes.f16, ctx.target)
    at = e.offset(vector, e.add(parts.steps_at, e.mul(b, 4 * parts.pitch)))
    product = e.fop("fmul", numbers, e.load(at, "float", numbers.lanes, 4, ctx.scratch_metadata))
    e.store(product, to, 4, ctx.scratch_metadata)
    if layout.minimum is None:
        return low
    for first in range(0, product.lanes, _LANES):
        part = _sixteen(ctx, e.part(product, first, min(_LANES, product.lanes)))
        second = Reg("<" + ", ".join(f"i1 {i % 2}" for i in range(_LANES)) + ">", "i1", _LANES)
        low = e.select(second, e.fop("fadd", low, part), low)
    return low


def _sixteen(ctx: Context, x: Reg) -> Reg:
    """A vector with zeros after its lanes."""
    if x.lanes == _LANES:
        return x
    zero = Reg("zeroinitializer", x.type, x.lanes)
    order = [*range(x.lanes), *[x.lanes] * (_LANES - x.lanes)]
    return ctx.emitter.shuffle(x, zero, order)


def _chunk(
    ctx: Context, parts: Arrangement, region: Region, start: Reg, behind: int, record: Reg, scales: Reg, acc: Reg,
    metadata: str,
) -> Reg:  # fmt: skip
    """acc + the products of one chunk, `behind` elements after the block at `start`, whose first scale is at `scales`."""
    e, layout, chunk = ctx.emitter, parts.layout, region.chunk
    inside = behind % layout.elements
    first = e.offset(start, behind // layout.elements * layout.bytes)
    lanes = len(chunk.vectors[0])
    codes = [
        _codes(ctx, layout, first, [divmod(inside + i, layout.elements) for i in vector], metadata)
        for vector in chunk.vectors
    ]
    total = Reg("zeroinitializer", "i32", lanes // 4)
    for digit in range(3):
        total = e.op("shl", total, e.splat(Reg("8", "i32"), total.lanes)) if digit else total
        for v, code in enumerate(codes):
            bytes_ = e.load(e.offset(record, (3 * v + digit) * lanes), "i8", lanes, 32, ctx.scratch_metadata)
            total = e.call(f"llvm.x86.avx512.vpdpbusd.{8 * lanes}", "i32", total.lanes, total, code, bytes_)
    if parts.zero:
        taken = e.load(e.offset(record, 3 * chunk.elements), "i32", total.lanes, 32, ctx.scratch_metadata)
        total = e.op("add", total, taken)
    groups = [parts.pitch * (chunk.vectors[0][4 * i] // parts.group) for i in range(total.lanes)]
    number = max(groups) // parts.pitch * parts.pitch + parts.pitch
    at = e.offset(scales, 4 * parts.pitch * behind // parts.group)
    scale = e.load(at, "float", number if max(groups) else 0, 4, ctx.scratch_metadata)
    scale = e.shuffle(scale, None, groups) if scale.lanes else e.splat(scale, total.lanes)
    product = e.fop("fmul", e.convert("sitofp", total, "float"), scale)
    return e.fop("fadd", acc, _sixteen(ctx, product))


# --- codes as bytes of 0 or more


def _codes(ctx: Context, layout: BlockLayout, start: Reg, places: Sequence[tuple[int, int]], metadata: str) -> Reg:
    """Codes, one a lane, without `zero` taken off: the elements `places` (block from `start`, element in it)."""
    e = ctx.emitter
    lanes, total, up = len(places), Reg("", "i8"), 0
    numbers = sorted({b for b, _ in places})
    blocks = {b: Block(ctx, layout, e.offset(start, b * layout.bytes), metadata, None) for b in numbers}
    for plane in layout.codes.planes:
        if plane.bits == 1:
            tests = [blocks[b].bits(plane, [el for other, el in places if other == b]) for b in numbers]
            part = e.select(
                e.concatenate(tests), e.splat(Reg(str(1 << up), "i8"), lanes), e.splat(Reg("0", "i8"), lanes)
            )
        else:
            bytes_ = [blocks[b].bytes_at([plane.place(el)[0] for other, el in places if other == b]) for b in numbers]
            part = e.concatenate(bytes_)
            shifts = [plane.place(el)[1] for _, el in places]
            part = _shifted(ctx, part, shifts)
            if plane.bits < 8:
                part = e.op("and", part, e.splat(Reg(str((1 << plane.bits) - 1), "i8"), lanes))
            part = e.op("shl", part, e.splat(Reg(str(up), "i8"), lanes)) if up else part
        total = e.op("or", total, part) if up else part
        up += plane.bits
    if layout.codes.signed:
        total = e.op("xor", total, e.splat(Reg("-128", "i8"), lanes))
    return total


def _shifted(ctx: Context, x: Reg, shifts: Sequence[int]) -> Reg:
    """Bytes shifted to the right, eight at a time: bits of their neighbours come in at the top."""
    e = ctx.emitter
    if not any(shifts):
        return x
    eights = [shifts[i] for i in range(0, len(shifts), 8)]
    if any(shift != eights[i // 8] for i, shift in enumerate(shifts)):
        raise AssertionError("eight neighbouring codes are shifted alike")
    words = e.inst(f"bitcast {x} to <{len(eights)} x i64>", "i64", len(eights))
    count = Reg("<" + ", ".join(f"i64 {shift}" for shift in eights) + ">", "i64", len(eights))
    return e.inst(f"bitcast {e.op('lshr', words, count)} to <{x.lanes} x i8>", "i8", x.lanes)
