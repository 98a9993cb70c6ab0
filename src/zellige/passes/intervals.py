"""Bounds of integer values, for every lane, iteration and program, and which comparisons they decide.

Exact on what frontends produce once dims are known: ``pid·B + iota < M`` is decided when B divides M.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType, Kind
from zellige.ir.extent import Const, Dim, Extent, Nary, Quotient
from zellige.ir.ops import BinaryOp, Block, Function, ReduceOp, UnaryOp, Value
from zellige.ir.types import Contract, ContractKind
from zellige.ir.walk import results

DIM_END = 1 << 31
"""Every dim is below this (a launch condition)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The integers from ``low`` to ``high``; ends may be infinite. Empty ones do not occur: bounds of what never runs
    may be anything."""

    low: float
    high: float

    def join(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    @property
    def value(self) -> int | None:
        """The only integer in it, or None."""
        return int(self.low) if self.low == self.high and abs(self.low) != inf else None

    def within(self, other: Interval) -> bool:
        """Whether ``other`` holds all of it."""
        return other.low <= self.low and self.high <= other.high


ANY = Interval(-inf, inf)


def intervals(function: Function) -> dict[Value, Interval]:
    """Bounds of every integer value of a function; those of bools are 0 and 1, floats are left out."""
    analysis = _Analysis(function)
    analysis.block(function.body)
    return analysis.known


def of_dtype(dtype: DType) -> Interval:
    """What a value of this element type can be."""
    match dtype.kind:
        case Kind.BOOL:
            return Interval(0, 1)
        case Kind.SIGNED | Kind.UNSIGNED:
            return Interval(*dtype.integer_range())
    return ANY


def of_extent(extent: Extent) -> Interval:
    """Bounds of an extent, for all dims in [0, 2³¹)."""
    match extent:
        case Const(value):
            return Interval(value, value)
        case Dim():
            return Interval(0, DIM_END - 1)
        case Nary(op, terms):
            folded = of_extent(terms[0])
            for term in terms[1:]:
                folded = _NARY[op](folded, of_extent(term))
            return folded
        case Quotient("floordiv", a, b):
            return _floordiv(of_extent(a), of_extent(b))
        case Quotient("ceildiv", a, b):
            up = of_extent(a)
            return _floordiv(Interval(-up.high, -up.low), of_extent(b), negated=True)
        case Quotient("mod", a, b):
            return _mod(of_extent(a), of_extent(b))
    return ANY


def of_contract(contract: Contract) -> Interval:
    """Bounds of what an array with this contract holds."""
    high = of_extent(contract.bound).high
    reaches = contract.kind in (ContractKind.UP_TO, ContractKind.OFFSETS)
    return Interval(-1 if contract.optional else 0, high if reaches else high - 1)


def decided(op: BinaryOp, a: Interval, b: Interval) -> bool | None:
    """What a comparison gives for all values in the two intervals, or None if it varies."""
    match op:
        case BinaryOp.LT:
            return True if a.high < b.low else False if a.low >= b.high else None
        case BinaryOp.LE:
            return True if a.high <= b.low else False if a.low > b.high else None
        case BinaryOp.GT | BinaryOp.GE:
            return decided(BinaryOp.LT if op is BinaryOp.GT else BinaryOp.LE, b, a)
        case BinaryOp.EQ:
            if a.value is not None and a == b:
                return True
            return False if a.high < b.low or b.high < a.low else None
        case BinaryOp.NE:
            equal = decided(BinaryOp.EQ, a, b)
            return None if equal is None else not equal
    return None


# --- interval arithmetic


def _add(a: Interval, b: Interval) -> Interval:
    return Interval(a.low + b.low, a.high + b.high)


def _sub(a: Interval, b: Interval) -> Interval:
    return Interval(a.low - b.high, a.high - b.low)


def _mul(a: Interval, b: Interval) -> Interval:
    ends = [0 if 0 in (x, y) else x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(min(ends), max(ends))


def _floordiv(a: Interval, b: Interval, *, negated: bool = False) -> Interval:
    """a // b; with ``negated``, −(a // b), which rounds −a / b up."""
    if b.low < 1:
        return ANY
    ends = [_quotient(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(-max(ends), -min(ends)) if negated else Interval(min(ends), max(ends))


def _quotient(x: float, y: float) -> float:
    if abs(x) == inf:
        return x
    if y == inf:
        return 0 if x >= 0 else -1
    return int(x) // int(y)


def _mod(a: Interval, b: Interval) -> Interval:
    if b.low < 1:
        return ANY
    if a.low >= 0 and a.high < b.low:
        return a
    return Interval(0, min(b.high - 1, a.high) if a.low >= 0 else b.high - 1)


def _min(a: Interval, b: Interval) -> Interval:
    return Interval(min(a.low, b.low), min(a.high, b.high))


def _max(a: Interval, b: Interval) -> Interval:
    return Interval(max(a.low, b.low), max(a.high, b.high))


def _and(a: Interval, b: Interval) -> Interval:
    """Bits of both: at most the smaller of two numbers that are not negative."""
    if a.low >= 0 and b.low >= 0:
        return Interval(0, min(a.high, b.high))
    return Interval(0, b.high) if b.low >= 0 else Interval(0, a.high) if a.low >= 0 else ANY


_NARY = {"add": _add, "mul": _mul, "min": _min, "max": _max}
_BINARY = {
    BinaryOp.ADD: _add, BinaryOp.SUB: _sub, BinaryOp.MUL: _mul, BinaryOp.FLOORDIV: _floordiv, BinaryOp.MOD: _mod,
    BinaryOp.MIN: _min, BinaryOp.MAX: _max, BinaryOp.AND: _and,
}  # fmt: skip


class _Analysis:
    """One walk in program order; loop-carried values are as wide as their type."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.arrays = {a.name: a for a in function.arrays}
        self.scalars: Mapping[str, Contract | None] = {s.name: s.contract for s in function.scalars}
        self.known: dict[Value, Interval] = {}

    def of(self, value: Value) -> Interval:
        return self.known.get(value, of_dtype(value.type.dtype))

    def block(self, block: Block) -> None:
        for op in block.ops:
            match op:
                case ops.For():
                    lower, upper = self.of(op.lower), self.of(op.upper)
                    if op.step > 0:
                        self.known[op.body.params[0]] = Interval(lower.low, max(upper.high - 1, lower.low))
                    else:
                        self.known[op.body.params[0]] = Interval(min(upper.low + 1, lower.high), lower.high)
                    self.block(op.body)
                case ops.While():
                    self.block(op.condition)
                    self.block(op.body)
                case ops.If():
                    self.block(op.then)
                    self.block(op.orelse)
                    for result, x, y in zip(op.results, op.then.yields, op.orelse.yields, strict=True):
                        self.set(result, self.of(x).join(self.of(y)))
                case _:
                    for result in results(op):
                        self.set(result, self.transfer(op, result))

    def set(self, value: Value, interval: Interval) -> None:
        """Records bounds; fixed-width arithmetic that may wrap has only its type's bounds."""
        dtype = value.type.dtype
        if dtype.is_integer or dtype.is_bool:
            own = of_dtype(dtype)
            self.known[value] = interval if interval.within(own) else own

    def transfer(self, op: ops.Op, result: Value) -> Interval:
        """Bounds of an operation's result."""
        match op:
            case ops.Constant(value=value) if not result.type.dtype.is_float:
                return Interval(int(value), int(value))
            case ops.ExtentValue(extent=extent):
                return of_extent(extent)
            case ops.ScalarValue(param=param):
                contract = self.scalars[param]
                return of_contract(contract) if contract else ANY
            case ops.ProgramId(axis=axis):
                return Interval(0, max(of_extent(self.function.grid[axis].programs).high - 1, 0))
            case ops.Offsets(total=total):
                return Interval(0, max(self.of(total).high, 0))
            case ops.Iota() | ops.Sort():
                if result.type.dtype is not dtypes.index:
                    return ANY
                return Interval(0, max(of_extent(result.type.shape[-1]).high - 1, 0))
            case ops.Segment(array=name):
                return Interval(0, max(of_extent(self.arrays[name].shape[0]).high - 2, 0))
            case ops.Load(array=name, masks=masks, pad=pad):
                contract = self.arrays[name].contract
                if contract is None:
                    return ANY
                bounds = of_contract(contract)
                return bounds.join(Interval(pad, pad)) if masks else bounds
            case ops.Binary(op=operator, x=x, y=y):
                return self.binary(operator, x, y)
            case ops.Unary(op=UnaryOp.NEG, x=x):
                return Interval(-self.of(x).high, -self.of(x).low)
            case ops.Select(x=x, y=y):
                return self.of(x).join(self.of(y))
            case ops.Cast(x=x) if x.type.dtype.is_integer or x.type.dtype.is_bool:
                return self.of(x)
            case ops.Broadcast(x=x) | ops.ExpandDims(x=x) | ops.Reshape(x=x) | ops.Transpose(x=x) | ops.Gather(x=x):
                return self.of(x)
            case ops.Reduce(op=ReduceOp.ARGMAX | ReduceOp.ARGMIN, x=x, axis=axis):
                return Interval(0, max(of_extent(x.type.shape[axis]).high - 1, 0))
            case ops.Reduce(op=ReduceOp.MAX | ReduceOp.MIN, x=x, axis=axis):
                return self.of(x) if of_extent(x.type.shape[axis]).low > 0 else ANY
            case ops.Scan(op=ReduceOp.MAX | ReduceOp.MIN, x=x):
                return self.of(x)
            case ops.Reduce(op=ReduceOp.SUM, x=x, axis=axis):
                return _mul(self.of(x), of_extent(x.type.shape[axis]))
        return ANY

    def binary(self, op: BinaryOp, x: Value, y: Value) -> Interval:
        if not (x.type.dtype.is_integer or x.type.dtype.is_bool):
            return ANY
        a, b = self.of(x), self.of(y)
        if op.is_comparison:
            known = decided(op, a, b)
            return Interval(0, 1) if known is None else Interval(int(known), int(known))
        rule: Any = _BINARY.get(op)
        if op is BinaryOp.OR and x.type.dtype.is_bool:
            rule = _max
        return rule(a, b) if rule is not None else ANY
