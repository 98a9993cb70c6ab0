"""Loops in two versions: one for tiles whose lanes are all active, where masks are dropped, and one for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from zellige.backends.cpu.context import Context, Index
from zellige.backends.cpu.emit import FALSE, TRUE, Int, Reg
from zellige.backends.cpu.plan import is_unit_reshape, shape_of, size_of
from zellige.ir import ops
from zellige.ir.dtypes import Kind
from zellige.ir.ops import BinaryOp, Value
from zellige.ir.walk import operands
from zellige.passes.intervals import WORD, decided

_WORTH_TWO_VERSIONS = 32  # elements of a tile


def inline_values(ctx: Context, roots: Iterable[Value]) -> list[Value]:
    """The values that evaluating `roots` computes on the way: roots, operands, theirs, up to scalars and buffers."""
    found: dict[Value, None] = {}
    todo = list(roots)
    while todo:
        value = todo.pop()
        if value in found:
            continue
        found[value] = None
        if value in ctx.scalars or value in ctx.buffers:
            continue
        op = ctx.definitions.get(value)
        if op is not None:
            todo.extend(operands(op))
    return list(found)


def step_lanes(ctx: Context, roots: Iterable[Value]) -> tuple[int, int]:
    """(lanes, period) of a loop that evaluates `roots`: lanes of a vector, two registers of f32 or at least 32 packed
    elements; and after how many elements the code of a step repeats, the longest block of a blocked type."""
    period = max((v.type.dtype.block for v in inline_values(ctx, roots)), default=1)
    return max(32, ctx.vector) if period > 1 else ctx.vector, period


def versioned(
    ctx: Context, roots: Sequence[Value], masks: Sequence[Value], emit: Callable[[], Sequence[Reg]]
) -> list[Reg]:
    """Emits loops over `roots`, twice if there are masks that a cheap test shows to be true in all lanes."""
    removable: dict[Value, Reg] = {}
    biggest = 0
    for value in inline_values(ctx, [*roots, *masks]):
        biggest = max(biggest, size_of(value))
        if value.type.dtype.is_bool and value not in ctx.assumed:
            condition = all_true(ctx, value)
            if condition is not None and condition != FALSE:
                removable[value] = condition
    used = _as_masks(ctx, [*roots, *masks], masks)
    chosen = {v: c for v, c in removable.items() if v in used}
    if not chosen or biggest < _WORTH_TWO_VERSIONS:
        return list(emit())
    together = TRUE
    for condition in chosen.values():
        together = ctx.emitter.both(together, condition)

    def fast() -> Sequence[Reg]:
        with ctx.assuming(set(chosen)):
            return emit()

    return ctx.emitter.if_else(together, fast, emit)


def _as_masks(ctx: Context, roots: Sequence[Value], masks: Sequence[Value]) -> set[Value]:
    """Bool tiles that guard a load or store, in any of the shapes they are broadcast to."""
    guards = set(masks)
    values = inline_values(ctx, roots)
    for value in values:
        op = ctx.definitions.get(value)
        if isinstance(op, ops.Load) and value not in ctx.buffers and value not in ctx.scalars:
            guards.update(op.masks)
    known = {_root(ctx, g) for g in guards}
    return guards | {v for v in values if v.type.dtype.is_bool and _root(ctx, v) in known}


def _root(ctx: Context, value: Value) -> Value:
    """What a value is a view of."""
    op = ctx.definitions.get(value)
    while isinstance(op, ops.Broadcast | ops.ExpandDims) and value not in ctx.buffers:
        value = op.x
        op = ctx.definitions.get(value)
    return value


def all_true(ctx: Context, value: Value) -> Reg | None:
    """A scalar that is true only if `value` is in every lane; None if there is no cheap one."""
    if value in ctx.scalars:
        scalar = ctx.scalars[value]
        return scalar if isinstance(scalar, Reg) else None
    if value in ctx.buffers:
        return None
    op = ctx.definitions.get(value)
    match op:
        case ops.Broadcast(x=x) | ops.ExpandDims(x=x):
            return all_true(ctx, x)
        case ops.Binary(op=BinaryOp.AND, x=x, y=y):
            a, b = all_true(ctx, x), all_true(ctx, y)
            return None if a is None or b is None else ctx.emitter.both(a, b)
        case ops.Binary(op=kind, x=x, y=y) if kind.is_comparison and x.type.dtype.kind is Kind.INDEX:
            if decided(kind, ctx.interval(x), ctx.interval(y)):
                return TRUE
            if kind in (BinaryOp.LT, BinaryOp.LE):
                return _ordered(ctx, kind, x, y)
            if kind in (BinaryOp.GT, BinaryOp.GE):
                return _ordered(ctx, BinaryOp.LT if kind is BinaryOp.GT else BinaryOp.LE, y, x)
    return None


def _ordered(ctx: Context, kind: BinaryOp, x: Value, y: Value) -> Reg | None:
    high, low = _bound(ctx, x, upper=True), _bound(ctx, y, upper=False)
    if high is None or low is None:
        return None
    return ctx.emitter.icmp("slt" if kind is BinaryOp.LT else "sle", high, low)


def _bound(ctx: Context, value: Value, *, upper: bool) -> Int | None:
    """The largest (or smallest) element of an index tile as a scalar, where it follows from the scalars it is made of.

    No lane need have it, so it may lie beyond 64 bits though all lanes fit: it is then the last number that does."""
    if value in ctx.scalars:
        scalar = ctx.scalars[value]
        return scalar.base if isinstance(scalar, Index) else None
    if value in ctx.buffers:
        return None
    e = ctx.emitter
    match ctx.definitions.get(value):
        case ops.Iota():
            return max(0, shape_of(value)[0] - 1) if upper else 0
        case ops.Broadcast(x=x) | ops.ExpandDims(x=x) | ops.Transpose(x=x):
            return _bound(ctx, x, upper=upper)
        case ops.Reshape(x=x, result=result) if is_unit_reshape(x, result):
            return _bound(ctx, x, upper=upper)
        case ops.Binary(op=BinaryOp.ADD, x=x, y=y):
            a, b = _bound(ctx, x, upper=upper), _bound(ctx, y, upper=upper)
            if a is None or b is None:
                return None
            return e.add(a, b) if (ctx.interval(x) + ctx.interval(y)).within(WORD) else e.saturated("sadd", a, b)
        case ops.Binary(op=BinaryOp.SUB, x=x, y=y):
            a, b = _bound(ctx, x, upper=upper), _bound(ctx, y, upper=not upper)
            if a is None or b is None:
                return None
            return e.sub(a, b) if (ctx.interval(x) - ctx.interval(y)).within(WORD) else e.saturated("ssub", a, b)
        case ops.Binary(op=BinaryOp.MUL, x=x, y=y):
            if min(ctx.interval(x).low, ctx.interval(y).low) < 0 or not (ctx.interval(x) * ctx.interval(y)).within(
                WORD
            ):
                return None
            a, b = _bound(ctx, x, upper=upper), _bound(ctx, y, upper=upper)
            return None if a is None or b is None else e.mul(a, b)
    return None
