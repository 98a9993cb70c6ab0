"""Matrix products of tiles: operands are packed into scratch memory, then a register-tiled micro-kernel runs over them.

Two forms. *Inner*: both operands run along k, every accumulator is a vector of partial sums, added up at the end
by a tree that transposes on the way; for `x @ w.T`, where both have k last in memory. *Outer*: b runs along n, an
element of a is broadcast against a vector of b. Both use the bf16 dot product instruction where both operands are bf16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zellige.backends.cpu.context import Buffer, Context, Lane, Position, lanes_of, nest, pieces, row_major, vector_axis
from zellige.backends.cpu.convert import cast, memory_type
from zellige.backends.cpu.emit import Int, Reg
from zellige.backends.cpu.memory import write_buffer
from zellige.backends.cpu.plan import is_unit_reshape, shape_of
from zellige.backends.cpu.versions import step_lanes, versioned
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType
from zellige.ir.ops import Value

_LANEWISE = (ops.Unary, ops.Binary, ops.Select, ops.Cast, ops.Bitcast)


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
        case ops.Binary(x=x, y=y) | ops.Select(x=x, y=y):
            first = _contiguous(ctx, x)
            return first if first is not None else _contiguous(ctx, y)
    return None


@dataclass(frozen=True, slots=True)
class _Product:
    """A batch of M×K by K×N products: element types in scratch, and the form of the micro-kernel."""

    m: int
    n: int
    k: int
    packed: DType
    out: DType
    inner: bool
    pairs: bool
    """bf16 elements taken two by two along k (the dot product instruction)."""


def lower_dot(ctx: Context, op: ops.Dot, buffer: Buffer, start: Callable[[], None]) -> None:
    """acc + a·b into `buffer`; `start` writes acc there, after the operands have been read."""
    *batch, m, k = shape_of(op.a)
    n = shape_of(op.b)[-1]
    out = op.acc.type.dtype
    both_bf16 = op.a.type.dtype is dtypes.bf16 and op.b.type.dtype is dtypes.bf16
    pairs = both_bf16 and out is dtypes.f32 and ctx.target.bf16_dot
    rank = op.b.type.rank
    inner = out is dtypes.f32 and contiguous_axis(ctx, op.b) == rank - 2 and k > 1 and n > 0
    product = _Product(m, n, k, dtypes.bf16 if pairs else out, out, inner, pairs)
    a = _pack_rows(ctx, op.a, product, transposed=False)
    b = _pack_rows(ctx, op.b, product, transposed=True) if inner else _pack_columns(ctx, op.b, product)
    start()
    e = ctx.emitter

    def one(offsets: tuple[Int, Int, Int]) -> None:
        (_inner if inner else _outer)(ctx, product, a, b, buffer, offsets)

    count = 1
    for extent in batch:
        count *= extent
    a_size = m * a.strides[-2]
    b_size = n * b.strides[-2] if inner else _padded(k, 2 if pairs else 1) * n

    def batches(i: Int, _: list[Reg]) -> tuple[()]:
        one((e.mul(i, a_size), e.mul(i, b_size), e.mul(i, m * n)))
        return ()

    e.loop(0, count, 1, (), batches)


def _padded(extent: int, multiple: int) -> int:
    return -(-extent // multiple) * multiple


def _k_step(ctx: Context, product: _Product) -> int:
    """Elements of one vector along k."""
    return ctx.target.lanes * (2 if product.pairs else 1)


def _pack_rows(ctx: Context, value: Value, product: _Product, *, transposed: bool) -> Buffer:
    """a as (…, M, K), or b as (…, N, K) if `transposed`, with k padded by zeros to whole vectors in the inner form."""
    shape = shape_of(value)
    rank = len(shape)
    swap = rank - 1, rank - 2
    stored = (*shape[:-2], shape[-1], shape[-2]) if transposed else shape
    k = stored[-1]
    multiple = _k_step(ctx, product) if product.inner else 2 if product.pairs else 1
    padded = _padded(k, multiple)
    key = (value, product.packed, multiple, transposed)
    ready = _in_place(ctx, value, product, transposed=transposed) if padded == k else None
    if ready is not None:
        return ready
    if key in ctx.packed:
        return ctx.packed[key]
    strides = row_major((*stored[:-1], padded))
    room = ctx.new_buffer(product.packed, (*stored[:-1], padded))
    target_strides = list(strides)
    if transposed:
        target_strides[swap[0]], target_strides[swap[1]] = strides[swap[1]], strides[swap[0]]
    target = Buffer(room.pointer, product.packed, tuple(target_strides))
    _copy(ctx, value, target)
    if padded != k:
        _zero_tail(ctx, Buffer(room.pointer, product.packed, strides), stored, k, padded)
    ctx.packed[key] = Buffer(room.pointer, product.packed, strides)
    return ctx.packed[key]


def _in_place(ctx: Context, value: Value, product: _Product, *, transposed: bool) -> Buffer | None:
    """The buffer that holds an operand already as the micro-kernel wants it."""
    if transposed:
        op = ctx.definitions.get(value)
        swapped = (*range(value.type.rank - 2), value.type.rank - 1, value.type.rank - 2)
        if value in ctx.buffers or not isinstance(op, ops.Transpose) or op.permutation != swapped:
            return None
        value = op.x
    buffer = ctx.buffers.get(value)
    return buffer if buffer is not None and buffer.dtype is product.packed else None


def _copy(ctx: Context, value: Value, target: Buffer) -> None:
    """All elements of an operand, converted to the packed type, where `target` has them."""
    source = value.type.dtype

    def loops() -> list[Reg]:
        def step(position: Position) -> None:
            register = cast(ctx.emitter, ctx.value(value, position), source, target.dtype, ctx.target)
            write_buffer(ctx, target, position, register)

        nest(ctx, shape_of(value), contiguous_axis(ctx, value), step, *step_lanes(ctx, [value]))
        return []

    with ctx.region():
        versioned(ctx, [value], (), loops)


def _zero(dtype: DType) -> Reg:
    type_ = memory_type(dtype)
    return Reg("0.0" if type_ in ("float", "double") else "0", type_)


def _zero_tail(ctx: Context, buffer: Buffer, shape: tuple[int, ...], k: int, padded: int) -> None:
    """Zeros after the last element of each row."""
    outer = (*shape[:-1], 1)

    def step(position: Position) -> None:
        for tail in range(k, padded):
            write_buffer(ctx, buffer, (*position[:-1], tail), _zero(buffer.dtype))

    nest(ctx, outer, len(outer) - 1, step, 1)


def _pack_columns(ctx: Context, value: Value, product: _Product) -> Buffer:
    """b as (…, K, N), or for pairs as (…, K/2, N, 2): two neighbours along k side by side."""
    shape = shape_of(value)
    *batch, k, n = shape
    if not product.pairs:
        buffer = ctx.new_buffer(product.packed, shape)
        _copy(ctx, value, buffer)
        return buffer
    e = ctx.emitter
    rows = _padded(k, 2)
    room = ctx.new_buffer(dtypes.bf16, (*batch, rows, n))
    paired = Buffer(room.pointer, dtypes.i32, row_major((*batch, rows // 2, n)))  # one i32 holds the two

    def loops() -> list[Reg]:
        def step(position: Position) -> None:
            row = position[-2]
            assert not isinstance(row, Lane)
            lanes = lanes_of(position)
            first = e.mul(row, 2)
            upper = ctx.value(value, (*position[:-2], first, position[-1]))
            lower_place = (*position[:-2], e.add(first, 1), position[-1])
            lower = ctx.value(value, lower_place)
            _write_pair(ctx, paired, position, upper, lower, lanes)

        nest(ctx, (*batch, k // 2, n), len(shape) - 1, step, ctx.vector)
        if k % 2:

            def last(position: Position) -> None:
                upper = ctx.value(value, (*position[:-2], k - 1, position[-1]))
                place = (*position[:-2], k // 2, position[-1])
                _write_pair(ctx, paired, place, upper, Reg("0", "i16"), lanes_of(position))

            nest(ctx, (*batch, 1, n), len(shape) - 1, last, ctx.vector)
        return []

    with ctx.region():
        versioned(ctx, [value], (), loops)
    return Buffer(room.pointer, dtypes.bf16, row_major((*batch, rows, n)))


def _write_pair(ctx: Context, paired: Buffer, position: Position, first: Reg, second: Reg, lanes: int) -> None:
    e = ctx.emitter
    low = e.convert("zext", e.splat(first, lanes) if lanes else first, "i32")
    high = e.convert("zext", e.splat(second, lanes) if lanes else second, "i32")
    sixteen = e.splat(Reg("16", "i32"), lanes) if lanes else Reg("16", "i32")
    write_buffer(ctx, paired, position, e.op("or", low, e.op("shl", high, sixteen)))


# --- micro-kernels


def _element(ctx: Context, buffer: Buffer, offset: Int, lanes: int) -> Reg:
    """A vector of packed elements from an offset in elements."""
    e = ctx.emitter
    width = buffer.dtype.bits // 8
    return e.load(
        e.offset(buffer.pointer, e.mul(offset, width)), memory_type(buffer.dtype), lanes, width, ctx.scratch_metadata
    )


def _multiply_add(ctx: Context, product: _Product, acc: Reg, x: Reg, y: Reg) -> Reg:
    """acc + x·y per lane; with pairs, acc + x₀·y₀ + x₁·y₁."""
    e = ctx.emitter
    if not product.pairs:
        if product.out.is_float:
            return e.fop("fadd", e.fop("fmul", x, y), acc)
        return e.op("add", e.op("mul", x, y), acc)
    bits = {4: 128, 8: 256, 16: 512}[acc.lanes]
    x, y = (e.inst(f"bitcast {v} to <{2 * acc.lanes} x bfloat>", "bfloat", 2 * acc.lanes) for v in (x, y))
    return e.call(f"llvm.x86.avx512bf16.dpbf16ps.{bits}", "float", acc.lanes, acc, x, y)


def _row_blocks(extent: int, size: int) -> list[tuple[int, int, int]]:
    whole = extent // size * size
    found = [(0, whole, size)] if whole else []
    return found + ([(whole, extent, extent - whole)] if extent > whole else [])


def _inner(ctx: Context, p: _Product, a: Buffer, b: Buffer, out: Buffer, offsets: tuple[Int, Int, Int]) -> None:
    """Blocks of 4×4 dot products (1×8 for a single row) along k."""
    e = ctx.emitter
    step = _k_step(ctx, p)
    lanes = ctx.target.lanes
    rows = min(p.m, 4 if ctx.target.vectors == 32 else 2)
    columns = 8 if rows == 1 else 4
    k = a.strides[-2]

    def block(m0: Int, n0: Int, mr: int, nr: int) -> None:
        a_rows = [e.add(offsets[0], e.mul(e.add(m0, i), k)) for i in range(mr)]
        b_rows = [e.add(offsets[1], e.mul(e.add(n0, j), k)) for j in range(nr)]

        def along(i: Int, accs: list[Reg]) -> list[Reg]:
            ys = [_element(ctx, b, e.add(row, i), step) for row in b_rows]
            result = []
            for r, row in enumerate(a_rows):
                x = _element(ctx, a, e.add(row, i), step)
                result += [_multiply_add(ctx, p, accs[r * nr + c], x, y) for c, y in enumerate(ys)]
            return result

        zero = Reg("zeroinitializer", "float", lanes)
        accs = e.loop(0, k, step, [zero] * (mr * nr), along)
        totals = sum_each(ctx, accs)
        width = totals.lanes
        for r in range(mr):
            place = e.add(offsets[2], e.add(e.mul(e.add(m0, r), p.n), n0))
            pointer = e.offset(out.pointer, e.mul(place, 4))
            whole = nr if nr & (nr - 1) == 0 else 0
            if whole and width >= nr:
                part = totals if width == nr else e.shuffle(totals, None, range(r * nr, (r + 1) * nr))
                old = e.load(pointer, "float", nr, 4, ctx.scratch_metadata)
                e.store(e.fop("fadd", old, part), pointer, 4, ctx.scratch_metadata)
                continue
            for c in range(nr):
                at = e.offset(pointer, 4 * c)
                old = e.load(at, "float", 0, 4, ctx.scratch_metadata)
                e.store(e.fop("fadd", old, e.extract(totals, r * nr + c)), at, 4, ctx.scratch_metadata)

    for n_lower, n_upper, nr in _row_blocks(p.n, columns):

        def over_n(n0: Int, _: list[Reg], nr: int = nr) -> tuple[()]:
            for m_lower, m_upper, mr in _row_blocks(p.m, rows):

                def over_m(m0: Int, _: list[Reg], mr: int = mr) -> tuple[()]:
                    block(m0, n0, mr, nr)
                    return ()

                e.loop(m_lower, m_upper, mr, (), over_m)
            return ()

        e.loop(n_lower, n_upper, nr, (), over_n)


def sum_each(ctx: Context, vectors: list[Reg]) -> Reg:
    """One vector whose lane i is the sum of the lanes of vectors[i] (padded to a power of two).

    Each round adds the halves of every group of lanes; two vectors share one afterwards, so the work of a round halves.
    """
    e = ctx.emitter
    lanes = vectors[0].lanes
    count = 1
    while count < len(vectors):
        count *= 2
    zero = Reg("zeroinitializer", vectors[0].type, lanes)
    current = vectors + [zero] * (count - len(vectors))
    group = lanes  # lanes that belong to one sum
    while group > 1:
        half = group // 2
        low = [g + i for g in range(0, lanes, group) for i in range(half)]
        high = [i + half for i in low]
        if len(current) > 1:
            pairs = zip(current[::2], current[1::2], strict=True)
            current = [
                e.fop(
                    "fadd",
                    e.shuffle(x, y, low + [i + lanes for i in low]),
                    e.shuffle(x, y, high + [i + lanes for i in high]),
                )
                for x, y in pairs
            ]
        else:
            (x,) = current
            current = [e.fop("fadd", e.shuffle(x, None, low), e.shuffle(x, None, high))]
            lanes //= 2
        group = half
    if len(current) > 1:
        current = [e.concatenate(current)]
    return current[0]


def _outer(ctx: Context, p: _Product, a: Buffer, b: Buffer, out: Buffer, offsets: tuple[Int, Int, Int]) -> None:
    """Blocks of rows × vectors along n; each step of k broadcasts an element (or pair) of a."""
    e = ctx.emitter
    lanes = ctx.target.lanes * 4 // max(1, p.out.bits // 32)
    type_ = memory_type(p.out)
    width = p.out.bits // 8
    k = a.strides[-2]
    per_step = 2 if p.pairs else 1

    def block(m0: Int, n0: Int, mr: int, w: int) -> None:
        a_rows = [e.add(offsets[0], e.mul(e.add(m0, r), k)) for r in range(mr)]
        pointers = []
        for r in range(mr):
            place = e.add(offsets[2], e.add(e.mul(e.add(m0, r), p.n), n0))
            pointers.append(e.offset(out.pointer, e.mul(place, width)))
        vector = w if w > 1 else 0
        accs = [e.load(at, type_, vector, width, ctx.scratch_metadata) for at in pointers]
        parts = [_split(ctx, acc, p) for acc in accs]
        count = len(parts[0])

        def along(i: Int, flat: list[Reg]) -> list[Reg]:
            row = e.add(offsets[1], e.add(e.mul(i, p.n), e.mul(n0, per_step)))
            y = _element(ctx, b, row, w * per_step if w * per_step > 1 else 0)
            ys = _split_operand(ctx, y, p, count)
            result = []
            for r, start in enumerate(a_rows):
                x = _broadcast_a(ctx, p, a, e.add(start, i), flat[0].lanes)
                result += [_multiply_add(ctx, p, flat[r * count + c], x, ys[c]) for c in range(count)]
            return result

        flat = e.loop(0, k, per_step, [part for group in parts for part in group], along)
        for r, at in enumerate(pointers):
            group = flat[r * count : (r + 1) * count]
            total = e.concatenate(group) if count > 1 else group[0]
            if total.lanes > max(1, w):
                total = e.shuffle(total, None, range(w)) if w > 1 else e.extract(total, 0)
            e.store(total, at, width, ctx.scratch_metadata)

    for n_lower, n_upper, w in pieces(p.n, lanes):
        registers = max(1, w * p.out.bits // ctx.target.vector_bits)  # of one row of accumulators, and of b
        rows = max(1, min(8, (ctx.target.vectors - registers - 1) // registers))
        for m_lower, m_upper, mr in _row_blocks(p.m, min(p.m, rows) or 1):

            def over_n(
                n0: Int, _: list[Reg], w: int = w, mr: int = mr, m: tuple[int, int] = (m_lower, m_upper)
            ) -> tuple[()]:
                def over_m(m0: Int, _: list[Reg]) -> tuple[()]:
                    block(m0, n0, mr, w)
                    return ()

                e.loop(m[0], m[1], mr, (), over_m)
                return ()

            e.loop(n_lower, n_upper, w, (), over_n)


def _split(ctx: Context, acc: Reg, p: _Product) -> list[Reg]:
    """An accumulator as vectors that the dot product instruction takes (4, 8 or 16 lanes); itself without pairs."""
    if not p.pairs:
        return [acc]
    e = ctx.emitter
    if acc.lanes < 4:
        zero = Reg("zeroinitializer", "float", 4)
        if not acc.lanes:
            return [e.inst(f"insertelement {zero}, {acc}, i64 0", "float", 4)]
        return [
            e.shuffle(
                acc, Reg("zeroinitializer", "float", acc.lanes), [*range(acc.lanes), *[acc.lanes] * (4 - acc.lanes)]
            )
        ]
    size = min(16, acc.lanes)
    if size == acc.lanes:
        return [acc]
    return [e.shuffle(acc, None, range(i, i + size)) for i in range(0, acc.lanes, size)]


def _split_operand(ctx: Context, y: Reg, p: _Product, count: int) -> list[Reg]:
    if not p.pairs:
        return [y]
    e = ctx.emitter
    if y.lanes < 8:
        zeros = Reg("zeroinitializer", y.type, y.lanes)
        return [e.shuffle(y, zeros, [*range(y.lanes), *[y.lanes] * (8 - y.lanes)])]
    size = y.lanes // count
    return [y] if count == 1 else [e.shuffle(y, None, range(i * size, (i + 1) * size)) for i in range(count)]


def _broadcast_a(ctx: Context, p: _Product, a: Buffer, offset: Int, lanes: int) -> Reg:
    """An element of a in every lane; with pairs, two neighbours along k in every 32 bits."""
    e = ctx.emitter
    if not p.pairs:
        x = _element(ctx, a, offset, 0)
        return e.splat(x, lanes) if lanes else x
    pair = e.load(e.offset(a.pointer, e.mul(offset, 2)), "i32", 0, 2, ctx.scratch_metadata)
    return e.inst(f"bitcast {e.splat(pair, lanes)} to <{2 * lanes} x i16>", "i16", 2 * lanes)
