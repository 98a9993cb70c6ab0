"""Evaluates a pure tile value at a position, in registers: one case for each operation that has no memory of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from zellige.backends.cpu.context import (
    Context,
    Index,
    Lane,
    Position,
    index_of,
    product_residue,
    project,
    row_major,
    sum_residue,
)
from zellige.backends.cpu.convert import COMPUTED_IN_F32, cast, literal, memory_type, narrow, register_type, widen
from zellige.backends.cpu.elementary import elementary
from zellige.backends.cpu.emit import FALSE, TRUE, Int, Reg, float_literal
from zellige.backends.cpu.memory import gather, load, read_buffer
from zellige.backends.cpu.plan import is_unit_reshape, shape_of
from zellige.backends.cpu.quantised import unpack
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType, Kind
from zellige.ir.extent import Const, Dim, Extent, Nary, Quotient
from zellige.ir.ops import BinaryOp, UnaryOp, Value
from zellige.passes.intervals import WORD, decided, of_extent

_COMPARE = {
    BinaryOp.EQ: "eq", BinaryOp.NE: "ne", BinaryOp.LT: "lt", BinaryOp.LE: "le", BinaryOp.GT: "gt", BinaryOp.GE: "ge",
}  # fmt: skip
_ROUNDING = {UnaryOp.FLOOR: "floor", UnaryOp.CEIL: "ceil", UnaryOp.ROUND: "roundeven"}


def evaluate(ctx: Context, value: Value, position: Position) -> Reg | Index:
    """Elements of `value` at `position`; a scalar where they are the same in all lanes."""
    if value in ctx.assumed:
        return TRUE
    if value in ctx.scalars:
        return ctx.scalars[value]
    key = (value, position)
    for scope in reversed(ctx.memo):
        if key in scope:
            return scope[key]
    if value in ctx.buffers:
        result = read_buffer(ctx, ctx.buffers[value], position)
    else:
        result = _compute(ctx, value, position)
    ctx.memo[-1][key] = result
    return result


def _compute(ctx: Context, value: Value, position: Position) -> Reg | Index:
    e = ctx.emitter
    op = ctx.definitions[value]
    match op:
        case ops.Constant(value=constant):
            if value.type.dtype.kind is Kind.INDEX:
                return index_of(int(constant))
            return literal(constant, value.type.dtype, ctx.target)
        case ops.ExtentValue(extent=extent):
            return index_of(extent_int(ctx, extent))
        case ops.ScalarValue(param=param):
            return _scalar_argument(ctx, param, value.type.dtype)
        case ops.ProgramId(axis=axis):
            return index_of(ctx.program_ids[axis])
        case ops.Iota():
            (coordinate,) = position
            if isinstance(coordinate, Lane):
                return Index(coordinate.base, 1, coordinate.lanes, coordinate.multiple, coordinate.offset)
            return index_of(coordinate)
        case ops.Unary(op=kind, x=x):
            return unary_value(ctx, kind, ctx.value(x, position), x.type.dtype)
        case ops.Binary(op=kind, x=x, y=y):
            return _binary(ctx, kind, x, y, position)
        case ops.Fma(x=x, y=y, z=z):
            a, b = e.unify(ctx.value(x, position), ctx.value(y, position))
            c, a = e.unify(ctx.value(z, position), a)
            return e.intrinsic("fma", a, *e.unify(b, c))
        case ops.Select(condition=condition, x=x, y=y):
            return _select(ctx, condition, x, y, position)
        case ops.Cast(x=x, result=result):
            return _cast(ctx, x, result.type.dtype, position)
        case ops.Bitcast(x=x, result=result):
            register = ctx.value(x, position)
            wanted = register_type(result.type.dtype)
            return register if register.type == wanted else e.convert("bitcast", register, wanted)
        case ops.Random(seed=seed, counter=counter):
            return _philox(ctx, ctx.value(seed, ()), ctx.value(counter, position))
        case ops.Broadcast(x=x):
            return ctx.evaluate(x, project(x, position))
        case ops.ExpandDims(x=x, axis=axis):
            return ctx.evaluate(x, position[:axis] + position[axis + 1 :])
        case ops.Transpose(x=x, permutation=permutation):
            source: list[Int | Lane] = [0] * len(position)
            for axis, origin in enumerate(permutation):
                source[origin] = position[axis]
            return ctx.evaluate(x, tuple(source))
        case ops.Reshape(x=x, result=result):
            return _reshape(ctx, x, result, position)
        case ops.Gather(x=x, positions=positions, axis=axis):
            return _gather(ctx, x, positions, axis, position)
        case ops.Load():
            return load(ctx, op, position)
    raise AssertionError(f"{type(op).__name__} has no elementwise evaluation")


# --- leaves


def extent_int(ctx: Context, extent: Extent) -> Int:
    """An extent over constants and run-time dims."""
    e = ctx.emitter
    match extent:
        case Const(value):
            return value
        case Dim(name):
            return ctx.extents[name]
        case Nary("min" | "max" as op, terms):
            first, *rest = [extent_int(ctx, t) for t in terms]
            for term in rest:
                first = e.extremum("smin" if op == "min" else "smax", first, term)
            return first
        case Nary(op, terms):
            first, bounds = extent_int(ctx, terms[0]), of_extent(terms[0])
            for part in terms[1:]:
                term = extent_int(ctx, part)
                bounds = bounds + of_extent(part) if op == "add" else bounds * of_extent(part)
                if not bounds.within(WORD) or any(not of_extent(t).within(WORD) for t in terms):
                    # the whole fits (that is proved, or a launch condition), and this part may wrap: ours must not promise otherwise
                    first = e.op(op, e.i64(_wrapped(first)), e.i64(_wrapped(term)))
                else:
                    first = e.add(first, term) if op == "add" else e.mul(first, term)
            return first
        case Quotient(op, left, right):
            a, b = extent_int(ctx, left), extent_int(ctx, right)
            if op == "mod":
                return e.floormod(a, b)
            if op == "ceildiv":
                return e.sub(0, e.floordiv(e.sub(0, a), b))
            return e.floordiv(a, b)
    raise AssertionError(f"unknown extent {extent!r}")


def _wrapped(number: Int) -> Int:
    """A constant part of an extent in 64 bits."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63) if isinstance(number, int) else number


