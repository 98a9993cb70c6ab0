"""Stores that go past the caches: results so large that nothing of them is left there when somebody reads them.

An ordinary store first reads its line from memory, so that a result costs its bytes twice. Where whole lines are written in order,
x86 can do without (*non-temporal* stores); whoever reads the result then waits for memory, so it pays only for results
that the caches do not keep. Whether one is so large, and lies on lines, is known at run time: loops are made twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from zellige.backends.cpu.context import Context, Coordinate, Index, Lane, project
from zellige.backends.cpu.emit import FALSE, Int, Reg
from zellige.backends.cpu.expression import extent_int
from zellige.backends.cpu.plan import LONG_STORE, shape_of, size_of
from zellige.ir import ops
from zellige.ir.types import Role

_LINE = 64
_LARGE = 48 << 20
"""Bytes of an array from which on: on a server whose last cache has 480 MB (for all its guests), what was written and then read took
1.4 times as long with 32 MB, 0.6 times as long with 64 MB."""


def streams(ctx: Context, op: ops.Store, axis: int) -> Reg:
    """Whether a store along `axis` of its tile should go past the caches: FALSE, or a condition of run time."""
    e, array = ctx.emitter, ctx.arrays[op.array]
    declared = next(a for a in ctx.function.arrays if a.name == op.array)
    width = array.dtype.bits // 8
    if (
        ctx.target.arm or declared.role is not Role.OUT or size_of(op.value) < LONG_STORE or array.strides[-1] != 1
        or shape_of(op.value)[axis] * width < _LINE
    ):  # fmt: skip
        return FALSE
    last = op.index[-1]
    if math.prod(shape_of(last)) != shape_of(op.value)[axis]:
        return FALSE  # where a row begins depends on the row
    place: list[Coordinate] = [0] * op.value.type.rank
    place[axis] = Lane(0, 2, 0)
    along = ctx.index(last, project(last, tuple(place)))
    if not isinstance(along, Index) or along.stride != 1:
        return FALSE
    first, extent = array.strides[0], extent_int(ctx, declared.shape[0])
    large = e.icmp("sge", e.mul(e.mul(first, extent), width), _LARGE)
    return e.both(
        large, _on_lines(ctx, array.pointer, [*(e.mul(s, width) for s in array.strides[:-1]), e.mul(along.base, width)])
    )


def _on_lines(ctx: Context, pointer: Reg, distances: Sequence[Int]) -> Reg:
    """Whether an address and every sum of multiples of `distances` after it are the start of a line."""
    e = ctx.emitter
    bits: Reg = e.inst(f"ptrtoint {pointer} to i64", "i64")
    for distance in distances:
        if isinstance(distance, int) and distance % _LINE == 0:
            continue
        bits = e.op("or", bits, e.i64(distance))
    return e.icmp("eq", e.op("and", bits, Reg(str(_LINE - 1), "i64")), 0)


def fence(ctx: Context) -> list[str]:
    """What a function with such stores ends with: others see them only when they have left the processor."""
    ctx.emitter.declare("void @llvm.x86.sse.sfence()")
    return ["  call void @llvm.x86.sse.sfence()"]
