"""Register-tiled products over packed operands: what runs innermost, in vector registers.

*Inner*: both operands along k; every accumulator is a vector of partial sums, added up at the end by a tree that transposes
on the way. *Outer*: b along n; an element of a is broadcast against a vector of b. *Panels*: the same for pairs of bf16,
with b in panels of 16 columns. Matrix registers are in tiles.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from zellige.backends.cpu.context import Buffer, Context, pieces, row_blocks
from zellige.backends.cpu.convert import memory_type
from zellige.backends.cpu.emit import Int, Reg
from zellige.ir.dtypes import DType

PANEL = 16
"""Columns of a panel, and rows of a tile."""


class Form(Enum):
    """How a product runs; says how its operands are packed."""

    INNER = "inner"
    BYTES = "bytes, inner"
    OUTER = "outer"
    PANELS = "panels"
    TILES = "tiles"
    TILES_SWAPPED = "tiles, swapped"
    """(b·a)ᵀ: b's rows are tiles as they are, and a is in panels."""

    @property
    def in_panels(self) -> bool:
        return self in (Form.PANELS, Form.TILES, Form.TILES_SWAPPED)


@dataclass(frozen=True, slots=True)
class Product:
    """A batch of M×K by K×N products: element types in scratch, and the form of the micro-kernel."""

    m: int
    n: int
    k: int
    packed: DType
    out: DType
    form: Form
    pairs: bool
    """bf16 elements taken two by two along k (the dot product instruction)."""
    fresh: bool
    """The accumulator is 0: results are stored, not added to what the output holds."""


def k_step(ctx: Context, product: Product) -> int:
    """Elements of one vector along k."""
    return ctx.target.vector_bits // product.packed.bits


def element(ctx: Context, buffer: Buffer, offset: Int, lanes: int) -> Reg:
    """A vector of packed elements from an offset in elements."""
    e = ctx.emitter
    width = buffer.dtype.bits // 8
    return e.load(
        e.offset(buffer.pointer, e.mul(offset, width)), memory_type(buffer.dtype), lanes, width, ctx.scratch_metadata
    )


def _multiply_add(ctx: Context, product: Product, acc: Reg, x: Reg, y: Reg) -> Reg:
    """acc + x·y per lane; with pairs, acc + x₀·y₀ + x₁·y₁."""
    e = ctx.emitter
    if not product.pairs:
        if product.out.is_float:
            return e.fop("fadd", e.fop("fmul", x, y), acc)
        return e.op("add", e.op("mul", x, y), acc)
    x, y = (e.inst(f"bitcast {v} to <{2 * acc.lanes} x bfloat>", "bfloat", 2 * acc.lanes) for v in (x, y))
    if ctx.target.arm:  # one register a call
        quarters = [(e.part(acc, i, 4), e.part(x, 2 * i, 8), e.part(y, 2 * i, 8)) for i in range(0, acc.lanes, 4)]
        return e.concatenate([e.call("llvm.aarch64.neon.bfdot.v4f32.v8bf16", "float", 4, *q) for q in quarters])
    bits = {4: 128, 8: 256, 16: 512}[acc.lanes]
    return e.call(f"llvm.x86.avx512bf16.dpbf16ps.{bits}", "float", acc.lanes, acc, x, y)


def each_block(
    ctx: Context, across: Sequence[tuple[int, int, int]], down: Sequence[tuple[int, int, int]],
    block: Callable[[Int, Int, int, int], None],
) -> None:  # fmt: skip
    """Runs ``block(m0, n0, rows, columns)`` over all blocks of an output, given as ranges of columns and of rows; rows vary fastest."""
    e = ctx.emitter
    for n_lower, n_upper, columns in across:

        def over_n(n0: Int, _: list[Reg], columns: int = columns) -> tuple[()]:
            for m_lower, m_upper, rows in down:

                def over_m(m0: Int, _: list[Reg], rows: int = rows) -> tuple[()]:
                    block(m0, n0, rows, columns)
                    return ()

                e.loop(m_lower, m_upper, rows, (), over_m)
            return ()

        e.loop(n_lower, n_upper, columns, (), over_n)


def put(ctx: Context, product: Product, total: Reg, pointer: Reg) -> None:
    """Adds finished sums to the output, or stores them if there is nothing to add to."""
    e = ctx.emitter
    width = product.out.bits // 8
    if not product.fresh:
        old = e.load(pointer, total.type, total.lanes, width, ctx.scratch_metadata)
        total = e.fop("fadd", old, total) if product.out.is_float else e.op("add", old, total)
    e.store(total, pointer, width, ctx.scratch_metadata)


