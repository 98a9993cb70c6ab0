"""Products of i8 with i32 sums, by instructions that add up several neighbours along k at once; both operands lie along k.

x86's instruction (AVX-512 VNNI, AVX-VNNI) multiplies unsigned by signed bytes: the left operand is taken as x + 128, which flipping
its top bit gives, and 128·Σy is taken off, which the same instruction counts. All sums are exact modulo 2³².
"""

from __future__ import annotations

from dataclasses import dataclass

from zellige.backends.cpu.context import Buffer, Context, row_blocks
from zellige.backends.cpu.emit import Int, Reg
from zellige.backends.cpu.microkernels import Product, each_block, element, k_step, put, sum_each
from zellige.backends.cpu.target import ByteDot
from zellige.ir import dtypes, ops


def suits(ctx: Context, op: ops.Dot) -> bool:
    """Whether the target has an instruction for this product."""
    types = (op.a.type.dtype, op.b.type.dtype, op.acc.type.dtype)
    return types == (dtypes.i8, dtypes.i8, dtypes.i32) and ctx.target.byte_dot is not ByteDot.NONE


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of a and of b (which are the output's columns) that are multiplied together, at their offsets."""

    m: Int
    n: Int
    a_rows: list[Int]
    b_rows: list[Int]


def bytes_inner(ctx: Context, p: Product, a: Buffer, b: Buffer, out: Buffer, offsets: tuple[Int, Int, Int]) -> None:
    """Blocks of the output: 4×4, or 2×4 with 16 registers (1×8 for a single row), or 4×8 where an instruction makes 2×2 of it."""
    e = ctx.emitter
    squares = ctx.target.byte_dot is ByteDot.I8MM and p.m > 1
    rows = min(p.m, 4 if ctx.target.vectors == 32 else 2)
    columns = 8 if squares or rows == 1 else 4

    def block(m0: Int, n0: Int, mr: int, nr: int) -> None:
        a_rows = [e.add(offsets[0], e.mul(e.add(m0, i), a.strides[-2])) for i in range(mr)]
        b_rows = [e.add(offsets[1], e.mul(e.add(n0, j), b.strides[-2])) for j in range(nr)]
        made = (_squares if squares else _vectors)(ctx, p, a, b, _Block(m0, n0, a_rows, b_rows))
        for r in range(mr):
            place = e.add(offsets[2], e.add(e.mul(e.add(m0, r), p.n), n0))
            for c in range(nr):
                put(ctx, p, made[r][c], e.offset(out.pointer, e.mul(e.add(place, c), 4)))

    each_block(ctx, row_blocks(p.n, columns), row_blocks(p.m, rows), block)


def _vectors(ctx: Context, p: Product, a: Buffer, b: Buffer, block: _Block) -> list[list[Reg]]:
    """Every accumulator is a vector of partial sums."""
    e = ctx.emitter
    step, lanes = k_step(ctx, p), ctx.target.lanes
    mr, nr = len(block.a_rows), len(block.b_rows)
    shifted = ctx.target.byte_dot is ByteDot.VNNI
    top = Reg("splat (i8 -128)", "i8", step)

    def along(i: Int, sums: list[Reg]) -> list[Reg]:
        ys = [element(ctx, b, e.add(row, i), step) for row in block.b_rows]
        result = []
        for r, row in enumerate(block.a_rows):
            x = element(ctx, a, e.add(row, i), step)
            x = e.op("xor", x, top) if shifted else x
            result += [_multiply_add(ctx, sums[r * nr + c], x, y) for c, y in enumerate(ys)]
        if shifted:
            result += [_multiply_add(ctx, sums[mr * nr + c], top, y) for c, y in enumerate(ys)]
        return result

    zero = Reg("zeroinitializer", "i32", lanes)
    sums = e.loop(0, p.k, step, [zero] * (mr * nr + (nr if shifted else 0)), along)
    if shifted:
        sums = [e.op("sub", sums[r * nr + c], sums[mr * nr + c]) for r in range(mr) for c in range(nr)]
    totals = sum_each(ctx, sums)
    return [[e.extract(totals, r * nr + c) for c in range(nr)] for r in range(mr)]


def _multiply_add(ctx: Context, acc: Reg, x: Reg, y: Reg) -> Reg:
    """acc + Σ of four neighbouring products, for each lane of acc."""
    e = ctx.emitter
    if ctx.target.byte_dot is ByteDot.VNNI:
        return e.call(f"llvm.x86.avx512.vpdpbusd.{ctx.target.vector_bits}", "i32", acc.lanes, acc, x, y)
    return e.call("llvm.aarch64.neon.sdot.v4i32.v16i8", "i32", 4, acc, x, y)


def _squares(ctx: Context, p: Product, a: Buffer, b: Buffer, block: _Block) -> list[list[Reg]]:
    """Every accumulator is a 2×2 part of the output; rows are taken two by two, eight bytes of each in a register."""
    e = ctx.emitter
    step = k_step(ctx, p)
    mr, nr = len(block.a_rows), len(block.b_rows)
    across = -(-nr // 2)

    def paired(buffer: Buffer, rows: list[Int], i: Int) -> list[tuple[Reg, Reg]]:
        """Of each two rows (the last one twice if it is alone), bytes 0 to 7 of both and bytes 8 to 15 of both."""
        loaded = [element(ctx, buffer, e.add(row, i), step) for row in rows]
        both = [(loaded[r], loaded[min(r + 1, len(rows) - 1)]) for r in range(0, len(rows), 2)]
        low, high = [*range(8), *range(16, 24)], [*range(8, 16), *range(24, 32)]
        return [(e.shuffle(x, y, low), e.shuffle(x, y, high)) for x, y in both]

    def along(i: Int, sums: list[Reg]) -> list[Reg]:
        ys = paired(b, block.b_rows, i)
        result = []
        for r, x in enumerate(paired(a, block.a_rows, i)):
            for c, y in enumerate(ys):
                total = sums[r * across + c]
                for half in (0, 1):
                    total = e.call("llvm.aarch64.neon.smmla.v4i32.v16i8", "i32", 4, total, x[half], y[half])
                result.append(total)
        return result

    zero = Reg("zeroinitializer", "i32", 4)
    sums = e.loop(0, p.k, step, [zero] * (-(-mr // 2) * across), along)
    return [[e.extract(sums[r // 2 * across + c // 2], r % 2 * 2 + c % 2) for c in range(nr)] for r in range(mr)]
