"""Products in matrix registers (AMX): 16×32 by 32×16 bf16 into 16×16 f32, or 16×64 by 64×16 i8 into i32, one instruction.

The left operand's rows lie k-contiguous, the right one's pairs (or fours) along k in panels of 16 columns. One configuration serves a
whole kernel: eight registers of 16 rows of 64 bytes. It is loaded at the kernel's start and released at its end, so that
nobody else pays for saving them (Intel, Software Developer's Manual, volume 1, chapter 18).
"""

from __future__ import annotations

from zellige.backends.cpu.context import Buffer, Context
from zellige.backends.cpu.convert import memory_type
from zellige.backends.cpu.emit import Emitter, Int, Reg
from zellige.backends.cpu.memory import prefetch_line
from zellige.backends.cpu.microkernels import PANEL, Form, Product, k_step, panel_blocks, put_some, transposed

ROWS = 16
_TILE_BYTES = 1024
_MOST_AHEAD = 8
"""Lines that one step along k may ask for, beside its own loads of up to 64."""
_CONFIGURATION = (
    "@zellige_tiles = internal constant <{ i8, i8, [14 x i8], [8 x i16], [8 x i16], [8 x i8], [8 x i8] }> <{ "
    "i8 1, i8 0, [14 x i8] zeroinitializer, [8 x i16] [" + ", ".join(["i16 64"] * 8) + "], [8 x i16] zeroinitializer, "
    "[8 x i8] [" + ", ".join(["i8 16"] * 8) + "], [8 x i8] zeroinitializer }>, align 64"
)  # fmt: skip


def begin(e: Emitter) -> list[str]:
    """Instructions at the start of a kernel that uses tiles."""
    e.declare("void @llvm.x86.ldtilecfg(ptr)")
    e.globals.append(_CONFIGURATION)
    return ["  call void @llvm.x86.ldtilecfg(ptr @zellige_tiles)"]


def end(e: Emitter) -> list[str]:
    """Instructions at its end."""
    e.declare("void @llvm.x86.tilerelease()")
    return ["  call void @llvm.x86.tilerelease()"]


def _call(e: Emitter, name: str, types: str, arguments: str) -> None:
    e.declare(f"void @llvm.x86.{name}({types})")
    e.line(f"call void @llvm.x86.{name}({arguments})")


def _load(e: Emitter, tile: int, pointer: Reg, stride: Int) -> None:
    _call(e, "tileloadd64", "i8, ptr, i64", f"i8 {tile}, {pointer}, {e.i64(stride)}")


def _store(e: Emitter, tile: int, pointer: Reg, stride: Int) -> None:
    _call(e, "tilestored64", "i8, ptr, i64", f"i8 {tile}, {pointer}, {e.i64(stride)}")


def tiles(ctx: Context, p: Product, a: Buffer, b: Buffer, out: Buffer, offsets: tuple[Int, Int, Int]) -> None:
    """Blocks of 2×2 tiles of the output: registers 0 to 3 sum, 4 and 5 hold rows, 6 and 7 panels."""
    e = ctx.emitter
    ctx.uses_tiles = True
    swapped = p.form is Form.TILES_SWAPPED
    left, right = (b, a) if swapped else (a, b)
    left_offset, right_offset = (offsets[1], offsets[0]) if swapped else (offsets[0], offsets[1])
    extent, columns = (p.n, p.m) if swapped else (p.m, p.n)
    size = p.packed.bits // 8
    row, panel = left.strides[-2] * size, right.strides[-2] * size  # bytes
    left_at = e.offset(left.pointer, e.mul(left_offset, size))
    right_at = e.offset(right.pointer, e.mul(right_offset, size))
    multiply = "tdpbf16ps" if p.out.is_float else "tdpbssd"
    room = ctx.scratch(4 * _TILE_BYTES)

    def block(r0: Int, c0: Int, heights: list[int], widths: list[int]) -> None:
        """Tiles of rows from tile r0 on × panels from c0 on, with how many rows and columns of each there are."""
        sums = [(i, j, i * len(widths) + j) for i in range(len(heights)) for j in range(len(widths))]
        rows = [e.offset(left_at, e.mul(e.add(r0, i), ROWS * row)) for i in range(len(heights))]
        places = [e.offset(right_at, e.mul(e.add(c0, j), panel)) for j in range(len(widths))]
        for _, _, tile in sums:
            _call(e, "tilezero", "i8", f"i8 {tile}")
        ahead = 2 * ROWS // (-(-columns // (2 * PANEL)))  # rows of the next two tiles that each block asks for
        next_row = e.mul(e.add(e.mul(e.add(r0, 2), ROWS), e.mul(e.udiv(c0, 2), ahead)), row)

        def along(k: Int, _: list[Reg]) -> tuple[()]:
            if left.streamed and ahead <= _MOST_AHEAD:
                for i in range(ahead):
                    prefetch_line(
                        ctx, e.offset(left_at, e.add(e.add(next_row, i * row), e.mul(k, size)), inbounds=False)
                    )
            for i, at in enumerate(rows):
                _load(e, 4 + i, e.offset(at, e.mul(k, size)), row)
            for j, at in enumerate(places):
                _load(e, 6 + j, e.offset(at, e.mul(k, size * PANEL)), 4 * PANEL)
            for i, j, tile in sums:
                _call(e, multiply, "i8, i8, i8", f"i8 {tile}, i8 {4 + i}, i8 {6 + j}")
            return ()

        e.loop(0, p.k, k_step(ctx, p), (), along)
        for i, j, tile in sums:
            at_row, at_column = e.mul(e.add(r0, i), ROWS), e.mul(e.add(c0, j), PANEL)
            whole = heights[i] == ROWS and widths[j] == PANEL
            if p.fresh and whole and not swapped:
                _store(e, tile, _place(ctx, p, out, offsets[2], at_row, at_column), 4 * p.n)
                continue
            here = e.offset(room, tile * _TILE_BYTES)
            _store(e, tile, here, 4 * PANEL)
            lines = [e.load(e.offset(here, 64 * r), memory_type(p.out), PANEL, 64) for r in range(ROWS)]
            if swapped:
                for r, line in enumerate(transposed(ctx, lines)[: widths[j]]):
                    place = _place(ctx, p, out, offsets[2], e.add(at_column, r), at_row)
                    put_some(ctx, p, line, place, heights[i])
            else:
                for r, line in enumerate(lines[: heights[i]]):
                    put_some(ctx, p, line, _place(ctx, p, out, offsets[2], e.add(at_row, r), at_column), widths[j])

    for r_lower, r_upper, heights in panel_blocks(extent):

        def over_rows(r0: Int, _: list[Reg], heights: list[int] = heights) -> tuple[()]:
            for c_lower, c_upper, widths in panel_blocks(columns):

                def over_columns(c0: Int, _: list[Reg], widths: list[int] = widths) -> tuple[()]:
                    block(r0, c0, heights, widths)
                    return ()

                e.loop(c_lower, c_upper, len(widths), (), over_columns)
            return ()

        e.loop(r_lower, r_upper, len(heights), (), over_rows)


def _place(ctx: Context, p: Product, out: Buffer, offset: Int, m: Int, n: Int) -> Reg:
    """Where element (m, n) of the output is."""
    e = ctx.emitter
    return e.offset(out.pointer, e.mul(e.add(offset, e.add(e.mul(m, p.n), n)), 4))