def put_some(ctx: Context, product: Product, total: Reg, pointer: Reg, count: int) -> None:
    """``put`` of the first ``count`` lanes."""
    e = ctx.emitter
    for first, upper, width in pieces(count, total.lanes):
        for lane in range(first, upper, width):
            part = e.extract(total, lane) if width == 1 else e.part(total, lane, width)
            put(ctx, product, part, e.offset(pointer, lane * product.out.bits // 8))


# --- both operands along k


def inner(ctx: Context, p: Product, a: Buffer, b: Buffer, out: Buffer, offsets: tuple[Int, Int, Int]) -> None:
    """Blocks of 4×4 dot products (1×8 for a single row) along k."""
    e = ctx.emitter
    step = k_step(ctx, p)
    lanes = ctx.target.lanes
    rows = min(p.m, 4 if ctx.target.vectors == 32 else 2)
    columns = 8 if rows == 1 else 4

    def block(m0: Int, n0: Int, mr: int, nr: int) -> None:
        a_rows = [e.add(offsets[0], e.mul(e.add(m0, i), a.strides[-2])) for i in range(mr)]
        b_rows = [e.add(offsets[1], e.mul(e.add(n0, j), b.strides[-2])) for j in range(nr)]

        def along(i: Int, accs: list[Reg]) -> list[Reg]:
            ys = [element(ctx, b, e.add(row, i), step) for row in b_rows]
            result = []
            for r, row in enumerate(a_rows):
                x = element(ctx, a, e.add(row, i), step)
                result += [_multiply_add(ctx, p, accs[r * nr + c], x, y) for c, y in enumerate(ys)]
            return result

        zero = Reg("zeroinitializer", "float", lanes)
        accs = e.loop(0, p.k, step, [zero] * (mr * nr), along)
        totals = sum_each(ctx, accs)
        width = totals.lanes
        for r in range(mr):
            place = e.add(offsets[2], e.add(e.mul(e.add(m0, r), p.n), n0))
            pointer = e.offset(out.pointer, e.mul(place, 4))
            whole = nr if nr & (nr - 1) == 0 else 0
            if whole and width >= nr:
                part = totals if width == nr else e.shuffle(totals, None, range(r * nr, (r + 1) * nr))
                put(ctx, p, part, pointer)
                continue
            for c in range(nr):
                put(ctx, p, e.extract(totals, r * nr + c), e.offset(pointer, 4 * c))

    each_block(ctx, row_blocks(p.n, columns), row_blocks(p.m, rows), block)


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
    add = e.op if vectors[0].type == "i32" else e.fop
    opcode = "add" if vectors[0].type == "i32" else "fadd"
    current = vectors + [zero] * (count - len(vectors))
    group = lanes  # lanes that belong to one sum
    while group > 1:
        half = group // 2
        low = [g + i for g in range(0, lanes, group) for i in range(half)]
        high = [i + half for i in low]
        if len(current) > 1:
            pairs = zip(current[::2], current[1::2], strict=True)
            current = [
                add(
                    opcode,
                    e.shuffle(x, y, low + [i + lanes for i in low]),
                    e.shuffle(x, y, high + [i + lanes for i in high]),
                )
                for x, y in pairs
            ]
        else:
            (x,) = current
            current = [add(opcode, e.shuffle(x, None, low), e.shuffle(x, None, high))]
            lanes //= 2
        group = half
    if len(current) > 1:
        current = [e.concatenate(current)]
    return current[0]


# --- b along n


def outer(ctx: Context, p: Product, a: Buffer, b: Buffer, out: Buffer, offsets: tuple[Int, Int, Int]) -> None:
    """Blocks of rows × vectors along n; each step of k broadcasts an element of a."""
    e = ctx.emitter
    lanes = ctx.target.lanes * 4 // max(1, p.out.bits // 32)
    type_ = memory_type(p.out)
    width = p.out.bits // 8

    def block(m0: Int, n0: Int, mr: int, w: int) -> None:
        a_rows = [e.add(offsets[0], e.mul(e.add(m0, r), a.strides[-2])) for r in range(mr)]
        vector = w if w > 1 else 0
        nothing = Reg("zeroinitializer" if vector else "0.0" if p.out.is_float else "0", type_, vector)

        def along(i: Int, accs: list[Reg]) -> list[Reg]:
            y = element(ctx, b, e.add(offsets[1], e.add(e.mul(i, p.n), n0)), vector)
            result = []
            for acc, row in zip(accs, a_rows, strict=True):
                x = element(ctx, a, e.add(row, i), 0)
                result.append(_multiply_add(ctx, p, acc, e.splat(x, vector) if vector else x, y))
            return result

        accs = e.loop(0, p.k, 1, [nothing] * mr, along)
        for r, total in enumerate(accs):
            place = e.add(offsets[2], e.add(e.mul(e.add(m0, r), p.n), n0))
            put(ctx, p, total, e.offset(out.pointer, e.mul(place, width)))

    for n_lower, n_upper, w in pieces(p.n, lanes):
        registers = max(1, w * p.out.bits // ctx.target.vector_bits)  # of one row of accumulators, and of b
        rows = max(1, min(8, (ctx.target.vectors - registers - 1) // registers))
        for some in row_blocks(p.m, min(p.m, rows) or 1):
            each_block(ctx, [(n_lower, n_upper, w)], [some], block)


_ROWS_OF_PANELS = 12


def panels(ctx: Context, p: Product, a: Buffer, b: Buffer, out: Buffer, offsets: tuple[Int, Int, Int]) -> None:
    """Blocks of up to 12 rows × 2 panels; each step of k broadcasts a pair of a against 16 pairs of b."""
    e = ctx.emitter
    size = b.strides[-2]  # of a panel, in elements
    parts = -(-p.m // _ROWS_OF_PANELS)
    rows = -(-p.m // parts) if parts else 1

    def block(m0: Int, c0: Int, mr: int, columns: list[int]) -> None:
        """Rows m0 … m0+mr−1 × the panels from c0, of which so many columns are the output's."""
        a_rows = [e.add(offsets[0], e.mul(e.add(m0, r), a.strides[-2])) for r in range(mr)]
        b_panels = [e.add(offsets[1], e.mul(e.add(c0, c), size)) for c in range(len(columns))]

        def along(i: Int, accs: list[Reg]) -> list[Reg]:
            ys = [element(ctx, b, e.add(panel, e.mul(i, PANEL)), 2 * PANEL) for panel in b_panels]
            result = []
            for r, row in enumerate(a_rows):
                at = e.offset(a.pointer, e.mul(e.add(row, i), 2))
                pair = e.load(at, "i32", 0, 2, ctx.scratch_metadata)
                x = e.inst(f"bitcast {e.splat(pair, PANEL)} to <{2 * PANEL} x i16>", "i16", 2 * PANEL)
                result += [_multiply_add(ctx, p, accs[r * len(ys) + c], x, y) for c, y in enumerate(ys)]
            return result

        zero = Reg("zeroinitializer", "float", PANEL)
        accs = e.loop(0, p.k, 2, [zero] * (mr * len(columns)), along)
        for r in range(mr):
            for c, count in enumerate(columns):
                column = e.mul(e.add(c0, c), PANEL)
                place = e.add(offsets[2], e.add(e.mul(e.add(m0, r), p.n), column))
                put_some(ctx, p, accs[r * len(columns) + c], e.offset(out.pointer, e.mul(place, 4)), count)

    for lower, upper, columns in panel_blocks(p.n):

        def those(m0: Int, c0: Int, mr: int, _: int, columns: list[int] = columns) -> None:
            block(m0, c0, mr, columns)

        each_block(ctx, [(lower, upper, len(columns))], row_blocks(p.m, rows), those)


def panel_blocks(columns: int) -> list[tuple[int, int, list[int]]]:
    """Ranges of panels taken two (or one) at a time, each with how many columns of its panels there are."""
    count, rest = divmod(columns, PANEL)
    found = []
    if count // 2:
        found.append((0, count // 2 * 2, [PANEL, PANEL]))
    last = [PANEL] * (count % 2) + ([rest] if rest else [])
    if last:
        found.append((count // 2 * 2, count // 2 * 2 + len(last), last))
    return found


def transposed(ctx: Context, rows: Iterable[Reg]) -> list[Reg]:
    """16 vectors of 16 lanes of 32 bits, transposed: pairs of lanes, of 64 bits, of 128 bits, of 256."""
    e = ctx.emitter
    r = list(rows)
    quads = range(0, 16, 4)
    low = [i for q in quads for i in (q, q + 16, q + 1, q + 17)]
    high = [i for q in quads for i in (q + 2, q + 18, q + 3, q + 19)]
    t = [e.shuffle(r[i & ~1], r[i | 1], high if i & 1 else low) for i in range(16)]
    low = [i for q in quads for i in (q, q + 1, q + 16, q + 17)]
    high = [i for q in quads for i in (q + 2, q + 3, q + 18, q + 19)]
    u = []  # u[4g + c]: of each quarter, column c of rows 4g … 4g+3
    for g in quads:
        for c in range(4):
            u.append(e.shuffle(t[g + c // 2], t[g + 2 + c // 2], high if c % 2 else low))
    even = [i for q in (0, 8, 16, 24) for i in range(q, q + 4)]
    odd = [i + 4 for i in even]
    found: list[Reg | None] = [None] * 16
    for c in range(4):
        upper = [e.shuffle(u[c], u[4 + c], order) for order in (even, odd)]
        lower = [e.shuffle(u[8 + c], u[12 + c], order) for order in (even, odd)]
        for half in range(2):
            found[4 * half + c] = e.shuffle(upper[half], lower[half], even)
            found[8 + 4 * half + c] = e.shuffle(upper[half], lower[half], odd)
    return [x for x in found if x is not None]
