"""Stable sort along the last axis: a radix sort of keys whose unsigned order is the wanted order, one byte a pass."""

from __future__ import annotations

from zellige.backends.cpu.context import Buffer, Context, Index, Position, index_of, lanes_of, nest
from zellige.backends.cpu.convert import COMPUTED_IN_F32, cast, register_type
from zellige.backends.cpu.emit import Int, Reg
from zellige.backends.cpu.memory import read_buffer, write_buffer
from zellige.backends.cpu.plan import shape_of, size_of
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType, Kind


def lower_sort(ctx: Context, op: ops.Sort) -> None:
    """Computes the sorted values and their source positions into two new buffers."""
    e = ctx.emitter
    shape = shape_of(op.x)
    n = shape[-1]
    dtype = op.x.type.dtype
    key_type = f"i{max(32, dtype.bits)}" if dtype.is_float or dtype.bits > 8 else "i8"
    if dtype in COMPUTED_IN_F32 or (dtype.bits <= 32 and key_type != "i8"):
        key_type = "i32"
    key_dtype = {"i8": dtypes.u8, "i32": dtypes.u32, "i64": dtypes.u64}[key_type]
    values = ctx.new_buffer(dtype, shape)
    ctx.buffers[op.result] = ctx.new_buffer(dtype, shape)
    ctx.buffers[op.order] = ctx.new_buffer(dtypes.index, shape)
    keys = [ctx.scratch(n * key_dtype.bits // 8) for _ in range(2)]
    places = [ctx.scratch(n * 4) for _ in range(2)]
    counts = ctx.scratch(256 * 4)
    rows = (*shape[:-1], 1)

    def row(position: Position) -> None:
        outer = position[:-1]

        def prepare(place: Position) -> None:
            full = (*outer, place[0])
            x = ctx.value(op.x, full)
            write_buffer(ctx, values, full, x)
            write_buffer(ctx, Buffer(keys[0], key_dtype, (1,)), place, _key(ctx, x, dtype, key_type, op.descending))
            start = place[0]
            base = start if isinstance(start, int | Reg) else start.base
            lanes = lanes_of(place)
            number = ctx.index_register(Index(base, 1, lanes), lanes)
            write_buffer(ctx, Buffer(places[0], dtypes.i32, (1,)), place, e.convert("trunc", number, "i32"))

        nest(ctx, (n,), 0, prepare, ctx.vector)
        passes = key_dtype.bits // 8
        for step in range(passes):
            source, target = step % 2, (step + 1) % 2
            _pass(ctx, n, key_dtype, keys[source], places[source], keys[target], places[target], counts, 8 * step)

        def place_results(i: Int, _: list[Reg]) -> tuple[()]:
            origin32 = read_buffer(ctx, Buffer(places[passes % 2], dtypes.u32, (1,)), (i,))
            assert isinstance(origin32, Reg)
            origin = e.convert("zext", origin32, "i64")
            value = read_buffer(ctx, values, (*outer, origin))
            write_buffer(ctx, ctx.buffers[op.result], (*outer, i), value)
            write_buffer(ctx, ctx.buffers[op.order], (*outer, i), index_of(origin))
            return ()

        with ctx.region():
            e.loop(0, n, 1, (), place_results)

    with ctx.region():
        nest(ctx, rows, len(rows) - 1, row, 1)
    if size_of(op.x) == 1:
        for result in (op.result, op.order):
            ctx.scalars[result] = read_buffer(ctx, ctx.buffers[result], (0,) * len(shape))


def _key(ctx: Context, x: Reg, dtype: DType, key_type: str, descending: bool) -> Reg:
    """Bits whose unsigned order is the order of `x`; −0 and 0 are equal, and so are NaNs, which are largest."""
    e = ctx.emitter
    if dtype in COMPUTED_IN_F32:
        x, dtype = cast(e, x, dtype, dtypes.f32, ctx.target), dtypes.f32

    def constant(value: int) -> Reg:
        bits = int(key_type[1:])
        scalar = Reg(str(value - (1 << bits) if value >> (bits - 1) else value), key_type)
        return e.splat(scalar, x.lanes) if x.lanes else scalar

    width = int(key_type[1:])
    top = constant(1 << (width - 1))
    if dtype.is_float:
        zero = Reg("0.0", x.type)
        x = e.op("fadd", x, e.splat(zero, x.lanes) if x.lanes else zero)  # −0 + 0 = 0
        nan = constant(0x7FF8 << 48 if width == 64 else 0x7FC0 << 16)
        bits = e.select(e.compare("fcmp", "uno", x, x), nan, e.convert("bitcast", x, key_type))
        negative = e.compare("icmp", "slt", bits, constant(0))
        key = e.select(negative, e.op("xor", bits, constant((1 << width) - 1)), e.op("or", bits, top))
    else:
        signed = dtype.kind in (Kind.SIGNED, Kind.INDEX)
        wide = int(register_type(dtype)[1:])
        key = x if wide == width else e.convert("sext" if signed else "zext", x, key_type)
        if signed:
            key = e.op("xor", key, top)
    return e.op("xor", key, constant((1 << width) - 1)) if descending else key


def _pass(
    ctx: Context,
    n: int,
    key_dtype: DType,
    keys: Reg,
    places: Reg,
    to_keys: Reg,
    to_places: Reg,
    counts: Reg,
    shift: int,
) -> None:
    """One stable distribution by the byte at `shift`."""
    e = ctx.emitter
    key_type = f"i{key_dtype.bits}"
    key_bytes = key_dtype.bits // 8
    e.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    e.line(f"call void @llvm.memset.p0.i64(ptr align 64 {counts.ref}, i8 0, i64 1024, i1 false)")

    def digit(i: Int) -> tuple[Reg, Reg]:
        key = e.load(e.offset(keys, e.mul(i, key_bytes)), key_type, 0, key_bytes, ctx.scratch_metadata)
        moved = e.op("lshr", key, Reg(str(shift), key_type)) if shift else key
        byte = moved if key_type == "i8" else e.convert("trunc", moved, "i8")
        return key, e.offset(counts, e.mul(e.convert("zext", byte, "i64"), 4))

    def count(i: Int, _: list[Reg]) -> tuple[()]:
        cell = digit(i)[1]
        old = e.load(cell, "i32", 0, 4, ctx.scratch_metadata)
        e.store(e.op("add", old, Reg("1", "i32")), cell, 4, ctx.scratch_metadata)
        return ()

    def begin(i: Int, carried: list[Reg]) -> list[Reg]:
        cell = e.offset(counts, e.mul(i, 4))
        old = e.load(cell, "i32", 0, 4, ctx.scratch_metadata)
        e.store(carried[0], cell, 4, ctx.scratch_metadata)
        return [e.op("add", carried[0], old)]

    def move(i: Int, _: list[Reg]) -> tuple[()]:
        key, cell = digit(i)
        place = e.load(cell, "i32", 0, 4, ctx.scratch_metadata)
        e.store(e.op("add", place, Reg("1", "i32")), cell, 4, ctx.scratch_metadata)
        wide = e.convert("zext", place, "i64")
        e.store(key, e.offset(to_keys, e.mul(wide, key_bytes)), key_bytes, ctx.scratch_metadata)
        origin = e.load(e.offset(places, e.mul(i, 4)), "i32", 0, 4, ctx.scratch_metadata)
        e.store(origin, e.offset(to_places, e.mul(wide, 4)), 4, ctx.scratch_metadata)
        return ()

    e.loop(0, n, 1, (), count)
    e.loop(0, 256, 1, [Reg("0", "i32")], begin)
    e.loop(0, n, 1, (), move)