def _scalar_argument(ctx: Context, name: str, dtype: DType) -> Reg | Index:
    register = ctx.parameters[name]
    if dtype.kind is Kind.INDEX:
        source = next(s for s in ctx.function.scalars if s.name == name).dtype
        return index_of(register if register.type == "i64" else cast(ctx.emitter, register, source, dtype, ctx.target))
    return register


# --- elementwise


def unary_value(ctx: Context, op: UnaryOp, x: Reg, dtype: DType) -> Reg:
    """An elementwise function of register values of `dtype`."""
    e = ctx.emitter
    if dtype in COMPUTED_IN_F32:
        wide = unary_value(ctx, op, widen(e, x, dtype, ctx.target), dtypes.f32)
        return narrow(e, wide, dtype, ctx.target)
    if op is UnaryOp.NOT:
        return e.op("xor", x, _same(ctx, Reg("true" if dtype.is_bool else "-1", x.type), x))
    if dtype.is_float:
        match op:
            case UnaryOp.NEG:
                return e.inst(f"fneg {x}", x.type, x.lanes)
            case UnaryOp.ABS:
                return e.intrinsic("fabs", x)
            case UnaryOp.SQRT:
                return e.intrinsic("sqrt", x)
            case UnaryOp.RSQRT:
                return e.op("fdiv", _same(ctx, float_literal(1.0, x.type), x), e.intrinsic("sqrt", x))
            case UnaryOp.FLOOR | UnaryOp.CEIL | UnaryOp.ROUND:
                return e.intrinsic(_ROUNDING[op], x)
        return elementary(e, op, x, fused=ctx.target.fma, wide=ctx.target.vector_bits == 512)
    zero = _same(ctx, Reg("0", x.type), x)
    match op:
        case UnaryOp.NEG:
            return e.op("sub", zero, x)
        case UnaryOp.ABS if dtype.kind is Kind.UNSIGNED:
            return x
        case UnaryOp.ABS:
            return e.select(e.compare("icmp", "slt", x, zero), e.op("sub", zero, x), x)
        case UnaryOp.FLOOR | UnaryOp.CEIL | UnaryOp.ROUND:
            return x
    raise AssertionError(f"{op} of {dtype}")


