"""Folds what is known, drops masks that are always true, and removes operations that nothing needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from zellige.ir import dtypes, ops
from zellige.ir.ops import BinaryOp, Block, Function, Op, Value
from zellige.ir.types import TileType
from zellige.ir.walk import Rewriter, blocks, operands, results, specialise
from zellige.passes.bounds import bounds_of_values
from zellige.passes.intervals import Interval


def simplify(function: Function, dims: Mapping[str, int] | None = None) -> Function:
    """A function that means the same with fewer operations; with ``dims``, for these sizes only.

    Meant for functions that are proved safe: operations that could only fail (an unused load, say) may disappear."""
    if dims:
        function = specialise(function, dims)
    folded = replace(function, body=_Folder(bounds_of_values(function)).block(function.body))
    return replace(folded, body=without_dead_code(folded.body))


class _Folder(Rewriter):
    """Replaces values with one possible value by constants, and takes branches that are known."""

    def __init__(self, bounds: Mapping[Value, Interval]) -> None:
        super().__init__()
        self.bounds = bounds

    def op(self, old: Op) -> list[Op]:
        match old:
            case ops.Load() | ops.Store() | ops.Update():
                masks = tuple(m for m in old.masks if self.known(m) != 1)
                return [self.copy(replace(old, masks=masks))]
            case ops.Guard(condition=condition) if self.known(condition) == 1:
                return []
            case ops.Select(condition=condition, x=x, y=y, result=result) if (
                known := self.known(condition)
            ) is not None:
                self.mapping[result] = self.value(x if known else y)
                return []
            case ops.If(condition=condition) if (known := self.known(condition)) is not None:
                taken = old.then if known else old.orelse
                inlined = [new for inner in taken.ops for new in self.op(inner)]
                self.mapping.update((r, self.value(v)) for r, v in zip(old.results, taken.yields, strict=True))
                return inlined
            case ops.For(lower=lower, upper=upper) if self.is_empty(old, lower, upper):
                self.mapping.update((r, self.value(v)) for r, v in zip(old.results, old.init, strict=True))
                return []
            case ops.Broadcast(x=x, result=result) if x.type == result.type:
                self.mapping[result] = self.value(x)
                return []
            case ops.Binary() if self.identity(old):
                return []
        return self.folded(old) or [self.copy(old)]

    def known(self, value: Value) -> int | None:
        """The only value an integer or bool can have on every lane, or None."""
        bounds = self.bounds.get(value)
        return None if bounds is None else bounds.value

    def is_empty(self, loop: ops.For, lower: Value, upper: Value) -> bool:
        low, high = self.bounds.get(lower), self.bounds.get(upper)
        if low is None or high is None:
            return False
        return low.low >= high.high if loop.step > 0 else low.high <= high.low

    def identity(self, op: ops.Binary) -> bool:
        """Maps the result of x + 0, x · 1, x // 1 (integers) to x."""
        if not op.x.type.dtype.is_integer:
            return False
        neutral = {BinaryOp.ADD: 0, BinaryOp.SUB: 0, BinaryOp.MUL: 1, BinaryOp.FLOORDIV: 1}.get(op.op)
        if neutral is not None and self.known(op.y) == neutral:
            self.mapping[op.result] = self.value(op.x)
            return True
        if op.op in (BinaryOp.ADD, BinaryOp.MUL) and self.known(op.x) == neutral:
            self.mapping[op.result] = self.value(op.y)
            return True
        return False

    def folded(self, op: Op) -> list[Op] | None:
        """A pure operation with one known result as a constant, broadcast to its shape."""
        defined = results(op)
        pure = isinstance(op, ops.Binary | ops.Unary | ops.Cast | ops.ExtentValue | ops.Broadcast | ops.ProgramId)
        if not pure or len(defined) != 1:
            return None
        old, known = defined[0], self.known(defined[0])
        if known is None or not _holds(known, old):
            return None
        new = self.fresh(old)
        scalar = new if old.type.rank == 0 else Value(TileType(old.type.dtype))
        made: list[Op] = [
            ops.Constant(value=bool(known) if old.type.dtype.is_bool else known, result=scalar, span=op.span)
        ]
        if scalar is not new:
            made.append(ops.Broadcast(x=scalar, result=new, span=op.span))
        return made


def _holds(number: int, value: Value) -> bool:
    """Whether a value's element type has this number (an unreachable index may have any bounds)."""
    dtype = value.type.dtype
    if dtype is dtypes.index:
        return -(1 << 63) <= number < 1 << 63
    if dtype.is_bool:
        return number in (0, 1)
    low, high = dtype.integer_range()
    return low <= number <= high


def has_effect(op: Op) -> bool:
    """Whether an operation does more than define its results."""
    if isinstance(op, ops.Store | ops.Update | ops.Guard | ops.Require):
        return True
    return any(has_effect(inner) for block in blocks(op) for inner in block.ops)


def without_dead_code(block: Block, live: frozenset[Value] = frozenset()) -> Block:
    """A block without operations whose results nothing needs; ``live`` are the values needed outside it."""
    needed = set(live) | set(block.yields)
    kept: list[Op] = []
    for op in reversed(block.ops):
        if not has_effect(op) and not any(r in needed for r in results(op)):
            continue
        op = _with_blocks(op)
        needed.update(operands(op))
        for inner in blocks(op):
            needed.update(_free(inner))
        kept.append(op)
    return Block(block.params, kept[::-1], block.yields)


def _with_blocks(op: Op) -> Op:
    """An operation with dead code removed inside."""
    match op:
        case ops.For():
            return replace(op, body=without_dead_code(op.body))
        case ops.While():
            return replace(op, condition=without_dead_code(op.condition), body=without_dead_code(op.body))
        case ops.If():
            return replace(op, then=without_dead_code(op.then), orelse=without_dead_code(op.orelse))
    return op


def _free(block: Block) -> set[Value]:
    """Values that a block takes from around it (and some of its own: harmless to those who ask)."""
    found = set(block.yields)
    for op in block.ops:
        found.update(operands(op))
        for inner in blocks(op):
            found |= _free(inner)
    return found
