"""Matrix products of tiles: operands are packed into scratch memory, then a register-tiled micro-kernel runs over them.

Which form suits is decided here; operands.py packs, microkernels.py and tiles.py multiply.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from zellige.backends.cpu import byte_dot, microkernels
from zellige.backends.cpu.context import Buffer, Context
from zellige.backends.cpu.emit import Int, Reg
from zellige.backends.cpu.microkernels import PANEL, Form, Product
from zellige.backends.cpu.operands import contiguous_axis, pack_columns, pack_panels, pack_rows
from zellige.backends.cpu.plan import shape_of, shared_axes
from zellige.backends.cpu.tiles import tiles
from zellige.ir import dtypes, ops
from zellige.ir.ops import Value

_KERNELS = {
    Form.INNER: microkernels.inner,
    Form.BYTES: byte_dot.bytes_inner,
    Form.OUTER: microkernels.outer,
    Form.PANELS: microkernels.panels,
    Form.TILES: tiles,
    Form.TILES_SWAPPED: tiles,
}


def lower_dot(ctx: Context, op: ops.Dot, buffer: Buffer, start: Callable[[], None]) -> None:
    """acc + a·b into `buffer`; `start` writes acc there, after the operands have been read."""
    *batch, m, k = shape_of(op.a)
    n = shape_of(op.b)[-1]
    out = op.acc.type.dtype
    both_bf16 = op.a.type.dtype is dtypes.bf16 and op.b.type.dtype is dtypes.bf16
    pairs = both_bf16 and out is dtypes.f32 and ctx.target.bf16_dot
    bytes_ = byte_dot.suits(ctx, op)
    form = _form(ctx, op, m, n, k, pairs=pairs, bytes_=bytes_)
    packed = dtypes.i8 if bytes_ else dtypes.bf16 if pairs else out
    product = Product(m, n, k, packed, out, form, pairs, _is_zero(ctx, op.acc))
    match form:
        case Form.INNER | Form.BYTES:
            a, b = pack_rows(ctx, op.a, product, transpose=False), pack_rows(ctx, op.b, product, transpose=True)
            sizes = m * a.strides[-2], n * b.strides[-2]
        case Form.OUTER:
            a, b = pack_rows(ctx, op.a, product, transpose=False), pack_columns(ctx, op.b, product)
            sizes = m * a.strides[-2], k * n
        case Form.TILES_SWAPPED:
            a = pack_panels(ctx, op.a, product, transpose=True)
            b = pack_rows(ctx, op.b, product, transpose=True)
            sizes = _whole(m) // PANEL * a.strides[-2], _whole(n) * b.strides[-2]
        case Form.PANELS | Form.TILES:
            a = pack_rows(ctx, op.a, product, transpose=False)
            b = pack_panels(ctx, op.b, product, transpose=False)
            sizes = _whole(m) * a.strides[-2], _whole(n) // PANEL * b.strides[-2]
    if not product.fresh:
        start()
    e = ctx.emitter

    def batches(i: Int, _: list[Reg]) -> tuple[()]:
        _KERNELS[form](ctx, product, a, b, buffer, (e.mul(i, sizes[0]), e.mul(i, sizes[1]), e.mul(i, m * n)))
        return ()

    e.loop(0, math.prod(batch), 1, (), batches)


def _whole(extent: int) -> int:
    return -(-extent // PANEL) * PANEL


def _is_zero(ctx: Context, acc: Value) -> bool:
    """Whether an accumulator is the constant 0."""
    op = ctx.definitions.get(acc)
    while isinstance(op, ops.Broadcast | ops.ExpandDims):
        op = ctx.definitions.get(op.x)
    return isinstance(op, ops.Constant) and op.value == 0


_ROWS_WORTH_PANELS = 16
_ROWS_WORTH_TILES = 4


def _form(ctx: Context, op: ops.Dot, m: int, n: int, k: int, *, pairs: bool, bytes_: bool) -> Form:
    """The form that costs least: products are the same, so what counts is how often operands and results are transposed."""
    along_k = (bytes_ or op.acc.type.dtype is dtypes.f32) and contiguous_axis(ctx, op.b) == op.b.type.rank - 2 and k > 1
    if bytes_ and not (ctx.target.tiles and m >= _ROWS_WORTH_TILES):
        return Form.BYTES
    if not pairs and not bytes_:
        return Form.INNER if along_k and n > 0 else Form.OUTER
    if ctx.target.tiles:
        if not along_k:
            return Form.TILES
        times = [
            1.0 if shared_axes(ctx.function, ctx.definitions, x) is None else 1.0 / _PROGRAMS for x in (op.a, op.b)
        ]
        direct, swapped = n * k * times[1], m * k * times[0] + 2 * m * n
        return Form.TILES if direct < swapped else Form.TILES_SWAPPED
    if ctx.target.vector_bits < 512:  # a panel's width is one register of AVX-512
        return Form.INNER if along_k else Form.PANELS
    return Form.INNER if along_k and m < _ROWS_WORTH_PANELS else Form.PANELS


_PROGRAMS = 8.0
"""Consecutive programs that are assumed to share an operand, where they can."""