def _same(ctx: Context, scalar: Reg, like: Reg) -> Reg:
    return ctx.emitter.splat(scalar, like.lanes) if like.lanes else scalar


def _binary(ctx: Context, op: BinaryOp, x: Value, y: Value, position: Position) -> Reg | Index:
    if x.type.dtype.kind is Kind.INDEX:
        if op.is_comparison:
            known = decided(op, ctx.interval(x), ctx.interval(y))
            if known is not None:
                return TRUE if known else FALSE
        return _index_binary(ctx, op, x, y, position)
    a, b = ctx.value(x, position), ctx.value(y, position)
    if op is BinaryOp.AND and x.type.dtype.is_bool:
        return ctx.emitter.both(a, b)
    return binary_value(ctx, op, a, b, x.type.dtype)


def binary_value(ctx: Context, op: BinaryOp, x: Reg, y: Reg, dtype: DType) -> Reg:
    """An elementwise function of two register values of `dtype`."""
    e = ctx.emitter
    if op in (BinaryOp.MIN, BinaryOp.MAX) and y.is_literal:
        x, y = y, x
    x, y = e.unify(x, y)
    if dtype in COMPUTED_IN_F32:
        wide = binary_value(ctx, op, widen(e, x, dtype, ctx.target), widen(e, y, dtype, ctx.target), dtypes.f32)
        return wide if op.is_comparison else narrow(e, wide, dtype, ctx.target)
    if dtype.is_float:
        return _float_binary(ctx, op, x, y)
    unsigned = dtype.kind in (Kind.UNSIGNED, Kind.BOOL)
    if op.is_comparison:
        name = _COMPARE[op]
        return e.compare("icmp", name if name in ("eq", "ne") else ("u" if unsigned else "s") + name, x, y)
    match op:
        case BinaryOp.MIN | BinaryOp.MAX:
            less = e.compare("icmp", "ult" if unsigned else "slt", x, y)
            return e.select(less, x, y) if op is BinaryOp.MIN else e.select(less, y, x)
        case BinaryOp.FLOORDIV | BinaryOp.MOD:
            return _integer_division(ctx, op, x, y, unsigned)
        case BinaryOp.SHL | BinaryOp.SHR:
            return _shift(ctx, "shl" if op is BinaryOp.SHL else "lshr" if unsigned else "ashr", x, y, dtype.bits)
    opcode = {
        BinaryOp.ADD: "add", BinaryOp.SUB: "sub", BinaryOp.MUL: "mul", BinaryOp.AND: "and", BinaryOp.OR: "or",
        BinaryOp.XOR: "xor",
    }[op]  # fmt: skip
    return e.op(opcode, x, y)


def _shift(ctx: Context, opcode: str, x: Reg, amount: Reg, bits: int) -> Reg:
    """A shift; by the width or more (or less than 0) it leaves 0, or the sign. LLVM's own would be poison there, which no
    clamp of an index made from it survives."""
    e = ctx.emitter
    last = _same(ctx, Reg(str(bits - 1), x.type), x)
    fits = e.compare("icmp", "ule", amount, last)
    if opcode == "ashr":
        return e.op("ashr", x, e.select(fits, amount, last))
    zero = _same(ctx, Reg("0", x.type), x)
    return e.select(fits, e.op(opcode, x, e.select(fits, amount, zero)), zero)


def _float_binary(ctx: Context, op: BinaryOp, x: Reg, y: Reg) -> Reg:
    e = ctx.emitter
    if op.is_comparison:
        name = _COMPARE[op]
        return e.compare("fcmp", "une" if op is BinaryOp.NE else "o" + name, x, y)
    match op:
        case BinaryOp.MIN | BinaryOp.MAX:
            # one instruction, which gives y where one of the two is a NaN: right but where it is x
            extremum = e.select(e.compare("fcmp", "olt" if op is BinaryOp.MIN else "ogt", x, y), x, y)
            return e.select(e.compare("fcmp", "uno", x, x), x, extremum)
    return e.fop({BinaryOp.ADD: "fadd", BinaryOp.SUB: "fsub", BinaryOp.MUL: "fmul", BinaryOp.DIV: "fdiv"}[op], x, y)


