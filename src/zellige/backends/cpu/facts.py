"""What is known about a specialised function before code is made: intervals of index values, and where memory is written."""

from __future__ import annotations

from dataclasses import dataclass

from zellige.ir import ops
from zellige.ir.dtypes import Kind
from zellige.ir.extent import Const, Dim, Extent, Nary, Quotient
from zellige.ir.ops import BinaryOp, Block, Function, Value
from zellige.ir.types import Contract, ContractKind
from zellige.ir.walk import walk

DIM_LIMIT = 2**31 - 1
"""Dims are below 2^31: a launch condition of every kernel."""


@dataclass(frozen=True, slots=True)
class Interval:
    """All numbers from `low` to `high`; None is unbounded."""

    low: int | None
    high: int | None

    def join(self, other: Interval) -> Interval:
        low = None if self.low is None or other.low is None else min(self.low, other.low)
        high = None if self.high is None or other.high is None else max(self.high, other.high)
        return Interval(low, high)

    @property
    def known(self) -> bool:
        return self.low is not None and self.high is not None


ANYTHING = Interval(None, None)


def extent_interval(extent: Extent) -> Interval:
    """What is known of an extent whose dims are in [0, 2^31)."""
    match extent:
        case Const(value):
            return Interval(value, value)
        case Dim():
            return Interval(0, DIM_LIMIT)
        case Nary(op, terms):
            parts = [extent_interval(t) for t in terms]
            if op == "add":
                return _total(parts)
            if op == "mul":
                result = parts[0]
                for part in parts[1:]:
                    result = _product(result, part)
                return result
            lows, highs = [p.low for p in parts], [p.high for p in parts]
            pick = min if op == "min" else max
            low = None if None in lows else pick(x for x in lows if x is not None)
            high = None if None in highs else pick(x for x in highs if x is not None)
            if op == "min" and high is None:
                known = [x for x in highs if x is not None]
                high = min(known) if known else None
            if op == "max" and low is None:
                known = [x for x in lows if x is not None]
                low = max(known) if known else None
            return Interval(low, high)
        case Quotient(op, left, right):
            a, b = extent_interval(left), extent_interval(right)
            if op == "mod":
                return Interval(0, None if b.high is None else b.high - 1)
            if a.low is not None and a.low >= 0 and b.low is not None and b.low > 0:
                add = b.low - 1 if op == "ceildiv" else 0
                return Interval(0, None if a.high is None else (a.high + add) // b.low)
    return ANYTHING


def _total(parts: list[Interval]) -> Interval:
    low = None if any(p.low is None for p in parts) else sum(p.low or 0 for p in parts)
    high = None if any(p.high is None for p in parts) else sum(p.high or 0 for p in parts)
    return Interval(low, high)


def _product(a: Interval, b: Interval) -> Interval:
    if a.low is not None and b.low is not None and a.low >= 0 and b.low >= 0:
        return Interval(a.low * b.low, None if a.high is None or b.high is None else a.high * b.high)
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return ANYTHING
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(min(corners), max(corners))


def contract_interval(contract: Contract) -> Interval:
    """The integers that a contract admits."""
    bound = extent_interval(contract.bound)
    low = -1 if contract.optional else 0
    above = contract.kind in (ContractKind.UP_TO, ContractKind.OFFSETS)
    return Interval(low, None if bound.high is None else bound.high - (0 if above else 1))


def intervals(function: Function) -> dict[Value, Interval]:
    """An interval that holds every lane of each index value, in every program; values without one are unbounded."""
    found: dict[Value, Interval] = {}

    def of(value: Value) -> Interval:
        return found.get(value, ANYTHING)

    def visit(block: Block) -> None:
        for op in block.ops:
            transfer(op)

    def transfer(op: ops.Op) -> None:
        match op:
            case ops.Constant(value=value, result=result) if result.type.dtype.kind is not Kind.FLOAT:
                found[result] = Interval(int(value), int(value))
            case ops.ExtentValue(extent=extent, result=result):
                found[result] = extent_interval(extent)
            case ops.ScalarValue(param=param, result=result):
                scalar = next(s for s in function.scalars if s.name == param)
                if scalar.contract is not None:
                    found[result] = contract_interval(scalar.contract)
            case ops.ProgramId(axis=axis, result=result):
                programs = extent_interval(function.grid[axis].programs)
                found[result] = Interval(0, None if programs.high is None else max(0, programs.high - 1))
            case ops.Iota(result=result):
                extent = extent_interval(result.type.shape[0])
                found[result] = Interval(0, None if extent.high is None else max(0, extent.high - 1))
            case ops.Binary(op=kind, x=x, y=y, result=result) if result.type.dtype.kind is Kind.INDEX:
                found[result] = _binary(kind, of(x), of(y))
            case ops.Select(x=x, y=y, result=result):
                found[result] = of(x).join(of(y))
            case ops.Cast(x=x, result=result) if result.type.dtype.kind is Kind.INDEX and x.type.dtype.is_integer:
                if x in found:
                    found[result] = of(x)
                elif x.type.dtype.kind is not Kind.INDEX:
                    found[result] = Interval(*x.type.dtype.integer_range())
            case ops.Broadcast(x=x, result=result) | ops.ExpandDims(x=x, result=result):
                found[result] = of(x)
            case ops.Reshape(x=x, result=result) | ops.Transpose(x=x, result=result):
                found[result] = of(x)
            case ops.Gather(x=x, result=result):
                found[result] = of(x)
            case ops.Reduce(op=ops.ReduceOp.MAX | ops.ReduceOp.MIN, x=x, result=result):
                found[result] = of(x)
            case ops.Reduce(op=ops.ReduceOp.ARGMAX | ops.ReduceOp.ARGMIN, x=x, axis=axis, result=result):
                extent = extent_interval(x.type.shape[axis])
                found[result] = Interval(0, None if extent.high is None else max(0, extent.high - 1))
            case ops.Segment(array=array, result=result):
                extent = extent_interval(function.array(array).shape[0])
                found[result] = Interval(0, None if extent.high is None else max(0, extent.high - 2))
            case ops.Load(array=array, pad=pad, masks=masks, result=result) if result.type.dtype.kind is Kind.INDEX:
                contract = function.array(array).contract
                if contract is not None:
                    found[result] = contract_interval(contract)
                    if masks:
                        found[result] = found[result].join(Interval(int(pad), int(pad)))
            case ops.For(lower=lower, upper=upper, step=step, body=body):
                first, last = of(lower), of(upper)
                if step > 0:
                    high = None if last.high is None else last.high - 1
                    if high is not None and first.low is not None:
                        high = max(high, first.low)
                    found[body.params[0]] = Interval(first.low, high)
                visit(body)
            case ops.While(condition=condition, body=body):
                visit(condition)
                visit(body)
            case ops.If(then=then, orelse=orelse):
                visit(then)
                visit(orelse)

    visit(function.body)
    return found


def _binary(op: BinaryOp, a: Interval, b: Interval) -> Interval:
    match op:
        case BinaryOp.ADD:
            return _total([a, b])
        case BinaryOp.SUB:
            negated = Interval(None if b.high is None else -b.high, None if b.low is None else -b.low)
            return _total([a, negated])
        case BinaryOp.MUL:
            return _product(a, b)
        case BinaryOp.FLOORDIV if b.low is not None and b.low > 0:
            if a.low is not None and a.low >= 0:
                return Interval(0 if b.high is None else a.low // b.high, None if a.high is None else a.high // b.low)
        case BinaryOp.MOD if b.low is not None and b.low > 0:
            high = None if b.high is None else b.high - 1
            if a.low is not None and a.low >= 0 and a.high is not None:
                high = a.high if high is None else min(high, a.high)
            return Interval(0, high)
        case BinaryOp.MIN:
            highs = [x for x in (a.high, b.high) if x is not None]
            low = None if a.low is None or b.low is None else min(a.low, b.low)
            return Interval(low, min(highs) if highs else None)
        case BinaryOp.MAX:
            lows = [x for x in (a.low, b.low) if x is not None]
            high = None if a.high is None or b.high is None else max(a.high, b.high)
            return Interval(max(lows) if lows else None, high)
    return ANYTHING


def decided(op: BinaryOp, a: Interval, b: Interval) -> bool | None:
    """The truth of a comparison if it is the same for all numbers of the two intervals."""

    def less(x: Interval, y: Interval) -> bool:
        return x.high is not None and y.low is not None and x.high < y.low

    def at_most(x: Interval, y: Interval) -> bool:
        return x.high is not None and y.low is not None and x.high <= y.low

    match op:
        case BinaryOp.LT:
            return True if less(a, b) else False if at_most(b, a) else None
        case BinaryOp.LE:
            return True if at_most(a, b) else False if less(b, a) else None
        case BinaryOp.GT:
            return decided(BinaryOp.LT, b, a)
        case BinaryOp.GE:
            return decided(BinaryOp.LE, b, a)
        case BinaryOp.EQ if less(a, b) or less(b, a):
            return False
        case BinaryOp.NE if less(a, b) or less(b, a):
            return True
    return None


def written_arrays(function: Function) -> frozenset[str]:
    """Names of the arrays that some operation writes."""
    return frozenset(op.array for op in walk(function.body) if isinstance(op, ops.Store | ops.Update))