def _integer_division(ctx: Context, op: BinaryOp, x: Reg, y: Reg, unsigned: bool) -> Reg:
    """Floor division and its remainder. Lanes that are not used may divide by anything, so no divisor traps."""
    e = ctx.emitter
    zero, one = _same(ctx, Reg("0", x.type), x), _same(ctx, Reg("1", x.type), x)
    safe = e.select(e.compare("icmp", "eq", y, zero), one, y)
    if unsigned:
        return e.op("udiv" if op is BinaryOp.FLOORDIV else "urem", x, safe)
    minus = e.compare("icmp", "eq", y, _same(ctx, Reg("-1", x.type), x))
    safe = e.select(minus, one, safe)
    if op is BinaryOp.FLOORDIV:
        return e.select(minus, e.op("sub", zero, x), e.floor_quotient(x, safe))
    return e.select(minus, zero, e.floor_remainder(x, safe))


# --- index arithmetic


def _index_binary(ctx: Context, op: BinaryOp, x: Value, y: Value, position: Position) -> Reg | Index:
    e = ctx.emitter
    a, b = ctx.index(x, position), ctx.index(y, position)
    if isinstance(a, Index) and isinstance(b, Index):
        result = _affine(ctx, op, a, b, x, y)
        if result is not None:
            return result
    lanes = a.lanes or b.lanes
    left = ctx.index_register(a, lanes) if isinstance(a, Index) else a
    right = ctx.index_register(b, lanes) if isinstance(b, Index) else b
    if op in (BinaryOp.FLOORDIV, BinaryOp.MOD) and _not_negative(ctx, x, y):
        safe = right
        if not (isinstance(b, Index) and isinstance(b.base, int) and b.uniform):
            one = e.splat(Reg("1", "i64"), lanes)
            safe = e.select(e.compare("icmp", "eq", right, e.splat(Reg("0", "i64"), lanes)), one, right)
        return e.op("udiv" if op is BinaryOp.FLOORDIV else "urem", left, safe)
    return binary_value(ctx, op, left, right, dtypes.index)


def _not_negative(ctx: Context, x: Value, y: Value) -> bool:
    return ctx.interval(x).low >= 0 and ctx.interval(y).low >= 0


def _affine(ctx: Context, op: BinaryOp, a: Index, b: Index, x: Value, y: Value) -> Reg | Index | None:
    """The result for evenly spaced operands where it is evenly spaced again, or a comparison; else None."""
    e = ctx.emitter
    lanes = a.lanes or b.lanes
    match op:
        case BinaryOp.ADD:
            return Index(e.add(a.base, b.base), e.add(a.stride, b.stride), lanes, *sum_residue(a, b))
        case BinaryOp.SUB:
            return Index(e.sub(a.base, b.base), e.sub(a.stride, b.stride), lanes, *sum_residue(a, b, -1))
        case BinaryOp.MUL if a.stride == 0 or b.stride == 0:
            stride = e.add(e.mul(a.stride, b.base), e.mul(b.stride, a.base))
            return Index(e.mul(a.base, b.base), stride, lanes, *product_residue(a, b))
    if op.is_comparison and lanes:
        near = (ctx.interval(y) - ctx.interval(x)).within(WORD)
        return _compare_affine(
            ctx, op, a, b, lanes, ctx.emitter.sub if near else partial(ctx.emitter.saturated, "ssub")
        )
    if a.stride != 0 or b.stride != 0:
        return None
    if op.is_comparison:
        name = _COMPARE[op]
        return e.icmp(name if name in ("eq", "ne") else "s" + name, a.base, b.base)
    match op:
        case BinaryOp.FLOORDIV | BinaryOp.MOD:
            if _not_negative(ctx, x, y) and not (isinstance(b.base, int) and b.base == 0):
                function = e.udiv if op is BinaryOp.FLOORDIV else e.urem
                return Index(function(a.base, b.base), 0, lanes, 1)
            register = _integer_division(ctx, op, e.i64(a.base), e.i64(b.base), unsigned=False)
            return Index(register, 0, lanes)
        case BinaryOp.MIN | BinaryOp.MAX:
            which = "smin" if op is BinaryOp.MIN else "smax"
            return Index(e.extremum(which, a.base, b.base), 0, lanes)
    return Index(binary_value(ctx, op, e.i64(a.base), e.i64(b.base), dtypes.index), 0, lanes)


def _compare_affine(
    ctx: Context, op: BinaryOp, a: Index, b: Index, lanes: int, minus: Callable[[Int, Int], Int]
) -> Reg | None:
    """base_a + s·lane ? base_b as a comparison of the lane number with one scalar, in narrow integers.

    ``minus`` subtracts, and saturates where two numbers of 64 bits may lie farther apart than 64 bits tell."""
    e = ctx.emitter
    stride = e.sub(a.stride, b.stride)
    gap = minus(b.base, a.base)  # s·lane ? gap
    name = _COMPARE[op]
    if stride == 0:
        return e.icmp(name if name in ("eq", "ne") else "s" + name, 0, gap)
    if stride == -1:  # −lane ? gap  ⇔  lane ?' −gap
        gap = minus(a.base, b.base)
        name = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}.get(name, name)
    elif stride != 1:
        return None
    narrow_type = "i8" if ctx.target.vector_bits == 512 else "i32"
    clamped = e.extremum("smin", e.extremum("smax", gap, -1), lanes)
    if isinstance(clamped, int):
        values = {
            "lt": [i < clamped for i in range(lanes)], "le": [i <= clamped for i in range(lanes)],
            "gt": [i > clamped for i in range(lanes)], "ge": [i >= clamped for i in range(lanes)],
            "eq": [i == clamped for i in range(lanes)], "ne": [i != clamped for i in range(lanes)],
        }[name]  # fmt: skip
        if all(values):
            return TRUE
        if not any(values):
            return FALSE
        return Reg("<" + ", ".join(f"i1 {str(v).lower()}" for v in values) + ">", "i1", lanes)
    limit = e.splat(e.convert("trunc", clamped, narrow_type), lanes)
    return e.compare("icmp", name if name in ("eq", "ne") else "s" + name, e.counting(lanes, narrow_type), limit)


# --- the rest


def _select(ctx: Context, condition: Value, x: Value, y: Value, position: Position) -> Reg | Index:
    e = ctx.emitter
    chosen = ctx.value(condition, position)
    if chosen == TRUE:
        return ctx.evaluate(x, position)
    if chosen == FALSE:
        return ctx.evaluate(y, position)
    a, b = ctx.value(x, position), ctx.value(y, position)
    lanes = max(chosen.lanes, a.lanes, b.lanes)
    if lanes:
        a, b = e.splat(a, lanes), e.splat(b, lanes)
    result = e.select(chosen, a, b)
    return result if lanes or x.type.dtype.kind is not Kind.INDEX else index_of(result)


def _cast(ctx: Context, x: Value, to: DType, position: Position) -> Reg | Index:
    e = ctx.emitter
    if x.type.dtype.is_block:
        return unpack(ctx, x, position, to)
    if x.type.dtype.kind is Kind.INDEX:
        place = ctx.index(x, position)
        if isinstance(place, Index) and place.lanes and to in (dtypes.i32, dtypes.u32, dtypes.f32):
            # Numbers that a dim or a position can be fit 32 bits: count in those.
            bounds = ctx.interval(x)
            if bounds.low >= -(2**31) and bounds.high < 2**31:
                return cast(e, _narrow_index(ctx, place), dtypes.i32, to, ctx.target)
        register = ctx.index_register(place, place.lanes) if isinstance(place, Index) else place
        return cast(e, register, x.type.dtype, to, ctx.target)
    if to is x.type.dtype and to.is_float:  # rounded here, not in one with what follows
        return e.intrinsic("arithmetic.fence", ctx.value(x, position)) if to.bits >= 32 else ctx.value(x, position)
    register = cast(e, ctx.value(x, position), x.type.dtype, to, ctx.target)
    return index_of(register) if to.kind is Kind.INDEX and not register.lanes else register


def _narrow_index(ctx: Context, place: Index) -> Reg:
    e = ctx.emitter
    lanes = place.lanes

    def low(value: Int) -> Reg:
        return Reg(str(value), "i32") if isinstance(value, int) else e.convert("trunc", value, "i32")

    base = e.splat(low(place.base), lanes)
    if place.stride == 0:
        return base
    steps = e.counting(lanes, "i32")
    if place.stride != 1:
        steps = e.op("mul", steps, e.splat(low(place.stride), lanes))
    return e.op("add", base, steps)


def _reshape(ctx: Context, x: Value, result: Value, position: Position) -> Reg | Index:
    if is_unit_reshape(x, result):
        coordinates = [c for c, n in zip(position, shape_of(result), strict=True) if n != 1]
        remaining = iter(coordinates)
        return ctx.evaluate(x, tuple(0 if n == 1 else next(remaining) for n in shape_of(x)))
    # The source is in a buffer: its elements are in the order of the result's, so only the strides differ.
    buffer = ctx.buffers[x]
    return read_buffer(ctx, type(buffer)(buffer.pointer, buffer.dtype, row_major(shape_of(result))), position)


def _gather(ctx: Context, x: Value, positions: Value, axis: int, position: Position) -> Reg | Index:
    e = ctx.emitter
    if x in ctx.scalars:
        return ctx.scalars[x]
    buffer = ctx.buffers[x]
    base: Int = 0
    stride: Int = 0
    lanes = 0
    for i, (coordinate, step) in enumerate(zip(position, buffer.strides, strict=True)):
        if isinstance(coordinate, Lane):
            lanes = coordinate.lanes
        if i == axis:
            continue
        if isinstance(coordinate, Lane):
            base, stride = e.add(base, e.mul(coordinate.base, step)), e.add(stride, step)
        else:
            base = e.add(base, e.mul(coordinate, step))
    chosen = ctx.index(positions, position)
    step = buffer.strides[axis]
    if isinstance(chosen, Index):
        offsets = Index(e.add(base, e.mul(chosen.base, step)), e.add(stride, e.mul(chosen.stride, step)), lanes)
        vector = ctx.index_register(offsets, lanes)
    else:
        vector = e.op("mul", chosen, e.splat(Reg(str(step), "i64"), lanes))
        vector = e.op("add", vector, ctx.index_register(Index(base, stride, lanes), lanes))
    type_, width = memory_type(buffer.dtype), max(1, buffer.dtype.bits // 8)
    if lanes:
        value = gather(ctx, buffer.pointer, vector, type_, width, TRUE, Reg("poison", type_, lanes), "")
    else:
        value = e.load(e.offset(buffer.pointer, e.mul(vector, width)), type_, 0, width, ctx.scratch_metadata)
    if buffer.dtype.is_bool:
        value = e.compare("icmp", "ne", value, _same(ctx, Reg("0", "i8"), value))
    return index_of(value) if buffer.dtype.kind is Kind.INDEX and not lanes else value


def _philox(ctx: Context, seed: Reg, counter: Reg) -> Reg:
    """First word of Philox-4x32-10 with key `seed` and counter (`counter`, 0), both u64."""
    e = ctx.emitter
    lanes = counter.lanes

    def halves(x: Reg) -> tuple[Reg, Reg]:
        high = e.op("lshr", x, _same(ctx, Reg("32", "i64"), x))
        return e.convert("trunc", x, "i32"), e.convert("trunc", high, "i32")

    def constant(value: int, type_: str) -> Reg:
        scalar = Reg(str(value), type_)
        return e.splat(scalar, lanes) if lanes else scalar

    def multiply(x: Reg, factor: int) -> tuple[Reg, Reg]:
        low, high = halves(e.op("mul", e.convert("zext", x, "i64"), constant(factor, "i64")))
        return high, low

    c0, c1 = halves(counter)
    c2 = c3 = constant(0, "i32")
    k0, k1 = halves(seed)
    for round_ in range(10):
        if round_:
            k0 = e.op("add", k0, Reg(str(0x9E3779B9), "i32"))
            k1 = e.op("add", k1, Reg(str(0xBB67AE85), "i32"))
        high0, low0 = multiply(c0, 0xD2511F53)
        high1, low1 = multiply(c2, 0xCD9E8D57)
        key0, key1 = (e.splat(k, lanes) if lanes else k for k in (k0, k1))
        c0, c1, c2, c3 = (
            e.op("xor", e.op("xor", high1, c1), key0), low1, e.op("xor", e.op("xor", high0, c3), key1), low0,
        )  # fmt: skip
    return c0
